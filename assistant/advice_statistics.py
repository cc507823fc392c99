"""How far two arms lie apart on the same records, whether that may be chance, and how many records would tell. Pure.

The technique is the exam's (adapters/exam_statistics.py): the paired difference of shares by Bonett and Price (2012),
all else by a paired bootstrap over the records' parts. A p-value is the level at which that interval would end at zero,
so that the two never say different things. Several p-values are corrected by Holm (1979, Scandinavian Journal of
Statistics 6:65-70).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t  # type: ignore[import-untyped]

from adapters.exam_statistics import FEWEST, draws_of, groups_of, is_share, paired_shares, resampled
from adapters.exam_types import Better, Interval, Item, Parts, mean
from assistant.advice_types import Figures

LEVEL = 0.05  # how often chance alone may pass for a difference, over all comparisons together
POWER = 0.8  # how often so many records as are said to be needed would tell
MOST = 1_000_000  # records; what needs more is told by nothing
Numbers = NDArray[np.float64]


class Apart(NamedTuple):
    """How one arm's figure differs from another's on the same records."""

    difference: Interval  # as the metric is measured
    p: float  # two-sided
    spread: float  # standard deviation of the difference that one record makes


def apart(mine: Figures, other: Figures, seed: int = 0) -> Apart:
    """`mine` less `other`, paired. Raises ValueError if they were not measured on as many records."""
    return all_apart({"mine": mine, "other": other}, seed)["mine", "other"]


def all_apart(arms: Mapping[str, Figures], seed: int = 0) -> dict[tuple[str, str], Apart]:
    """Every arm less every later one, paired, all from the same draws. Raises ValueError as `apart` does."""
    parts = {name: _array(figures) for name, figures in arms.items()}
    if len({len(some) for some in parts.values()}) > 1:
        counts = ", ".join(f"{len(some)} ({name})" for name, some in parts.items())
        raise ValueError(f"arms of different records cannot be paired: {counts}")
    groups = _groups(next(iter(arms.values())))
    alone = len(groups) == len(next(iter(parts.values())))
    shares = {name for name, some in parts.items() if alone and is_share(some)}
    drawn = {} if shares == set(parts) else draws_of(mean, parts, groups, seed)
    return {
        (mine, other): _shares(parts[mine][:, 0], parts[other][:, 0]) if {mine, other} <= shares
        else _drawn(parts[mine], parts[other], drawn[mine] - drawn[other], len(groups))
        for mine, other in combinations(arms, 2)
    }  # fmt: skip


def _drawn(mine: Parts, other: Parts, moved: Numbers, count: int) -> Apart:
    """From draws of the difference, of so many groups."""
    value = float(mean(mine.sum(0, keepdims=True))[0] - mean(other.sum(0, keepdims=True))[0])
    if count < FEWEST:
        return Apart(Interval(value=value, low=min(value, -1.0), high=max(value, 1.0)), 1.0, math.inf)
    bounded = all(bool(np.all((some[:, 0] >= 0) & (some[:, 0] <= some[:, 1]))) for some in (mine, other))
    difference = resampled(value, moved, count, bounded and not np.any(moved), paired=True)
    spread = float(np.nanstd(moved)) or (difference.high - difference.low) / (2 * float(norm.isf(0.025)))
    return Apart(difference, _p(value, moved, count), spread * math.sqrt(len(mine)))


def _shares(mine: Numbers, other: Numbers) -> Apart:
    """Of scores that are 0 or 1: Bonett and Price's interval, and the p at which it would end at zero."""
    n = len(mine)
    up, down = (float(((a == 1) & (b == 0)).sum() + 1) / (n + 2) for a, b in ((mine, other), (other, mine)))
    spread = math.sqrt(up + down - (up - down) ** 2)
    return Apart(paired_shares(mine, other), float(2 * norm.sf(abs(up - down) * math.sqrt(n + 2) / spread)), spread)


def _p(value: float, moved: Numbers, count: int) -> float:
    """Two-sided p of draws of a difference, widened for few groups as their interval is (Hesterberg 2015)."""
    there = moved[np.isfinite(moved)]
    if count < FEWEST or not np.any(there):
        return 1.0
    beyond = min(int((there <= 0).sum()), int((there >= 0).sum()))
    far = norm.isf(min(0.5, (1 + beyond) / (len(there) + 1)))
    if not beyond:  # so few draws cannot say how rare it is: as far as their spread says
        far = max(far, abs(value) / max(float(there.std()), 1e-12))
    return float(min(1.0, 2 * t.sf(far / math.sqrt(count / (count - 1)), count - 1)))


def above(figures: Figures, bar: float, better: Better = "higher", seed: int = 0) -> float:
    """One-sided p that the figure is no better than the number `bar`: exact for shares, else by the bootstrap."""
    parts, groups = _array(figures), _groups(figures)
    if len(groups) < FEWEST:
        return 1.0
    if len(groups) == len(parts) and is_share(parts):
        side = "greater" if better == "higher" else "less"
        return float(binomtest(int(parts[:, 0].sum()), len(parts), min(1.0, max(0.0, bar)), side).pvalue)
    moved = draws_of(mean, {"arm": parts}, groups, seed)["arm"] - bar
    value = figures.main.value - bar
    both = _p(value, moved, len(groups))
    return both / 2 if value and (value > 0) == (better == "higher") else 1 - both / 2


def _groups(figures: Figures) -> list[list[int]]:
    return groups_of([Item("", group=one) for one in figures.groups] or [Item("")] * len(figures.parts))


def _array(figures: Figures) -> Parts:
    found: Parts = np.asarray(figures.parts, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or len(figures.groups) not in (0, len(found)):
        raise ValueError(f"parts of an arm are {found.shape}, groups {len(figures.groups)}; wanted (score, weight)")
    return found


def holm(values: Sequence[float]) -> list[float]:
    """The p-values corrected for being several, in their order: the i-th smallest of m times m - i + 1, no smaller than
    the one before it."""
    found, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda n: values[n])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = highest
    return found


def needed(spread: float, difference: float, margin: float, comparisons: int = 1) -> int | None:
    """Records that would probably tell two arms apart, or show that less than `margin` lies between them, if the
    difference stays as it was found; rounded up to two digits. None if that takes more than a million.

    n = ((z_α + z_power) · spread / distance)², where the distance is the difference itself (α divided by the number of
    comparisons), or what lacks to the margin; whichever tells sooner.
    """
    power = float(norm.ppf(POWER))
    ways = [(abs(difference), float(norm.isf(LEVEL / 2 / max(1, comparisons)))),
            (margin - abs(difference), float(norm.isf(LEVEL / 2)))]  # fmt: skip
    counts = [((z + power) * spread / distance) ** 2 for distance, z in ways if distance > 0]
    return rounded_up(min(counts, default=math.inf))


def rounded_up(count: float) -> int | None:
    """A number of records, with two digits that count; none if it is out of reach."""
    if not count <= MOST:
        return None
    step = int(10 ** max(0, len(str(math.ceil(count))) - 2))
    return math.ceil(math.ceil(count) / step) * step
