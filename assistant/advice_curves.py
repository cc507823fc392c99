"""What more training records would bring an arm, from its learning curve. Pure numbers.

A figure y after n records is fitted as y = a - b·n^-c with b >= 0: errors that fall with a power of the records, down
to a rest (Cortes et al. 1993, NIPS 6; Viering and Loog 2022, IEEE TPAMI, "The shape of learning curves"). The points
weigh as their intervals say. The uncertainty is a parametric bootstrap: each point is drawn anew from its interval, and
the curve fitted again. The luck of a training's seed is not in it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Better, Interval
from assistant import exam_words as words
from assistant.advice_types import Growth, Point, Result, Task

FEWEST = 3  # points of different numbers of records
OPEN = 0.08  # an interval wider than this tells nothing
NOTHING = 0.01  # a gain below a point in a hundred
DRAWS = 1000
POWERS = np.geomspace(0.1, 2.0, 24)  # c: from errors that hardly fall to such that fall with the square of the records
BY_THE_ROOT = 0.5  # the power that is hoped for where one point shows none
Numbers = NDArray[np.float64]


def growth(result: Result, task: Task | None = None, seed: int = 0) -> Growth | None:
    """What twice the records would bring; none where the arm has fewer than three points."""
    points = _points(result.curve)
    if len(points) < FEWEST:
        return None
    better = task.better if task else "higher"
    rows, twice = points[-1].rows, _gain(points, 2 * points[-1].rows, better, seed)
    told = _told(rows, twice)
    if task and task.better == "higher" and max(point.found.low for point in points) <= task.floor:
        told = f"It has not begun to learn from {rows:,} records; how many it would need cannot be told."
    return Growth(arm=result.arm.name, rows=rows, twice=twice, told=told)


def hope(points: Sequence[Point], rows: int, task: Task | None = None, seed: int = 0) -> float:
    """What `rows` training records may add at most (97.5%) to the figure of a curve's last point, 0 or more.

    One point shows no curve: then as if all errors fell with the root of the records.
    """
    some, better = _points(points), task.better if task else "higher"
    if not some or some[-1].rows >= rows:
        return 0.0
    if len(some) > 1:
        found = _gain(some, rows, better, seed)
        return max(0.0, found.high if better == "higher" else -found.low)
    left = 1 - some[0].found.low if better == "higher" else some[0].found.high
    return max(0.0, left) * (1 - float((some[0].rows / rows) ** BY_THE_ROOT))


def _points(points: Sequence[Point]) -> list[Point]:
    """One for each number of records, the fewest first."""
    return [one for _, one in sorted({point.rows: point for point in points}.items())]


def _gain(points: Sequence[Point], rows: int, better: Better, seed: int) -> Interval:
    """From the last point's records to `rows`, as the metric is measured."""
    turn = 1.0 if better == "higher" else -1.0
    counts = np.array([point.rows for point in points], dtype=np.float64)
    values = np.array([point.found.value for point in points])
    errors = np.maximum(np.array([point.found.high - point.found.low for point in points]) / 3.92, 1e-3)
    drawn = np.random.default_rng(seed).normal(values, errors, (DRAWS, len(points)))
    if better == "higher" and np.all((values >= 0) & (values <= 1)):
        drawn = drawn.clip(0, 1)
    gains = turn * _fitted(counts, turn * np.vstack([values, drawn]), errors, rows)
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    value = float(gains[0])
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _fitted(counts: Numbers, values: Numbers, errors: Numbers, rows: int) -> Numbers:
    """[draws] the gain of each row of `values` [draws, points], by the best of all powers: closed form for each."""
    weights, best = 1 / errors**2, np.full(len(values), np.inf)
    gains = np.zeros(len(values))
    ceiling = 1.0 if np.all(values <= 1) and np.all(values >= 0) else np.inf
    for power in POWERS:
        x = (counts / counts[-1]) ** -power  # 1 at the last point
        middle, level = np.average(x, weights=weights), values @ weights / weights.sum()
        drop = -((values - level[:, None]) @ (weights * (x - middle))) / (weights * (x - middle) ** 2).sum()
        drop = np.maximum(drop, 0.0)
        rest = level + drop * middle
        over = rest > ceiling
        drop[over] = np.maximum((ceiling - values[over]) @ (weights * x) / (weights * x**2).sum(), 0.0)
        rest[over] = ceiling
        misfit = ((values - rest[:, None] + drop[:, None] * x) ** 2 * weights).sum(1)
        nearer = misfit < best - 1e-9  # two points fit many powers: the first is the most hopeful
        best[nearer] = misfit[nearer]
        gains[nearer] = (drop * (1 - (rows / counts[-1]) ** -power))[nearer]
    return gains


def _told(rows: int, twice: Interval) -> str:
    span = words.change_between(twice, "share")
    if twice.high - twice.low > OPEN:
        return f"What more records would bring cannot be told: twice as many ({2 * rows:,}) may bring {span} points."
    if max(abs(twice.low), abs(twice.high)) < NOTHING:
        return f"Twice the records ({2 * rows:,}) would bring next to nothing: {span} points."
    return f"Twice the records ({2 * rows:,}) would bring about {words.difference(twice, 'share')} points ({span})."
