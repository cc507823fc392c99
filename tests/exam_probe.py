"""A measure for tests of the exam itself: are the answers what the records want?"""

import numpy as np

from adapters.exam_types import Item, Part, Room, Scores
from data.records import answer, question

NAME, WHERE = "probe", "tests.exam_probe:measure"


def measure(room: Room, part: Part) -> list[Scores]:
    """`probe.right`: the share of answers that are word for word the record's."""
    rows = room.rows(part)
    prompts = [[{"role": "user", "content": question(row.record)}] for row in rows]
    said = {arm: [one.text for one in room.answers(arm, prompts)] for arm in room.arms}
    right = {arm: np.array([[float(text == answer(row.record)), 1.0] for text, row in zip(texts, rows, strict=True)])
             for arm, texts in said.items()}  # fmt: skip
    items = [Item(question(row.record), {arm: texts[n] for arm, texts in said.items()}) for n, row in enumerate(rows)]
    return [Scores(f"{part.prefix}.right", "share", "higher", right, items)]
