"""The measure `task` on labelled records: accuracy, precision, recall and F1 of labels, or of the tags of words.

A text's answer is held to the labels there are, as a client would hold it. Micro figures are given by label, too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Arm, Item, Part, Parts, Room, Scores
from adapters.measure_pieces import AskOptions, item, messages
from adapters.recipes import labels as labels_of
from data.dataset import Row
from data.errors import DataError
from data.records import LabelledRecord

_ALL = 1_000_000_000  # records: every one
MOST = 500  # labels that an engine is held to; with more its grammar takes long to build


class LabelOptions(AskOptions):
    """Options for labels and tags."""

    labels: tuple[str, ...] = ()  # empty: those of the dataset's records, in its training split too
    constrained: bool = True  # texts only: the engine may give nothing but a label


class Counts:
    """[records, labels] each: of the right labels, of those that were wanted and of those that were said."""

    def __init__(self, wanted: Sequence[Sequence[str]], said: Sequence[Sequence[str | None]],
                 labels: Sequence[str]) -> None:  # fmt: skip
        number = {label: n for n, label in enumerate(labels)}
        self.right, self.wanted, self.said = (np.zeros((len(wanted), len(labels))) for _ in range(3))
        for row, (truth, found) in enumerate(zip(wanted, said, strict=True)):
            for true, given in zip(truth, found, strict=True):
                self.wanted[row, number[true]] += 1
                if given in number:
                    self.said[row, number[given]] += 1
                    self.right[row, number[true]] += given == true


def label_scores(room: Room, part: Part, rows: Sequence[Row], chosen: LabelOptions) -> list[Scores]:
    """Figures of labels, or of words' tags."""
    records = [row.record for row in rows if isinstance(row.record, LabelledRecord)]
    known = known_labels(room, part, rows, chosen)
    asked, sampling = [messages(record) for record in records], label_sampling(records, known, chosen)
    given = {arm: [a.text for a in room.answers(arm, asked, **sampling)] for arm in room.arms}
    wanted = [record.tags or (record.label or "",) for record in records]
    said = {
        arm: [labels_said(text, one, known) for text, one in zip(texts, records, strict=True)]
        for arm, texts in given.items()
    }
    counts = {arm: Counts(wanted, some, known) for arm, some in said.items()}
    items = [
        item(row, prompt, {arm: texts[n] for arm, texts in given.items()}, records[n].label)
        for n, (row, prompt) in enumerate(zip(rows, asked, strict=True))
    ]
    found = figures(part.prefix, counts, items, [row.group or row.id for row in rows], known)
    if any(label.startswith("B-") for label in known):
        parts = {arm: _entities(wanted, some) for arm, some in said.items()}
        found.append(Scores(f"{part.prefix}.entity_f1", "share", "higher", parts, items, note="of whole names"))
    return found


def spans(tags: Sequence[str | None]) -> set[tuple[int, int, str]]:
    """(first word, word after the last, type) of what B- and I- tags mark, as the shared task of CoNLL-2000 counts."""
    found, begin, of = set(), 0, ""
    for at, tag in enumerate([*tags, None]):
        kind = tag[2:] if tag and tag[:2] in ("B-", "I-") else ""
        if of and (kind != of or (tag or "").startswith("B-")):
            found.add((begin, at, of))
            of = ""
        if kind and not of:
            begin, of = at, kind
    return found


def _entities(wanted: Sequence[Sequence[str]], said: Sequence[Sequence[str | None]]) -> Parts:
    """[records, 2]: twice the entities that are right from first word to last, and those wanted and said together."""
    both = [(spans(true), spans(given)) for true, given in zip(wanted, said, strict=True)]
    return np.array([[2 * len(true & given), len(true) + len(given)] for true, given in both], dtype=np.float64)


def known_labels(room: Room, part: Part, rows: Sequence[Row], chosen: LabelOptions) -> tuple[str, ...]:
    """The labels that may be given, sorted: the option's, and those of all records."""
    if chosen.labels:
        return tuple(sorted({*chosen.labels, *labels_of(rows)}))
    everywhere = [*rows, *_every(room, part, "train"), *_every(room, part, chosen.split)]
    return labels_of(everywhere)


def _every(room: Room, part: Part, split: str) -> list[Row]:
    try:
        return room.rows(part.model_copy(update={"limit": _ALL, "options": part.options | {"split": split}}))
    except DataError:
        return []  # the dataset has no such split


def label_sampling(records: Sequence[LabelledRecord], known: Sequence[str], chosen: LabelOptions) -> dict[str, Any]:
    """How the engine is asked: held to the labels, unless words are to be tagged or the labels are too many."""
    free = not chosen.constrained or records[0].tokens is not None or len(known) > MOST
    return chosen.sampling if free else chosen.sampling | {"structured_outputs": {"choice": list(known)}}


def labels_said(text: str, record: LabelledRecord, known: Sequence[str]) -> list[str | None]:
    """The label that an answer gives, or each word's tag; none where it gives none."""
    if record.tokens is None:
        same = {label.casefold(): label for label in known}
        return [same.get(text.strip().strip(".").casefold())]
    pairs = [line.rsplit(None, 1) for line in text.splitlines()]
    found: list[str | None] = []
    at = 0
    for token in record.tokens:
        here = next((n for n in range(at, len(pairs)) if len(pairs[n]) == 2 and pairs[n][0] == token), None)
        found.append(None if here is None else pairs[here][1])
        at = at if here is None else here + 1
    return found


def figures(prefix: str, counts: Mapping[Arm, Counts], items: Sequence[Item], groups: Sequence[str],
            labels: Sequence[str]) -> list[Scores]:  # fmt: skip
    """Accuracy, micro and macro figures. `groups` names each record: its labels are drawn together."""
    accuracy = {arm: np.stack([c.right.sum(1), c.wanted.sum(1)], axis=1) for arm, c in counts.items()}
    found = [Scores(f"{prefix}.accuracy", "share", "higher", accuracy, items)]
    whole = {arm: np.concatenate([c.right, c.wanted, c.said], axis=1) for arm, c in counts.items()}
    plain = [one._replace(slice=None) for one in items]
    found += [
        Scores(f"{prefix}.{name}_macro", "share", "higher", whole, plain, value) for name, value in _MACRO.items()
    ]
    # A row for each record and label that meet: sums by label are that label's own figures.
    there = np.sum([c.wanted + c.said for c in counts.values()], axis=0)
    at, which = np.nonzero(there)
    by_label = [
        items[row]._replace(slice=labels[label], group=groups[row])
        for row, label in zip(at.tolist(), which.tolist(), strict=True)
    ]
    for name, share in _MICRO.items():
        parts = {arm: np.stack([side[at, which] for side in share(c)], axis=1) for arm, c in counts.items()}
        found.append(Scores(f"{prefix}.{name}_micro", "share", "higher", parts, by_label))
    return found


_MICRO: dict[str, Callable[[Counts], tuple[Parts, Parts]]] = {
    "precision": lambda c: (c.right, c.said),
    "recall": lambda c: (c.right, c.wanted),
    "f1": lambda c: (2 * c.right, c.wanted + c.said),
}


def _macro(top: Callable[[Parts, Parts, Parts], tuple[Parts, Parts]]) -> Callable[[Parts], NDArray[np.float64]]:
    """The mean of a label's figure over the labels that occur or were given; 0 where its denominator is."""

    def value(sums: Parts) -> NDArray[np.float64]:
        right, wanted, said = np.split(sums, 3, axis=1)
        over, under = top(right, wanted, said)
        found: NDArray[np.float64] = (over / np.maximum(under, 1)).sum(1) / np.maximum((wanted + said > 0).sum(1), 1)
        return found

    return value


_MACRO: dict[str, Callable[[Parts], NDArray[np.float64]]] = {
    "precision": _macro(lambda right, _wanted, said: (right, said)),
    "recall": _macro(lambda right, wanted, _said: (right, wanted)),
    "f1": _macro(lambda right, wanted, said: (2 * right, wanted + said)),
}
