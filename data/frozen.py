"""The base class of settings and cards, and the one word that both sorts of models are named by in settings."""

from pydantic import BaseModel, ConfigDict

STARTER_MODEL = "starter"


class Frozen(BaseModel):
    """Base of the settings and cards: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
