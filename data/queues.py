"""What the raters' queues are made of: arms to compare, prompts, what is left to do, and the turn that one rater sees.

A queue holds tasks (a prompt that all arms answer once); a rater's turn at a task shows its answers blind and in an
order of its own. Pure models; data/store_queues.py keeps them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from data.home import NAME_PATTERN
from data.judgements import Key, Reason, Words
from data.settings import Frozen

MAX_TASKS = 5_000  # of one queue
Messages = tuple[dict[str, Any], ...]  # OpenAI's shape
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Verdict = Literal["first", "second", "tie", "both-bad"]  # by the position shown


class Arm(Frozen):
    """One of the sources of answers that are compared: anything that /v1/models names, and how it is asked."""

    model: str = Field(min_length=1, max_length=200, description="an assistant, a version, or the base")
    temperature: float | None = Field(None, ge=0, le=2, description="the model's own without it")
    max_tokens: int | None = Field(None, ge=1, description="the model's own without it")


class Prompt(Frozen):
    """A conversation that ends with the user, for all arms to answer."""

    messages: Messages = Field(min_length=1, max_length=200)
    topic: Key | None = Field(None, description="what it is about, such as returns; leaderboards can go by it")
    subject: Key | None = Field(None, description="whose words they are: answers carry it, and forget finds them by it")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.messages[-1].get("role") != "user" or not self.messages[-1].get("content"):
            raise ValueError("a prompt's last message is the user's and not empty")
        return self


class FromDataset(Frozen):
    """Prompts from the questions of a dataset, each once."""

    name: Name
    split: Literal["train", "validation", "test"] | None = None
    limit: int = Field(100, ge=1, le=MAX_TASKS)


class FromTraffic(Frozen):
    """Prompts from what people asked an assistant, the newest first, each once."""

    assistant: str
    since: AwareDatetime | None = None
    limit: int = Field(100, ge=1, le=MAX_TASKS)


class QueueRules(Frozen):
    """What a queue is called, what it compares, and how many people say what they think of one prompt."""

    name: Name
    arms: tuple[Arm, ...] = Field(min_length=2, max_length=6)
    overlap: float = Field(0.2, ge=0, le=1, description="the share of tasks that go to several raters")
    raters: int = Field(2, ge=2, le=20, description="how many those go to")
    repeat: float = Field(0.1, ge=0, le=1, description="the share that come back to the same rater once, later")


class NewQueue(QueueRules):
    """A queue to be made; the prompts are typed, from a dataset, or from live traffic: one of the three."""

    prompts: tuple[Prompt, ...] | None = Field(None, min_length=1, max_length=MAX_TASKS)
    dataset: FromDataset | None = None
    traffic: FromTraffic | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("prompts", "dataset", "traffic") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"wanted one of prompts, dataset and traffic; found {' and '.join(given) or 'none'}")
        return self


class Queue(QueueRules):
    """A queue and how far it is. Its arms are not for raters' eyes."""

    created: AwareDatetime
    tasks: int
    done: int  # tasks that as many raters as wanted have judged
    open: int  # the others
    by_rater: dict[str, int] = {}  # turns judged, repeats too


class Slot(Frozen):
    """An arm's place in a turn."""

    position: int  # as shown: 0 is left, or on top
    number: int  # the arm's in the queue
    arm: Arm
    response_id: str | None  # its answer, once there is one


class Task(Frozen):
    """What the gateway has to know to have a turn's prompt answered; not for raters' eyes."""

    id: str
    queue: str
    messages: Messages
    topic: str | None
    subject: str | None
    slots: tuple[Slot, ...]  # by position


class Shown(Frozen):
    """One of the answers of a turn."""

    position: int
    response_id: str | None = None  # none: not generated yet
    text: str | None = None


class Turn(Frozen):
    """What a rater is shown: nothing in it tells which arm wrote what."""

    id: str
    queue: str
    kind: Literal["comparison", "ranking"]  # of two answers, or of more
    messages: Messages
    answers: tuple[Shown, ...]  # by position


class Said(Frozen):
    """What a rater says of a turn: `ranks` by position (0 is best, ties equal), or of two answers a `verdict`."""

    ranks: tuple[int, ...] | None = None
    verdict: Verdict | None = None
    all_bad: bool = Field(False, description="none of them should have been given")
    reasons: tuple[Reason, ...] = Field((), max_length=20)
    comment: Words = ""
    seconds: float | None = Field(None, ge=0, description="how long the rater took")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.ranks is None) == (self.verdict is None):
            raise ValueError(f"wanted either ranks or a verdict; found {'none' if self.ranks is None else 'both'}")
        return self


class Progress(Frozen):
    """How far a rater is in a queue."""

    done: int  # turns judged or skipped
    of: int  # those, and what there is to do for this rater at present
    seconds_left: float | None = None  # by this rater's own pace; none until there is one
