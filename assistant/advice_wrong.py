"""What an arm got wrong: its worst answers, and which label it takes for which."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from adapters.exam_types import Scores
from adapters.measure_data import last_question
from adapters.measure_pieces import messages
from adapters.measure_task_labels import labels_said, spans
from assistant.advice_task import rendered
from assistant.advice_types import Confusion, Task, Wrong
from data.dataset import Row
from data.exporting_shapes import pairs
from data.records import LabelledRecord

WORST = 10  # answers that are shown
NO_LABEL, NO_NAMES = "(no label)", "(none)"


def worst(task: Task, rows: Sequence[Row], texts: Sequence[str], main: Scores) -> tuple[Wrong, ...]:
    """The answers with the lowest scores; `texts` are the rows' answers. A row without parts has no score."""
    parts = np.asarray(main.parts["version"], dtype=float)
    scores = main.value(parts)
    order = [n for n in np.argsort(scores, kind="stable").tolist() if parts[n].any() and scores[n] < 1][:WORST]
    return tuple(
        Wrong(question=last_question(messages(rows[n].record)), wanted=_wanted(rows[n]),
              given=_given(task, rows[n], texts[n]), score=float(scores[n]))
        for n in order
    )  # fmt: skip


def confusions(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> tuple[Confusion, ...]:
    """Which label was given for which, the commonest first; of tags, by word and without B- and I-."""
    times = Counter[tuple[str, str]]()
    for row, text in zip(rows, texts, strict=True):
        record = row.record
        assert isinstance(record, LabelledRecord)  # the task's kind says so
        wanted = record.tags or (record.label or "",)
        for true, given in zip(wanted, labels_said(text, record, task.labels), strict=True):
            times[(_plain(true, task), _plain(given, task))] += 1
    found = [(pair, count) for pair, count in times.items() if pair[0] != pair[1]]
    ordered = sorted(found, key=lambda one: (-one[1], one[0]))
    return tuple(Confusion(wanted=pair[0], given=pair[1], times=count) for pair, count in ordered)


def _wanted(row: Row) -> str:
    record = row.record
    if isinstance(record, LabelledRecord) and record.tokens is not None:
        return _names(record.tokens, record.tags or ())
    return rendered(row)


def _given(task: Task, row: Row, text: str) -> str:
    record = row.record
    if task.kind == "pairs":  # the answer that it should not have found likelier
        return next(pairs(record))[2]
    if isinstance(record, LabelledRecord) and record.tokens is not None:
        return _names(record.tokens, labels_said(text, record, task.labels))
    return text


def _names(tokens: Sequence[str], tags: Sequence[str | None]) -> str:
    """Words and what they were said to be, such as "Redondo Beach: location; Kim: person"."""
    found = [(begin, " ".join(tokens[begin:end]), kind) for begin, end, kind in spans(tags)]
    if not found:  # tags of another scheme
        said = zip(tokens, tags, strict=True)
        found = [(n, token, tag) for n, (token, tag) in enumerate(said) if tag not in (None, "O")]
    return "; ".join(f"{words}: {kind}" for _, words, kind in sorted(found)) or NO_NAMES


def _plain(label: str | None, task: Task) -> str:
    if label is None:
        return NO_LABEL
    return label[2:] if task.kind == "tags" and label[:2] in ("B-", "I-") else label
