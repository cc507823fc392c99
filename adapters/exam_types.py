"""What an exam is made of: the words that suites, measures, report, gate and loop share. Pure: no torch, no network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.registry_state import AdapterCard
from adapters.registry_state import RuleResult as RuleResult
from adapters.registry_state import Verdict as Verdict
from data.dataset import Row
from data.settings import Frozen, Settings

Arm = Literal["version", "against", "base"]  # who answers: the version, the one it is compared with, the base model
Better = Literal["higher", "lower", "neither"]
Messages = Sequence[Mapping[str, Any]]  # OpenAI's shape, without the version's own system prompt
Parts = NDArray[np.float64]  # [items, parts], or summed over drawn items: [draws, parts]


# --- what is asked ---


class Part(Frozen):
    """One entry of a suite: a measure, its data and its options."""

    measure: str  # a key of `adapters.measures.MEASURES`
    name: str = ""  # before the dot in its figures' names; empty: the measure's
    data: str | None = None  # a dataset's name (its test split is asked), or a JSONL file beside the suite
    limit: int = 200  # items at most, the first by a hash of their question
    options: dict[str, Any] = {}

    @property
    def prefix(self) -> str:
        return self.name or self.measure


class Suite(Frozen):
    """What a version is examined in."""

    name: str
    parts: tuple[Part, ...]


# --- what a measure may use, and what it gives ---


class Answer(Frozen):
    """One answer of an arm."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float  # from request to last byte, beside others
    finish_reason: str = "stop"
    # Where documents were looked into: the sentences that claim something, and those of them that the passages support.
    claims: int | None = None
    supported: int | None = None


class Room(Protocol):
    """What an exam offers to its measures. Answers and likelihoods are kept: to ask twice costs nothing."""

    arms: tuple[Arm, ...]  # who takes part, the version first
    seed: int
    settings: Settings  # of the home, such as its price table

    def card(self, arm: Arm) -> AdapterCard | None:
        """The card of an arm's version; none for the base model."""

    def rows(self, part: Part) -> list[Row]:
        """The held-out records of a part's dataset, at most `limit`; of another split with options.split."""

    def lines(self, part: Part) -> list[dict[str, Any]]:
        """The JSON objects of a part's JSONL file, at most `limit`. Raises `BrogueError`."""

    def answers(self, arm: Arm, prompts: Sequence[Messages], **sampling: Any) -> list[Answer]:
        """An arm's answers, in the prompts' order; greedy unless `sampling` (temperature, max_tokens, seed, …) says."""

    def likelihoods(self, arm: Arm, prompts: Sequence[Messages | None], texts: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each token of each text: as answer to the messages, or without any prompt."""

    def rewards(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float] | None:
        """The reward model's score of each answer, higher is better; none if the exam has no reward model."""

    def judge(self) -> AdapterCard | None:
        """The card of the reward model, if there is one."""

    def say(self, text: str) -> None:
        """A line for the person who waits."""


class Item(NamedTuple):
    """One thing that was asked, for the report."""

    prompt: str
    answers: Mapping[Arm, str] = {}
    slice: str | None = None  # a topic, label, group or language; figures are also given by slice
    group: str | None = None  # items of one group are drawn together when intervals are made


def mean(sums: Parts) -> NDArray[np.float64]:
    """The first part over the second: a mean where the parts are (score, 1)."""
    found: NDArray[np.float64] = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
    return found


class Scores(NamedTuple):
    """One figure of a measure, as parts that add up over items, so that any resample can be evaluated.

    `parts[arm]` has a row for each item; `value` makes figures of summed rows. A share or a mean has the parts
    (score, 1) and the default `value`; macro-F1 or BLEU have their counts as parts.
    """

    name: str  # with its prefix: "task.exact_match"
    unit: str  # "share", "nats", "tokens", "seconds", "points"
    better: Better
    parts: Mapping[Arm, Parts]
    items: Sequence[Item]
    value: Callable[[Parts], NDArray[np.float64]] = mean
    note: str = ""
    decides: bool = True  # false: stated, but no rule may rest on it (the note says why)


Measure = Callable[[Room, Part], list[Scores]]  # raises `BrogueError` where its data does not fit


# --- what is found ---


class Interval(Frozen):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class Measured(Frozen):
    """One figure of all arms."""

    name: str
    unit: str
    better: Better
    n: int  # items that it rests on
    arms: dict[Arm, Interval]
    over: dict[Arm, Interval] = {}  # the version less "against" or "base", paired; as measured, not turned
    slices: dict[str, dict[Arm, Interval]] = {}
    note: str = ""
    decides: bool = True


class Moved(Frozen):
    """A prompt whose answers differ in what they score."""

    measure: str
    prompt: str
    answers: dict[Arm, str]
    scores: dict[Arm, float]


class Exam(Frozen):
    """A whole exam, as it stands in `<home>/exams/<id>/exam.json`."""

    id: str
    adapter: str
    names: dict[Arm, str]  # "acme@2", "acme@1", "base"
    suite: Suite
    created: str  # ISO, UTC
    minutes: float
    seed: int
    judge: str | None  # the reward model, `name@n`
    measures: tuple[Measured, ...]
    better: tuple[Moved, ...]  # the prompts that moved most for the better against the arm before it, at most ten
    worse: tuple[Moved, ...]
    left_out: tuple[str, ...] = ()  # what was not measured, and why
    verdict: Verdict | None = None
