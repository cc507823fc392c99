"""The prompts whose answers moved most between two arms, over all figures of an exam. Pure numbers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adapters.exam_types import Arm, Moved, Scores

MOST = 10  # each way
COSTS = ("tokens", "seconds")  # a longer answer is nobody's gain or loss by itself


class _Move(NamedTuple):
    by: float  # in standard deviations of its figure's differences; above 0 is better
    moved: Moved


def most_moved(scores: Sequence[Scores], before: Arm) -> tuple[tuple[Moved, ...], tuple[Moved, ...]]:
    """(for the better, for the worse) against the arm `before`: at most ten prompts each, each prompt once."""
    moves = sorted((move for one in scores for move in _moves(one, before)), key=lambda move: -abs(move.by))
    best: dict[str, _Move] = {}
    for move in moves:
        best.setdefault(move.moved.prompt, move)
    up, down = ([m.moved for m in best.values() if (m.by > 0) == better][:MOST] for better in (True, False))
    return tuple(up), tuple(down)


def _moves(scores: Scores, before: Arm) -> Iterator[_Move]:
    """Of each item whose two answers differ: by how much its own figure did."""
    if scores.better == "neither" or scores.unit in COSTS or not {"version", before} <= set(scores.parts):
        return
    arms: tuple[Arm, ...] = tuple(scores.parts)
    values = {arm: np.nan_to_num(np.asarray(scores.value(np.asarray(scores.parts[arm])), dtype=float)) for arm in arms}
    moved = values["version"] - values[before]
    spread = float(moved.std()) or 1.0
    for row, item in enumerate(scores.items):
        if moved[row] and item.answers.get("version") not in (None, item.answers.get(before)):
            shown = {arm: round(float(values[arm][row]), 4) for arm in arms}
            answers = {arm: text for arm, text in item.answers.items() if arm in arms}
            by = float(moved[row]) / spread * (-1 if scores.better == "lower" else 1)
            yield _Move(by, Moved(measure=scores.name, prompt=item.prompt, answers=answers, scores=shown))
