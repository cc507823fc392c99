"""How far raters agree: Krippendorff's alpha of comparisons (nominal) and of rankings (ordinal), with intervals.

1 is full agreement, 0 what chance gives, below 0 is contradiction. An item is a set of answers, however they were
placed; a rater counts once for it, with the first word they gave. Rankings are told apart by the number of answers, for
chance is another with two than with six, and their alphas are averaged, weighted by how much was ranked.
Source: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability"; intervals by resampling items.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.frozen import Frozen
from data.judgements import AnyJudgement, Comparison, Ranking

Array = np.ndarray[Any, np.dtype[Any]]
RESAMPLES = 500
_VERDICTS = 4  # lower id better, tie, higher id better, both bad


class Alpha(Frozen):
    """Krippendorff's alpha with its 95% interval, of what more than one rater judged.

    None: nobody judged what another did, or all said the same thing of everything.
    """

    value: float | None
    low: float | None
    high: float | None
    items: int
    raters: int


class Table(NamedTuple):
    """Who said what, as numbers; arrays of equal length, a line for each rater and unit."""

    item: Array  # what is resampled: a set of answers
    unit: Array  # what a value is given to: the same set, or one of its answers
    rater: Array
    value: Array  # from 0 to `values` - 1
    values: int
    ordered: bool
    raters: tuple[str, ...]

    def of(self, keep: Array) -> "Table":
        """Some of the lines."""
        return self._replace(item=self.item[keep], unit=self.unit[keep], rater=self.rater[keep], value=self.value[keep])


def tables(judgements: Iterable[AnyJudgement]) -> tuple[list[Table], list[Table]]:
    """(comparisons, rankings by number of answers), of judgements in the order in which they were given."""
    compared: list[tuple[Any, Any, str, int]] = []
    ranked: dict[int, list[tuple[Any, Any, str, int]]] = defaultdict(list)
    for (item, rater), (first, *_) in repeats(judgements).items():
        if isinstance(first, Comparison):
            compared.append((item, item, rater, verdict(first)))
        elif isinstance(first, Ranking):
            places = middle_ranks(first)
            ranked[len(places)] += [(item, (item, answer), rater, place) for answer, place in places.items()]
    return (
        [_table(compared, _VERDICTS, ordered=False)] if compared else [],
        [_table(lines, 2 * count - 1, ordered=True) for count, lines in sorted(ranked.items())],
    )


def repeats(judgements: Iterable[AnyJudgement]) -> dict[tuple[Any, str], list[AnyJudgement]]:
    """(item, rater) → what they said of it, time after time."""
    found: dict[tuple[Any, str], list[AnyJudgement]] = defaultdict(list)
    for judgement in judgements:
        if isinstance(judgement, Comparison | Ranking):
            found[(judgement.kind, *sorted(judgement.shown)), judgement.rater].append(judgement)
    return found


def verdict(judgement: Comparison) -> int:
    """The verdict, whatever side the answers stood on."""
    if judgement.verdict in ("tie", "both-bad"):
        return 1 if judgement.verdict == "tie" else 3
    best = judgement.shown[0 if judgement.verdict == "first" else 1]
    return 0 if best == min(judgement.shown) else 2


def middle_ranks(judgement: Ranking) -> dict[str, int]:
    """Answer → twice the mean place of those tied with it, from 0: a tie of the first two is 1 for both."""
    ranks = judgement.ranks
    return {
        answer: 2 * sum(other < rank for other in ranks) + ranks.count(rank) - 1
        for answer, rank in zip(judgement.shown, ranks, strict=True)
    }


def _table(lines: Sequence[tuple[Any, Any, str, int]], values: int, ordered: bool) -> Table:
    items, units, raters, said = zip(*lines, strict=True)
    names = tuple(sorted(set(raters)))
    return Table(_numbered(items), _numbered(units), _numbered(raters, names), np.array(said), values, ordered, names)


def _numbered(keys: Sequence[Any], known: Iterable[Any] = ()) -> Array:
    numbers = {key: number for number, key in enumerate(known)}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def counts_of(table: Table) -> Array:
    """How many raters gave each unit each value: units × values."""
    units = int(table.unit.max()) + 1 if len(table.unit) else 0
    flat = np.bincount(table.unit * table.values + table.value, minlength=units * table.values)
    return flat.reshape(units, table.values)


def distances(together: Array, ordered: bool) -> Array:
    """Krippendorff's squared distance of two values, from how often each was given: … × values × values."""
    values = together.shape[-1]
    if not ordered:
        return np.broadcast_to(1.0 - np.eye(values), (*together.shape, values))
    upto = np.cumsum(together, axis=-1) - together / 2
    squared: Array = (upto[..., :, None] - upto[..., None, :]) ** 2
    return squared


def _pairs_by_item(table: Table) -> Array:
    """Every item's part of the coincidence matrix (items × values × values); items of one rater alone are left out."""
    counts = counts_of(table)
    several = np.flatnonzero(counts.sum(1) > 1)
    item = np.zeros(len(counts), dtype=int)
    item[table.unit] = table.item
    rated = counts[several].astype(float)
    together = np.einsum("uc,uk->uck", rated, rated)
    diagonal = np.arange(table.values)
    together[:, diagonal, diagonal] -= rated
    together /= (rated.sum(1) - 1)[:, None, None]
    names, place = np.unique(item[several], return_inverse=True)
    found = np.zeros((len(names), table.values, table.values))
    np.add.at(found, place, together)
    return found


def _alpha(pairs: Array, ordered: bool) -> Array:
    """Alpha of coincidence matrices (… × values × values); nan where nothing differs."""
    given = pairs.sum(-1)
    squared = distances(given, ordered)
    observed = (pairs * squared).sum((-1, -2))
    expected = (given[..., :, None] * given[..., None, :] * squared).sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(expected > 0, 1 - (given.sum(-1) - 1) * observed / expected, np.nan)
    return found


def _resampled(by_item: Array, draws: int, chance: np.random.Generator) -> Iterator[Array]:
    """Coincidence matrices of items drawn with replacement. Equal items are drawn as one, by how many they are."""
    size = by_item.shape[-1]
    kinds, many = np.unique(by_item.reshape(len(by_item), -1), axis=0, return_counts=True)
    at_once = max(1, 2_000_000 // len(kinds))
    for start in range(0, draws, at_once):
        drawn = chance.multinomial(len(by_item), many / len(by_item), size=min(at_once, draws - start))
        yield (drawn @ kinds).reshape(-1, size, size)


def alpha(found: Sequence[Table], resamples: int = RESAMPLES, seed: int = 0) -> Alpha:
    """Alpha over tables, weighted by the values that could be compared."""
    chance = np.random.default_rng(seed)
    values, weights, drawn, items, raters = [], [], [], 0, set()
    for table in found:
        by_item = _pairs_by_item(table)
        if not len(by_item):
            continue
        shared = counts_of(table).sum(1)[table.unit] > 1
        items += len(by_item)
        raters |= {table.raters[number] for number in np.unique(table.rater[shared])}
        whole = by_item.sum(0)
        value = float(_alpha(whole, table.ordered))
        if not np.isnan(value):
            values.append(value)
            weights.append(whole.sum())
            if resamples:
                parts = [_alpha(pairs, table.ordered) for pairs in _resampled(by_item, resamples, chance)]
                drawn.append(np.nan_to_num(np.concatenate(parts), nan=1.0))  # a draw in which all said the same
    if not values:
        return Alpha(value=None, low=None, high=None, items=items, raters=len(raters))
    low, high = np.percentile(np.average(drawn, axis=0, weights=weights), [2.5, 97.5]) if drawn else (None, None)
    return Alpha(
        value=float(np.average(values, weights=weights)), low=None if low is None else float(low),
        high=None if high is None else float(high), items=items, raters=len(raters),
    )  # fmt: skip


class WithOthers(NamedTuple):
    """One rater against the others: alpha of their values with the others', its 95% bounds, and of how many items."""

    alpha: float
    low: float
    high: float
    items: int


def with_others(found: Sequence[Table]) -> dict[str, WithOthers]:
    """Each rater: 1 is always the same as the others, 0 as far away as chance; only of items that others judged too."""
    apart: dict[str, list[Array]] = defaultdict(list)
    for table in found:
        counts = counts_of(table)
        alone = counts.sum(1)[table.unit] < 2
        given = counts[counts.sum(1) > 1].sum(0).astype(float)
        squared = distances(given, table.ordered)
        total = given.sum()
        expected = (np.outer(given, given) * squared).sum() / (total * (total - 1)) if total > 1 else 0.0
        if expected == 0:
            continue
        table = table.of(~alone)
        rated = counts[table.unit]
        distance = (rated @ squared)[np.arange(len(rated)), table.value] / (rated.sum(1) - 1) / expected
        for number in np.unique(table.rater):
            lines = table.rater == number
            _, place = np.unique(table.item[lines], return_inverse=True)
            mean = np.bincount(place, distance[lines]) / np.bincount(place)
            apart[table.raters[number]].append(mean)
    return {rater: _bounds(1 - np.concatenate(parts)) for rater, parts in apart.items()}


def _bounds(values: Array) -> WithOthers:
    mean = float(values.mean())
    margin = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 2.0
    return WithOthers(mean, mean - margin, mean + margin, len(values))


def without(found: Sequence[Table], rater: str) -> float | None:
    """Alpha of all the others among themselves."""
    rest = [table.of(table.rater != table.raters.index(rater)) if rater in table.raters else table for table in found]
    return alpha([table for table in rest if len(table.unit)], resamples=0).value
