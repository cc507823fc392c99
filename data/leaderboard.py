"""Which version people prefer: a Bradley-Terry model over comparisons and rankings, with bootstrap intervals.

Every two answers of a judgement are a match. A tie is half a win for both, and so is "both bad". The matches of a
ranking of k answers weigh 2/k each, together k - 1: breaking a Plackett-Luce ranking into all its pairs estimates the
same strengths (Azari Soufiani et al. 2013, NeurIPS 26), and a test compares the two. A rater's weight goes on top.

With style control a match is also explained by how the two answers differ in length, list items and marks (headings,
bold), each as (a - b) / (a + b), so that the strengths are those at equal style (as in LMSYS's arena, 2024).

Intervals: 95% percentiles over resampled items (all judgements of the same answers stay together). A weak ridge keeps
strengths finite for who always wins.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError
from data.frozen import Frozen
from data.judgements import Comparison, Ranking, StoredJudgement

Array = np.ndarray[Any, np.dtype[Any]]
RESAMPLES = 300
RIDGE = 0.1  # curvature of the penalty; one even match has 0.25
POINTS = 400 / np.log(10)  # points of a chess rating for a natural log-odds of 1
STYLES = ("length", "list items", "headings and bold")
_STEPS = 30  # Newton's; it takes about 5
_AT_ONCE = 4_000_000  # numbers held in one step of the bootstrap
_LIST = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_MARKS = re.compile(r"^#{1,6}[ \t]+\S|\*\*[^*\n]+\*\*|__[^_\n]+__", re.MULTILINE)


class Style(NamedTuple):
    """What is counted of an answer's looks."""

    characters: int
    lists: int
    marks: int


class Match(NamedTuple):
    """Two answers of one judgement: how far the first won (1, 0.5 or 0), and what it weighs."""

    item: Any
    first: str  # version
    second: str
    won: float
    weight: float
    looks: tuple[float, ...]  # differences of style; empty without style control


class Standing(Frozen):
    """A version's place. 400 points more are odds of 10 to 1 against the other; the mean is 1000."""

    version: str
    place: int  # 1 + how many are better for certain (their intervals do not overlap)
    points: float
    low: float
    high: float
    matches: int
    won: float  # share of its matches, ties as halves, unweighted


class StyleEffect(Frozen):
    """What style does: the odds to win of an answer with twice as much of it."""

    name: str
    odds: float
    low: float
    high: float


class Leaderboard(Frozen):
    """The versions, best first."""

    standings: tuple[Standing, ...]
    style: tuple[StyleEffect, ...]
    judgements: int
    matches: int
    ties: int
    without_text: int  # matches that style control had to leave out: an answer's text was not kept
    groups: tuple[
        tuple[str, ...], ...
    ]  # more than one: between these nobody has compared, so their order means nothing


def looks(text: str) -> Style:
    """An answer's style."""
    return Style(len(text), len(_LIST.findall(text)), len(_MARKS.findall(text)))


def leaderboard(
    stored: Iterable[StoredJudgement], weights: Mapping[str, float], styles: Mapping[str, Style] | None = None,
    item: Callable[[StoredJudgement], Any] = lambda kept: tuple(sorted(kept.judgement.shown)),
    resamples: int = RESAMPLES, seed: int = 0,
) -> Leaderboard:  # fmt: skip
    """The leaderboard of judgements that stand; with `styles` (by response) at equal style.

    Raters who are not in `weights` weigh 1. Raises `DataError` if no two versions were compared.
    """
    known = [kept for kept in stored if isinstance(kept.judgement, Comparison | Ranking)]
    found, missing = [], 0
    for kept in known:
        for match in matches(kept, weights.get(kept.judgement.rater, 1.0), styles, item(kept)):
            if match is None:
                missing += 1
            elif match.weight > 0:
                found.append(match)
    between = [match for match in found if match.first != match.second]
    if not between:
        why = f"; style control left out {missing} matches whose texts were not kept" if missing else ""
        raise DataError(f"no two versions have been compared among {len(known)} comparisons and rankings{why}")
    versions = sorted({name for match in between for name in (match.first, match.second)})
    if styles is None:
        found = between  # two answers of one version tell something of style only
    strengths, drawn = _estimate(found, versions, resamples, seed)
    return Leaderboard(
        standings=_standings(versions, between, strengths, drawn),
        style=_effects(strengths[len(versions) :], drawn[:, len(versions) :]),
        judgements=len(known), matches=len(found), ties=sum(match.won == 0.5 for match in found),
        without_text=missing, groups=_groups(versions, between),
    )  # fmt: skip


def matches(kept: StoredJudgement, weight: float, styles: Mapping[str, Style] | None,
            item: Any) -> Iterable[Match | None]:  # fmt: skip
    """Every two answers of a judgement; None where style control lacks a text."""
    judgement = kept.judgement
    assert isinstance(judgement, Comparison | Ranking)
    if isinstance(judgement, Comparison):
        ranks: tuple[int, ...] = {"first": (0, 1), "second": (1, 0)}.get(judgement.verdict, (0, 0))
    else:
        ranks = judgement.ranks
    for i in range(len(ranks)):
        for j in range(i + 1, len(ranks)):
            won = 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
            apart: tuple[float, ...] = ()
            if styles is not None:
                one, other = styles.get(judgement.shown[i]), styles.get(judgement.shown[j])
                if not one or not other or not one.characters or not other.characters:
                    yield None
                    continue
                apart = tuple((a - b) / (a + b) if a + b else 0.0 for a, b in zip(one, other, strict=True))
            yield Match(item, kept.versions[i], kept.versions[j], won, weight * 2 / len(ranks), apart)


def _estimate(found: Sequence[Match], versions: Sequence[str], resamples: int, seed: int) -> tuple[Array, Array]:
    """Strengths (natural log-odds, mean 0) followed by effects of style, and the same of each resampling."""
    number = {version: index for index, version in enumerate(versions)}
    known = len(versions)
    rows = np.zeros((len(found), known + len(found[0].looks)))
    first = np.array([number.get(match.first, 0) for match in found])
    second = np.array([number.get(match.second, 0) for match in found])
    line = np.arange(len(found))
    np.add.at(rows, (line, first), 1.0)
    np.add.at(rows, (line, second), -1.0)
    if found[0].looks:
        rows[:, known:] = [match.looks for match in found]
    design, cell = np.unique(rows, axis=0, return_inverse=True)  # equal matches are counted, not repeated
    weight = np.array([match.weight for match in found])
    won = weight * np.array([match.won for match in found])
    items: dict[Any, int] = {}
    item = np.array([items.setdefault(match.item, len(items)) for match in found])
    sums = [(_summed(cell, won, len(design)), _summed(cell, weight, len(design)))]
    chance = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // len(design))
    whole = _newton(design, np.array([sums[0][0]]), np.array([sums[0][1]]), np.zeros((1, design.shape[1])))
    parts = []
    for start in range(0, resamples, at_once):
        sums = []
        for _ in range(min(at_once, resamples - start)):
            times = np.bincount(chance.integers(0, len(items), len(items)), minlength=len(items))[item]
            sums.append((_summed(cell, won * times, len(design)), _summed(cell, weight * times, len(design))))
        wins, totals = (np.array(column) for column in zip(*sums, strict=True))
        parts.append(_newton(design, wins, totals, np.repeat(whole, len(sums), axis=0)))
    every = np.concatenate([whole, *parts])
    every[:, :known] -= every[:, :known].mean(1, keepdims=True)
    return every[0], every[1:] if resamples else every


def _summed(cell: Array, values: Array, cells: int) -> Array:
    return np.bincount(cell, weights=values, minlength=cells)


def _newton(design: Array, wins: Array, totals: Array, start: Array) -> Array:
    """Penalised logistic regressions over the same cells: wins and totals are regressions × cells."""
    size = design.shape[1]
    slices = max(1, _AT_ONCE // (size * size))
    at = start
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(at @ design.T, -35, 35)))
        slope = (wins - totals * odds) @ design - RIDGE * at
        spread = totals * odds * (1 - odds)
        curve = np.zeros((len(at), size * size))
        for begin in range(0, len(design), slices):
            part = design[begin : begin + slices]
            curve += spread[:, begin : begin + slices] @ (part[:, :, None] * part[:, None, :]).reshape(len(part), -1)
        step = np.linalg.solve(curve.reshape(-1, size, size) + RIDGE * np.eye(size), slope[:, :, None])[:, :, 0]
        at = at + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return at


def _standings(
    versions: Sequence[str], between: Sequence[Match], strengths: Array, drawn: Array
) -> tuple[Standing, ...]:
    played: dict[str, list[float]] = {version: [] for version in versions}
    for match in between:
        played[match.first].append(match.won)
        played[match.second].append(1 - match.won)
    low, high = 1000 + POINTS * np.percentile(drawn[:, : len(versions)], [2.5, 97.5], axis=0)
    found = [
        Standing(version=version, place=1 + int((low > high[index]).sum()),
                 points=round(float(1000 + POINTS * strengths[index]), 1), low=round(float(low[index]), 1),
                 high=round(float(high[index]), 1), matches=len(played[version]),
                 won=sum(played[version]) / len(played[version]))
        for index, version in enumerate(versions)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda standing: -standing.points))


def _effects(strengths: Array, drawn: Array) -> tuple[StyleEffect, ...]:
    """Twice as much is a difference of (2 - 1) / (2 + 1)."""
    found = []
    for index, value in enumerate(strengths):
        low, high = np.percentile(drawn[:, index], [2.5, 97.5])
        odds = (float(np.exp(number / 3)) for number in (value, low, high))
        found.append(StyleEffect(name=STYLES[index], **dict(zip(("odds", "low", "high"), odds, strict=True))))
    return tuple(found)


def _groups(versions: Sequence[str], between: Iterable[Match]) -> tuple[tuple[str, ...], ...]:
    """Versions that hang together by matches."""
    group = {version: {version} for version in versions}
    for match in between:
        if group[match.first] is not group[match.second]:
            group[match.first] |= group[match.second]
            for version in group[match.second]:
                group[version] = group[match.first]
    return tuple(sorted({tuple(sorted(members)) for members in group.values()}))
