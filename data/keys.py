"""API keys and what each may do. data/store_keys.py keeps them."""

import re
from datetime import datetime, timedelta
from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from data.errors import BrogueError, one_line
from data.frozen import Frozen
from data.users import Role

PREFIX = "brg-"  # what every key begins with: people and scanners for leaked secrets know it by that
KEY_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
OWNER = "key:"  # before a key's name, where it stands for who asks; no user's name has a colon
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
MOST = 1_000_000_000  # of anything that a limit counts


class KeyRules(Frozen):
    """What a key is limited to; none: no limit."""

    assistants: tuple[str, ...] = Field((), description="the models that it may name; none: all")
    rpm: int | None = Field(None, ge=1, le=MOST, description="requests a minute")
    rpd: int | None = Field(None, ge=1, le=MOST, description="requests a day, in UTC")
    tpm: int | None = Field(None, ge=1, le=MOST, description="tokens a minute, of prompts and answers")
    tpd: int | None = Field(None, ge=1, le=MOST, description="tokens a day, in UTC")
    concurrency: int | None = Field(None, ge=1, le=MOST, description="answers at the same time")

    @property
    def words(self) -> str:
        """The limits in short, such as '60 rpm, 2 at once'."""
        said = [f"{value:,} {name}" for name in ("rpm", "rpd", "tpm", "tpd") if (value := getattr(self, name))]
        return ", ".join([*said, *([f"{self.concurrency} at once"] if self.concurrency else [])])


class Key(Frozen):
    """An API key without the secret itself."""

    name: str
    role: Role
    hint: str = Field(description="its first and last letters")
    rules: KeyRules
    created: AwareDatetime
    expires: AwareDatetime | None
    revoked: AwareDatetime | None

    @property
    def owner(self) -> str:
        """Whom it stands for."""
        return f"{OWNER}{self.name}"

    def state_at(self, at: datetime) -> str:
        """active, revoked or expired."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= at else "active"


class NewKey(Frozen):
    """A key to be made."""

    name: str = Field(pattern=KEY_NAME, description="lower-case letters, digits and . _ -; never used again")
    role: Role = "user"
    rules: KeyRules = KeyRules()
    expires: AwareDatetime | None = Field(None, description="from then on it is refused; none: never")

    @model_validator(mode="after")
    def _admins_use_all(self) -> Self:
        if self.role == "admin" and self.rules.assistants:
            raise ValueError("a key of an admin may use every assistant; leave 'assistants' out, or give a lower role")
        return self


class Usage(Frozen):
    """What a key has used today (UTC)."""

    requests: int = 0
    tokens: int = 0


def lifetime(text: str) -> timedelta:
    """How long a key is to live: '90d', '12h', '8w'. Raises `BrogueError`."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text.strip().lower())
    if found is None:
        raise BrogueError(f"--expires wants hours, days or weeks, such as 12h, 90d or 8w; found '{one_line(text, 40)}'")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
