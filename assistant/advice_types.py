"""What the advisor's parts share: the task, the ways to do it (arms), and what is measured of them. Pure: no torch.

An arm that can be asked is an assistant's definition: prompt, examples, knowledge, adapter, specialist. The advisor
asks it as a client would, and `brogue advise apply` writes the winner's definition under a name of its own.
"""

from typing import Any, Literal, NamedTuple

from adapters.exam_types import Answer as Answer
from adapters.exam_types import Better, Interval, Measured
from assistant.definitions import Assistant
from data.dataset import Row
from data.settings import Frozen

Family = Literal["prompt", "few-shot", "rag", "fine-tuned", "specialist", "other base"]
TaskKind = Literal["labels", "tags", "words", "pairs"]  # of texts, of words; answers in words; which answer is better


class Task(Frozen):
    """What a dataset's records ask for, and how an answer is held to be right."""

    dataset: str
    digest: str  # of the dataset
    kind: TaskKind
    metric: str  # the figure that decides, as the measure `task` (or `preference`) names it: "accuracy", "rouge_l", …
    better: Better = "higher"
    labels: tuple[str, ...] = ()  # labels, tags: all that are known, sorted
    answer_schema: dict[str, Any] | None = None  # words: answers are JSON objects of this schema
    system_prompt: str | None = None  # what every arm is told, as the assistant is served
    max_tokens: int = 256  # of an answer
    floor: float = 0.0  # what the metric gives without looking at the question: the commonest label, a constant answer


class Records(NamedTuple):
    """The task's records. Arms learn from `train`, choose on `validation`; `test` is asked once, at the end."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


class Arm(Frozen):
    """One way to do the task."""

    name: str  # "few-shot-nearest"
    family: Family
    title: str  # for a person who is no engineer: "the five nearest examples in the prompt"
    needs: tuple[str, ...] = ()  # arms that have to be ready before: lora+rag wants sft-lora
    slow: bool = False  # a small model that takes minutes to make: it is tried in rounds, as trained weights are
    learns: bool = False  # whether it changes with the number of training rows, so that it has a learning curve
    upkeep: int = 0  # 0 a prompt, 1 examples, 2 records or documents in step, 3 trained weights, 4 another base model
    constrained: bool = False  # its answers are held to the labels or the schema


class Ready(Frozen):
    """An arm that can be asked, made of so many training rows."""

    arm: str
    rows: int
    definition: Assistant  # its name is the one that the gateway knows it by
    minutes: float = 0.0  # to make it: training, indexing, choosing the instruction
    trained: int = 0  # numbers that were trained
    bytes: int = 0  # on disk, beside the base model: weights, index, examples
    notes: tuple[str, ...] = ()  # such as which instruction was chosen, on what evidence
    base_model: str | None = None  # another base model than this home's; its gateway is started for it


class Wrong(Frozen):
    """An answer that was not right."""

    question: str
    wanted: str
    given: str
    score: float


class Confusion(Frozen):
    """How often one label was given for another."""

    wanted: str
    given: str
    times: int


class Point(Frozen):
    """A point of a learning curve, on the validation records."""

    rows: int
    found: Interval
    minutes: float


class Figures(Frozen):
    """What was measured of an arm on some records."""

    n: int
    main: Interval  # the task's metric
    parts: tuple[tuple[float, ...], ...]  # its parts of each record (see `Scores`), in the records' order: for pairing
    groups: tuple[str, ...] = ()  # of each record: those of one are drawn together (`Item.group`); empty: each its own
    by_chance: float | None = None  # the metric when its answers are dealt out to other records: a label permutation
    measures: tuple[Measured, ...]  # all figures, of the arm "version"; slices are labels
    prompt_tokens: float  # of a question, on average
    answer_tokens: float
    seconds_p50: float  # of an answer, beside others
    seconds_p95: float
    wrong: tuple[Wrong, ...] = ()  # ten at most, the worst first
    confusions: tuple[Confusion, ...] = ()  # the commonest first


class Result(Frozen):
    """An arm, and how far it came."""

    arm: Arm
    state: Literal["measured", "stopped", "left out", "failed"]  # stopped: it could not win any more
    why: str = ""  # of the last three
    ready: Ready | None = None
    test: Figures | None = None
    consistency: Interval | None = None  # share of questions whose answer stays the same when asked again
    price_per_1000: float | None = None  # answers; none: without prices in brogue.toml
    memory: int | None = None  # bytes that serving it takes beside the base model
    curve: tuple[Point, ...] = ()


class Comparison(Frozen):
    """An arm less the best one, on the same test records."""

    arm: str
    difference: Interval  # as the metric is measured
    p: float  # two-sided, of a paired bootstrap
    p_holm: float  # corrected for all comparisons
    worse: bool  # significantly


class Growth(Frozen):
    """What more data would bring an arm, from its learning curve."""

    arm: str
    rows: int
    twice: Interval  # the gain at twice the rows, with its uncertainty
    told: str  # in words


class Recommendation(Frozen):
    """The verdict, by the rules in docs/advisor.md."""

    result: Literal["use", "nothing works", "not enough evidence"]
    arm: str | None  # what to use; with too little evidence: the cheapest of those that may be best
    best: str | None  # the highest figure
    fine_tune: Literal["worth it", "not worth it", "cannot be told"]
    words: tuple[str, ...]  # the recommendation, a sentence each
    changes: tuple[str, ...]  # what would change it
    comparisons: tuple[Comparison, ...]
    growth: tuple[Growth, ...] = ()
    needed: int | None = None  # test records that would tell the arms apart, where these do not


class Advice(Frozen):
    """The whole, as it stands in `<home>/advice/<id>/advice.json`."""

    id: str
    task: Task
    counts: dict[str, int]  # records by split, as they were used
    budget_minutes: float
    target: float | None  # of the task's metric
    seed: int
    created: str  # ISO, UTC
    minutes: float
    results: tuple[Result, ...]  # in the order in which they were tried
    recommendation: Recommendation
    base_model: str
    left_out: tuple[str, ...] = ()  # what was not tried, and why
