"""What the store keeps: a response, and what people said of responses (rating, comparison, ranking, correction).

A judgement names the responses it is about in the order in which they were shown, the first on the left or on top.
Ties are allowed in comparisons and rankings. Whether somebody may judge a response is the gateway's to decide.
"""

import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter, model_validator

from data.settings import Frozen, Logging
from data.store_text import storable

JudgementKind = Literal["rating", "comparison", "ranking", "correction"]

# What a thumb can be for or against: the page's list. Other labels of the same form are kept as they come.
REASONS: dict[Literal["up", "down"], tuple[str, ...]] = {
    "up": ("helpful", "right tone", "complete"),
    "down": ("wrong", "not in our voice", "too long", "too short", "unsafe", "wrong-source",
             "right-source-wrong-answer"),
}  # fmt: skip

# The header of a question of an exam, with the version that is to answer it: an answer that nobody can judge.
EXAM_HEADER = "x-brogue-exam"
MAX_COMMENT = 10_000  # characters; the store refuses longer ones
MAX_CORRECTION = 200_000
KEY = r"^[^\x00-\x1f\x7f]{1,200}$"
Key = Annotated[str, Field(pattern=KEY)]
Words = Annotated[str, BeforeValidator(lambda text: storable(text) if isinstance(text, str) else text)]
Reason = Annotated[str, Field(pattern=r"^[a-z][a-z _-]{0,39}$")]  # a label from the page's list, not free text


def now() -> datetime:
    return datetime.now(UTC)


def as_key(text: str) -> str:
    """`text` if it can be a key of ours, else one that stands for it: a client may call a person anything."""
    text = storable(text)
    return (
        text if re.fullmatch(KEY, text) and "\n" not in text else f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"
    )


class PassageRef(Frozen):
    """A passage that the answer was given."""

    id: str
    source: str
    text: Words = ""


class Response(Frozen):
    """One logged answer. In mode `off` its messages, text and passages are empty."""

    id: Key
    version: str  # such as "acme-support@3", or "base"
    messages: tuple[dict[str, Any], ...] = ()  # OpenAI's shape
    text: Words = ""
    assistant: str | None = None
    subject: Key | None = None  # whose words the messages are; also where they were asked again for a comparison
    conversation: Key | None = None
    topic: Key | None = None  # what it is about, as far as the client or the raters' queue said
    passages: tuple[PassageRef, ...] = ()
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    seconds: float = Field(0, ge=0)  # until the last byte
    logging: Logging = "full"  # what was kept of it: the store sets it, or "off" if its words are not to be kept
    created: AwareDatetime = Field(default_factory=now)


class _Said(Frozen):
    """What all judgements have in common."""

    id: Key = Field(default_factory=lambda: f"judgement-{uuid.uuid4().hex}")  # the same one again is not a second one
    rater: Key
    seconds: float | None = Field(None, ge=0, description="how long the rater took")
    reasons: tuple[Reason, ...] = Field((), max_length=20)
    comment: Words = ""


class Rating(_Said):
    """A thumb."""

    kind: Literal["rating"] = "rating"
    response: Key
    thumb: Literal["up", "down"]

    @property
    def shown(self) -> tuple[str, ...]:
        return (self.response,)


class Comparison(_Said):
    """Two answers side by side."""

    kind: Literal["comparison"] = "comparison"
    shown: tuple[Key, Key]
    verdict: Literal["first", "second", "tie", "both-bad"]  # by the position shown

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_distinct(self.shown)
        return self


class Ranking(_Said):
    """Several answers put in order; `ranks` go with `shown`: 0 is best, equal ranks are a tie."""

    kind: Literal["ranking"] = "ranking"
    shown: tuple[Key, ...] = Field(min_length=2, max_length=20)
    ranks: tuple[int, ...]
    all_bad: bool = False  # none of them should have been given

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_distinct(self.shown)
        if len(self.ranks) != len(self.shown):
            raise ValueError(f"{len(self.shown)} answers, but {len(self.ranks)} ranks")
        if set(self.ranks) != set(range(len(set(self.ranks)))):
            raise ValueError(f"ranks are {list(self.ranks)}, wanted 0 for the best and no gaps")
        return self


class Correction(_Said):
    """The answer as it should have been."""

    kind: Literal["correction"] = "correction"
    response: Key
    text: Words = Field(min_length=1)

    @property
    def shown(self) -> tuple[str, ...]:
        return (self.response,)


AnyJudgement = Rating | Comparison | Ranking | Correction
Judgement = Annotated[AnyJudgement, Field(discriminator="kind")]
JUDGEMENT: TypeAdapter[AnyJudgement] = TypeAdapter(Judgement)


class StoredJudgement(Frozen):
    """A judgement as the store keeps it, with the versions that it is about."""

    judgement: Judgement
    versions: tuple[str, ...]  # in the order shown
    assistants: tuple[str | None, ...]
    topics: tuple[str | None, ...] = ()
    created: AwareDatetime
    taken_back: AwareDatetime | None = None


class Wanted(Frozen):
    """Which responses or judgements to list; whatever is given must be met. A judgement meets what any of its
    responses meets; it is a subject's if they gave it or if it is about an answer to them."""

    response: str | None = None
    version: str | None = None
    assistant: str | None = None
    subject: str | None = None
    conversation: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None  # not included
    kind: JudgementKind | None = None  # judgements only
    rater: str | None = None  # judgements only
    taken_back: bool = False  # judgements only: those that were taken back too
    limit: int | None = Field(None, ge=1)


class Removed(Frozen):
    """How much was removed that concerned one version; a judgement counts for each version it compared."""

    responses: int = 0
    judgements: int = 0


class Forgotten(Frozen):
    """What `forget` removes: the ids, by which datasets can be searched, and the counts by version."""

    responses: tuple[str, ...]
    judgements: tuple[str, ...]
    corrected: tuple[str, ...]  # responses to others, whose correction the person wrote
    by_version: dict[str, Removed]
    turns: int = 0  # in raters' queues
    tasks: int = 0  # of such queues, with the person's words
    stored: int = 0  # answers of /v1/responses that wait for a next request
    user: bool = False  # whether they could sign in


def _check_distinct(shown: tuple[str, ...]) -> None:
    if len(set(shown)) < len(shown):
        twice = min(response for response in shown if shown.count(response) > 1)
        raise ValueError(f"response '{twice}' is named twice")
