"""What a dataset asks for, and its records as the advisor uses them. Pure: no torch, no network.

The figure that decides follows from the records' kind and their answers (docs/advisor.md); all of it is reckoned from
train and validation, so that nothing about the test records is known before they are asked.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from adapters.measure_task import words
from adapters.recipes import labelled_answer
from adapters.recipes import labels as labels_of
from assistant.advice_floor import floor
from assistant.advice_schema import schema_of
from assistant.advice_types import Records, Task, TaskKind
from data.dataset import DatasetCard, Row, load_card, load_rows
from data.duplicates import words as same_words
from data.errors import BrogueError, DataError
from data.exporting_shapes import pairs
from data.home import Home
from data.records import (
    SPLITS,
    LabelledRecord,
    PreferenceRecord,
    RankingRecord,
    Split,
    answer,
    hash_of,
    question,
    question_key,
)

FEWEST: dict[Split, int] = {"train": 20, "validation": 5, "test": 10}  # records; fewer say nothing at all
HELD = 0.1  # of train is validation where the dataset has none
METRICS: dict[TaskKind, tuple[str, ...]] = {  # that may decide: all of them add up over records
    "labels": ("accuracy",),
    "tags": ("entity_f1", "accuracy"),
    "words": ("rouge_l", "token_f1", "exact_match", "field_f1"),
    "pairs": ("likelihood",),
}
SHORT = 10  # words: answers of which nine in ten are no longer are compared word by word
FIXED = 20  # different answers at most are a list to choose from, if each is given five times on average
LEAST_TOKENS, MOST_TOKENS = 16, 1024
PAIRS_TOKENS = 256  # their answers are only asked for what they cost
BYTES_A_TOKEN = 3  # few enough for every script: a Chinese character has three
PARTED = 2  # the same of labels and tags, which no tokenizer was made for


def read_task(home: Home, dataset: str, *, metric: str | None = None) -> Task:
    """What dataset `dataset` asks for. Raises `BrogueError`: no such dataset or metric, a kind without right answers,
    too few records."""
    card = load_card(home, dataset)
    rows = load_rows(home, dataset)
    kind = _kind(card, rows)
    labels = labels_of(rows)
    if kind in ("labels", "tags") and len(labels) < 2:
        raise DataError(f"dataset '{dataset}' has one label only, '{labels[0]}': there is nothing to tell apart")
    split = _records(card, rows)
    known = [*split.train, *split.validation]
    schema = schema_of([answer(row.record) for row in known]) if kind == "words" else None
    chosen = _metric(card, kind, known, schema is not None, metric)
    return Task(
        dataset=dataset,
        digest=card.digest,
        kind=kind,
        metric=chosen,
        labels=labels,
        answer_schema=schema,
        max_tokens=_most_tokens(kind, rows if kind == "tags" else known),
        floor=floor(kind, chosen, known, split.test),
    )


def read_records(home: Home, task: Task, *, limit: int | None) -> Records:
    """The task's records, each split in the order of a hash of the question: the first n are a sample of n.

    `limit`: of test and of validation at most; these are the first that `brogue exam` would ask, too. Without a
    validation split a tenth of train is set aside. A question of test is in no other split.
    """
    found = _records(load_card(home, task.dataset), load_rows(home, task.dataset))
    if limit is not None and limit < FEWEST["test"]:
        raise BrogueError(f"{limit} test records tell nothing; wanted at least {FEWEST['test']}: --limit N")
    return Records(found.train, found.validation[:limit], found.test[:limit])


def rendered(row: Row) -> str:
    """The answer that is wanted, as a model writes it: of words with tags, one of each a line."""
    return labelled_answer(row.record) if isinstance(row.record, LabelledRecord) else answer(row.record)


# --- what is asked for ---


def _kind(card: DatasetCard, rows: Sequence[Row]) -> TaskKind:
    records = [row.record for row in rows]
    if card.kind == "rated":
        raise DataError(
            f"dataset '{card.name}' holds rated answers, which say of no question what is right; the advisor wants "
            "labelled, instruction, chat, preference or ranking records: brogue data list"
        )
    if isinstance(records[0], LabelledRecord):
        tagged = {isinstance(one, LabelledRecord) and one.tokens is not None for one in records}
        if len(tagged) > 1:
            raise DataError(f"dataset '{card.name}' mixes texts with a label and words with tags; import them apart")
        return "tags" if tagged.pop() else "labels"
    return "pairs" if isinstance(records[0], PreferenceRecord | RankingRecord) else "words"


def _metric(card: DatasetCard, kind: TaskKind, rows: Sequence[Row], objects: bool, asked: str | None) -> str:
    able = [name for name in METRICS[kind] if name != "field_f1" or objects]
    if kind == "tags" and not any(label.startswith("B-") for label in labels_of(rows)):
        able = ["accuracy"]  # entities are marked by B-
    if asked is not None:
        if asked not in able:
            raise BrogueError(
                f"'{asked}' cannot decide on {card.name}; wanted one of: {', '.join(able)}. See docs/advisor.md"
            )
        return asked
    return _of_words(rows, objects) if kind == "words" else able[0]


def _of_words(rows: Sequence[Row], objects: bool) -> str:
    """By how the answers are."""
    answers = [answer(row.record) for row in rows]
    different = len(Counter(" ".join(words(text)) for text in answers))
    if objects:
        return "field_f1"
    if different <= FIXED and different * 5 <= len(answers):
        return "exact_match"
    lengths = sorted(len(words(text)) for text in answers)
    return "token_f1" if lengths[int(0.9 * (len(lengths) - 1))] <= SHORT else "rouge_l"


def _most_tokens(kind: TaskKind, rows: Sequence[Row]) -> int:
    """What nearly every wanted answer fits in; of labels and tags all of them."""
    sizes = sorted(
        len(rendered(row).encode()) / (PARTED if kind in ("labels", "tags") else BYTES_A_TOKEN) for row in rows
    )
    wanted = sizes[int(0.98 * (len(sizes) - 1))] * 1.25 if kind in ("words", "pairs") else sizes[-1]
    least = 64 if kind in ("words", "pairs") else LEAST_TOKENS  # room for a sentence around a short answer
    most = PAIRS_TOKENS if kind == "pairs" else MOST_TOKENS
    return min(most, max(least, 8 * round(wanted / 8 + 1.5)))


# --- its records ---


def _records(card: DatasetCard, rows: Sequence[Row]) -> Records:
    telling = [row for row in rows if not isinstance(row.record, PreferenceRecord | RankingRecord) or _chooses(row)]
    ordered = sorted(telling, key=lambda row: (hash_of(question_key(row.record)), row.id))
    test = [row for row in ordered if row.split == "test"]
    asked = {_asked(row) for row in test}
    train = _without([row for row in ordered if row.split == "train"], asked, rows)
    validation = [row for row in ordered if row.split == "validation" and _asked(row) not in asked]
    if not validation:
        validation = _set_aside(train)
    train = _without(train, {_asked(row) for row in validation}, rows)
    found = Records(train, validation, test)
    for split, some in zip(SPLITS, found, strict=True):
        if len(some) < FEWEST[split]:
            raise DataError(
                f"dataset '{card.name}' has {len(some)} {split} records that say something of their own; the advisor "
                f"wants at least {FEWEST[split]}: import more, or split it anew: "
                f"brogue data split {card.name} --into NAME --split 60/10/30"
            )
    return found


def _chooses(row: Row) -> bool:
    """Whether it says that one answer is better: ties say nothing."""
    return next(pairs(row.record), None) is not None


def _asked(row: Row) -> tuple[str, ...]:
    """What is asked, whatever its case and signs: the same is not to be learnt and asked."""
    return same_words(question(row.record))


def _without(train: Iterable[Row], asked: set[tuple[str, ...]], rows: Sequence[Row]) -> list[Row]:
    """Train without questions in `asked`, and without what a model made of records with such questions."""
    sources = {row.id for row in rows if _asked(row) in asked}
    return [row for row in train if _asked(row) not in asked and row.synthetic_of not in sources]


def _set_aside(train: Sequence[Row]) -> list[Row]:
    """A part of train for choices, whole groups of it where there are several. No record that a model made."""
    groups: dict[str, list[Row]] = {}
    for row in train:
        if row.synthetic_of is None:
            groups.setdefault(row.group or row.id, []).append(row)
    wanted = max(FEWEST["validation"], round(HELD * sum(map(len, groups.values()))))
    taken: list[Row] = []
    for group in sorted(groups, key=lambda name: hash_of(f"validation {name}")):
        if len(taken) < wanted and len(taken) + len(groups[group]) <= 3 * wanted:
            taken += groups[group]
    return sorted(taken, key=lambda row: (hash_of(question_key(row.record)), row.id))
