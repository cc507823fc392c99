"""What a metric gives to whom does not look at the question: an arm that is no better has learnt nothing. Pure.

The floor: what is always said is chosen on the known records and held to the test records. By chance: an arm's own
answers, given to other questions.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from adapters.measure_task import exact_match, rouge_l, token_f1
from adapters.measure_task_fields import overlap
from adapters.measure_task_labels import labels_said
from assistant.advice_types import Task, TaskKind
from data.dataset import Row
from data.exporting_shapes import pairs
from data.records import LabelledRecord, answer

MIXED = 7  # places that answers are moved by: of records in the order of a hash any number does
CANDIDATES, COMPARED = 20, 100  # answers that might always be said, and records that they are compared with


def floor(kind: TaskKind, metric: str, known: Sequence[Row], test: Sequence[Row]) -> float:
    """The share (0 to 1) of the metric that needs no question."""
    if metric == "entity_f1":
        return 0.0  # no word that is always said to be a name is one often
    if kind == "pairs":
        return _pairs(known, test)
    if kind == "words":
        return _words(metric, [answer(row.record) for row in known], [answer(row.record) for row in test])
    commonest = Counter(label for row in known for label in _labels(row)).most_common(1)[0][0]
    asked = [label for row in test for label in _labels(row)]
    return asked.count(commonest) / len(asked)


def by_chance(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> float | None:
    """The metric of an arm's answers when each stands beside another question; none where none would fit another."""
    if task.kind in ("tags", "pairs") or len(rows) <= MIXED:
        return None
    if task.kind == "labels":
        return _labels_by_chance(task, rows, texts)
    mixed = [*texts[-MIXED:], *texts[:-MIXED]]
    return _score(task.metric, list(zip(mixed, [answer(row.record) for row in rows], strict=True)))


def _labels_by_chance(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> float:
    """Over all other questions: how often the label would have been right."""
    wanted, said, right = Counter[str | None](), Counter[str | None](), 0
    for row, text in zip(rows, texts, strict=True):
        assert isinstance(row.record, LabelledRecord)  # the task's kind says so
        (given,) = labels_said(text, row.record, task.labels)
        wanted[row.record.label] += 1
        said[given] += 1
        right += given == row.record.label
    return (sum(times * said[label] for label, times in wanted.items()) - right) / (len(rows) * (len(rows) - 1))


def _labels(row: Row) -> tuple[str, ...]:
    record = row.record
    assert isinstance(record, LabelledRecord)  # the task's kind says so
    return record.tags or (record.label or "",)


def _pairs(known: Sequence[Row], test: Sequence[Row]) -> float:
    """Always the longer answer, or always the shorter one; a coin at least."""

    def longer(rows: Sequence[Row]) -> float:
        found = [
            0.5 + 0.5 * ((len(better) > len(worse)) - (len(better) < len(worse)))
            for row in rows for _, better, worse in pairs(row.record)
        ]  # fmt: skip
        return sum(found) / max(1, len(found))

    share = longer(test)
    return max(0.5, share if longer(known) >= 0.5 else 1 - share)


def _words(metric: str, known: Sequence[str], test: Sequence[str]) -> float:
    if metric == "field_f1":
        return _score(metric, [(_commonest_fields(known), wanted) for wanted in test])
    often = [text for text, _ in Counter(known).most_common(CANDIDATES)]
    quick = "exact_match" if metric == "exact_match" else "token_f1"
    nearest = max(often, key=lambda text: _score(quick, [(text, wanted) for wanted in known[:COMPARED]]))
    return _score(metric, [(nearest, wanted) for wanted in test[:COMPARED]])


def _score(metric: str, said: Sequence[tuple[str, str]]) -> float:
    """The metric of (given, wanted) answers in words, as the measure `task` reckons it."""
    if metric == "field_f1":
        parts = [overlap(*pair) for pair in said]
        return sum(right for right, _ in parts) / max(1.0, sum(both for _, both in parts))
    scores: dict[str, Callable[[str, str], float]] = {"exact_match": exact_match, "token_f1": token_f1}
    score = scores.get(metric) or rouge_l()
    return sum(score(*pair) for pair in said) / len(said)


def _commonest_fields(known: Sequence[str]) -> str:
    """An object of the commonest value of every field that most answers have."""
    objects = [json.loads(text) for text in known]
    names = Counter(name for one in objects for name in one)
    common = [name for name, times in names.items() if times * 2 >= len(objects)]
    values = {name: Counter(json.dumps(one[name]) for one in objects if name in one) for name in common}
    return json.dumps({name: json.loads(found.most_common(1)[0][0]) for name, found in values.items()})
