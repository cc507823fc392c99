"""From the parts that measures give to figures with intervals: of each arm, of paired differences, of slices.

Shares of independent 0/1 scores have Wilson's interval, their paired differences Bonett and Price's (2012, British
Journal of Mathematical and Statistical Psychology 65:481-488), which keeps some width where no answer changed. All else
is resampled (Efron 1979): items with replacement, those of one group together, the same draws for every arm, so that a
difference is paired. The percentiles are widened for few groups (Hesterberg 2015, The American Statistician 69:371-386,
"expanded percentile interval"). Pure numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t  # type: ignore[import-untyped]

from adapters.exam_types import Arm, Interval, Item, Measured, Parts, Scores, mean
from adapters.held_out import wilson

DRAWS = 2000
CELLS = 4_000_000  # of draws × groups that are held at once, at most
FEWEST = 2  # independent items; fewer have no interval, and decide nothing
Z = 1.959963984540054
Figures = NDArray[np.float64]  # [draws]
Name = TypeVar("Name", bound=str)


def measured(scores: Scores, arms: Sequence[Arm], seed: int = 0) -> Measured:
    """The figure of all `arms` that have parts, with 95% intervals; always the same for the same seed.

    Raises ValueError where parts and items do not go together: that is a measure's mistake.
    """
    parts = {arm: np.asarray(scores.parts[arm], dtype=np.float64) for arm in arms if arm in scores.parts}
    for arm, rows in parts.items():
        if rows.ndim != 2 or len(rows) != len(scores.items):
            raise ValueError(f"{scores.name}: parts of {arm} are {rows.shape}, items {len(scores.items)}")
    found, over = _intervals(scores, parts, list(range(len(scores.items))), seed)
    enough = len(groups_of(scores.items)) >= FEWEST
    note = scores.note if enough else "; ".join(filter(None, [scores.note, "too few items for an interval"]))
    slices = {name: _finite(_intervals(scores, parts, rows, seed)[0]) for name, rows in _slices(scores.items).items()}
    return Measured(
        name=scores.name, unit=scores.unit, better=scores.better, n=len(scores.items), arms=found, over=over,
        slices={name: arms for name, arms in slices.items() if arms}, note=note, decides=scores.decides and enough,
    )  # fmt: skip


def _intervals(
    scores: Scores, parts: Mapping[Arm, Parts], rows: Sequence[int], seed: int
) -> tuple[dict[Arm, Interval], dict[Arm, Interval]]:
    """(of each arm, of the version less each other arm), from some of the items."""
    if not rows:
        return {}, {}
    some = {arm: found[rows] for arm, found in parts.items()}
    groups = groups_of([scores.items[row] for row in rows])
    single = scores.value is mean and len(groups) == len(rows)
    shares = {arm for arm, found in some.items() if single and is_share(found)}
    drawn = {} if shares == set(some) else draws_of(scores.value, some, groups, seed)
    value = {arm: float(scores.value(found.sum(0, keepdims=True))[0]) for arm, found in some.items()}
    bounded = scores.value is mean and scores.unit == "share"
    found = {
        arm: _share(some[arm]) if arm in shares else resampled(value[arm], drawn[arm], len(groups), bounded)
        for arm in some
    }
    over: dict[Arm, Interval] = {}
    for arm in some:
        if "version" not in some or arm == "version":
            continue
        if {"version", arm} <= shares:
            over[arm] = paired_shares(some["version"][:, 0], some[arm][:, 0])
        else:
            moved = value["version"] - value[arm], drawn["version"] - drawn[arm]
            over[arm] = resampled(*moved, len(groups), bounded and not np.any(moved[1]), paired=True)
    return found, over


def _finite(arms: dict[Arm, Interval]) -> dict[Arm, Interval]:
    """Without figures that are none, such as a mean over nothing."""
    return {arm: found for arm, found in arms.items() if math.isfinite(found.value)}


def is_share(parts: Parts) -> bool:
    """Is each row (0 or 1, 1)?"""
    return parts.shape[1] == 2 and bool(np.all(parts[:, 1] == 1) and np.all(np.isin(parts[:, 0], (0, 1))))


def _share(parts: Parts) -> Interval:
    right, n = float(parts[:, 0].sum()), len(parts)
    low, high = wilson(right, n)
    return Interval(value=right / n, low=low, high=high)


def paired_shares(version: Figures, other: Figures) -> Interval:
    """The difference of two shares on the same items, from scores of 0 and 1 [items] (Bonett and Price 2012)."""
    n = len(version)
    won, lost = float(((version == 1) & (other == 0)).sum()), float(((version == 0) & (other == 1)).sum())
    up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    value = (won - lost) / n
    return Interval(value=value, low=max(-1.0, min(value, up - down - half)),
                    high=min(1.0, max(value, up - down + half)))  # fmt: skip


def groups_of(items: Sequence[Item]) -> list[list[int]]:
    """Rows that are drawn together."""
    found: dict[object, list[int]] = {}
    for row, item in enumerate(items):
        found.setdefault(row if item.group is None else item.group, []).append(row)
    return list(found.values())


def _slices(items: Sequence[Item]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        if item.slice is not None:
            found.setdefault(item.slice, []).append(row)
    return dict(sorted(found.items()))


def draws_of(
    value: Callable[[Parts], Figures], parts: Mapping[Name, Parts], groups: Sequence[Sequence[int]], seed: int
) -> dict[Name, Figures]:
    """The figure of every draw, of each arm; `value` makes figures of summed parts, `groups` are rows."""
    sums = {arm: np.stack([found[rows].sum(0) for rows in groups]) for arm, found in parts.items()}
    random, count = np.random.default_rng(seed), len(groups)
    figures: dict[Name, list[Figures]] = {arm: [] for arm in parts}
    step = max(1, min(DRAWS, CELLS // count))
    for start in range(0, DRAWS, step):
        draws = random.multinomial(count, np.full(count, 1 / count), min(step, DRAWS - start)).astype(np.float64)
        for arm, found in sums.items():
            figures[arm].append(value(draws @ found))
    return {arm: np.concatenate(some) for arm, some in figures.items()}


def resampled(value: float, drawn: Figures, groups: int, bounded: bool, paired: bool = False) -> Interval:
    """Percentiles of the draws; a draw without any figure (nan) says nothing.

    Where all items are at the same end of a `bounded` score, or no `paired` score differs, no draw does: then what a
    share of as many would have, since no score between 0 and 1 varies more than one that is 0 or 1.
    """
    there = drawn[np.isfinite(drawn)]
    if groups < FEWEST or not len(there):
        return Interval(value=value, low=value, high=value)
    if bounded and value in (0, 1) and np.all(there == value):
        if paired:
            return paired_shares(np.zeros(groups), np.zeros(groups))
        low, high = wilson(value * groups, groups)
        return Interval(value=value, low=low, high=high)
    # The draws' spread is that of n, not of n - 1, and the normal's tails are too thin for few.
    tail = NormalDist().cdf(-math.sqrt(groups / (groups - 1)) * float(t.ppf(0.975, groups - 1)))
    low, high = np.quantile(there, (tail, 1 - tail))
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))
