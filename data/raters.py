"""What can be said of each rater: with the others, with themselves, by the side, by the time; and what they weigh.

A flag is raised where the doubt is beyond chance (95% bounds), never on a handful of judgements. A rater without a flag
weighs 1; each flag takes its part away:
- always the left (or right, or first, or last): none is left if it is always so, all of it if it is evenly spread;
- contradicts the others: their alpha with the others, as a share of the others' among themselves;
- contradicts themselves: from 1 where they always repeat what they said down to 0 for a coin's toss;
- faster than one can read: the share of judgements that were not.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from data.agreement import Alpha, WithOthers, alpha, middle_ranks, repeats, tables, verdict, with_others, without
from data.frozen import Frozen
from data.judgements import AnyJudgement, Comparison, Ranking, StoredJudgement, Wanted

if TYPE_CHECKING:
    from data.store import Store

Flag = Literal["always the same side", "contradicts the others", "contradicts themselves", "faster than one can read"]

READ = 60  # characters a second; a good reader manages 20 to 30
SIDE = 0.75  # flagged if the share of one side lies above it for certain
CONSISTENT = 0.8  # flagged if the share of repeats that agree lies below it for certain
SHARED, REPEATED, TIMED = 10, 5, 5  # fewer are not judged


class Share(Frozen):
    """A share with its 95% interval (Wilson), of `of` judgements."""

    value: float
    low: float
    high: float
    of: int


class RaterReport(Frozen):
    """One rater; None where there is nothing to tell by."""

    rater: str
    judgements: int
    shared: int  # of items that others judged too
    with_others: float | None  # alpha with the others: 1 the same, 0 chance
    with_others_low: float | None
    with_others_high: float | None
    others: float | None  # alpha of the others among themselves
    itself: Share | None  # how often the same item got the same word again; of a ranking, the share of its pairs
    first: Share | None  # how often the answer shown first won; ties are left out
    too_fast: Share | None  # judgements with a time, given faster than the answers can be read
    flags: tuple[Flag, ...]
    weight: float


class Agreement(Frozen):
    """All there is to say about how far raters can be trusted."""

    comparisons: Alpha
    rankings: Alpha
    first: Share | None
    assistants: dict[str, dict[str, Alpha]]  # assistant → comparisons, rankings
    raters: tuple[RaterReport, ...]


def agreement(stored: Iterable[StoredJudgement], lengths: Mapping[str, int], seed: int = 0) -> Agreement:
    """Everything, of judgements that stand. `lengths` are the answers' characters; without them no time is too fast."""
    known = sorted(stored, key=lambda kept: (kept.created, kept.judgement.id))
    said = [kept.judgement for kept in known]
    compared, ranked = tables(said)
    by_assistant: dict[str, list[AnyJudgement]] = defaultdict(list)
    for kept in known:
        for name in set(kept.assistants) - {None}:
            by_assistant[str(name)].append(kept.judgement)
    return Agreement(
        comparisons=alpha(compared, seed=seed),
        rankings=alpha(ranked, seed=seed),
        first=share(first_shares(said)),
        assistants={name: _alphas(given, seed) for name, given in sorted(by_assistant.items())},
        raters=reports(said, lengths),
    )


def _alphas(said: list[AnyJudgement], seed: int) -> dict[str, Alpha]:
    compared, ranked = tables(said)
    return {"comparisons": alpha(compared, seed=seed), "rankings": alpha(ranked, seed=seed)}


def weights(stored: Iterable[StoredJudgement], lengths: Mapping[str, int]) -> dict[str, float]:
    """Rater → weight from 0 to 1; who is not in it weighs 1."""
    said = [kept.judgement for kept in sorted(stored, key=lambda kept: (kept.created, kept.judgement.id))]
    return {report.rater: report.weight for report in reports(said, lengths)}


def ranked(store: "Store", wanted: Wanted) -> list[StoredJudgement]:
    """The wanted comparisons and rankings."""
    kinds: tuple[Literal["comparison", "ranking"], ...] = ("comparison", "ranking")
    return [kept for kind in kinds for kept in store.judgements(wanted.model_copy(update={"kind": kind}))]


def weights_in(store: "Store", wanted: Wanted, found: list[StoredJudgement]) -> dict[str, float]:
    """`weights` by everything that raters ever said, whatever part of it is looked at.

    `found` is what was `wanted` of it, so that it need not be read twice where it is everything.
    """
    everything = found if wanted == Wanted() else ranked(store, Wanted())
    return weights(everything, store.judged_lengths())


def reports(said: Sequence[AnyJudgement], lengths: Mapping[str, int]) -> tuple[RaterReport, ...]:
    """Every rater of comparisons and rankings, by name. `said` is in the order in which it was given."""
    compared, ranked = tables(said)
    found = [*compared, *ranked]
    near = with_others(found)
    by_rater: dict[str, list[AnyJudgement]] = defaultdict(list)
    again: dict[str, list[float]] = defaultdict(list)
    for judgement in said:
        if isinstance(judgement, Comparison | Ranking):
            by_rater[judgement.rater].append(judgement)
    for (_, rater), given in repeats(said).items():
        again[rater] += [_same(given[0], later) for later in given[1:]]
    return tuple(
        _report(rater, given, near.get(rater), without(found, rater) if rater in near else None,
                share(again[rater]), share(_too_fast(given, lengths)))
        for rater, given in sorted(by_rater.items())
    )  # fmt: skip


def _report(rater: str, given: list[AnyJudgement], near: WithOthers | None, others: float | None,
            itself: Share | None, fast: Share | None) -> RaterReport:  # fmt: skip
    first = share(first_shares(given))
    left: dict[Flag, float] = {}
    if first and (first.low > SIDE or first.high < 1 - SIDE):
        left["always the same side"] = 2 * min(first.value, 1 - first.value)
    if near and others and others > 0 and near.items >= SHARED and near.high < others / 2:
        left["contradicts the others"] = near.alpha / others
    if itself and itself.of >= REPEATED and itself.high < CONSISTENT:
        left["contradicts themselves"] = 2 * itself.value - 1
    if fast and fast.of >= TIMED and fast.value > 0.5:
        left["faster than one can read"] = 1 - fast.value
    weight = 1.0
    for part in left.values():
        weight *= min(max(part, 0.0), 1.0)
    return RaterReport(
        rater=rater, judgements=len(given), shared=near.items if near else 0,
        with_others=near.alpha if near else None, with_others_low=near.low if near else None,
        with_others_high=near.high if near else None, others=others, itself=itself, first=first, too_fast=fast,
        flags=tuple(left), weight=round(weight, 3),
    )  # fmt: skip


def first_shares(said: Iterable[AnyJudgement]) -> list[float]:
    """For each judgement that decides anything: how far what was shown first won, from 0 to 1.

    Of a ranking, the share of its pairs in which the one shown before is the better.
    """
    found = []
    for judgement in said:
        if isinstance(judgement, Comparison) and judgement.verdict in ("first", "second"):
            found.append(float(judgement.verdict == "first"))
        elif isinstance(judgement, Ranking):
            order = _order(judgement.ranks)
            if any(order):
                found.append(sum(way > 0 for way in order) / sum(way != 0 for way in order))
    return found


def _same(before: AnyJudgement, later: AnyJudgement) -> float:
    """How far two judgements of the same answers say the same, from 0 to 1."""
    if isinstance(before, Comparison) and isinstance(later, Comparison):
        return float(verdict(before) == verdict(later))
    assert isinstance(before, Ranking) and isinstance(later, Ranking)
    was, now = middle_ranks(before), middle_ranks(later)
    answers = sorted(was)
    ways = list(zip(_order([was[a] for a in answers]), _order([now[a] for a in answers]), strict=True))
    return sum(way == other for way, other in ways) / len(ways)


def _order(ranks: Sequence[int]) -> list[int]:
    """Of every two: 1 if the earlier is better, -1 if the later is, 0 for a tie."""
    return [(ranks[i] < ranks[j]) - (ranks[i] > ranks[j]) for i in range(len(ranks)) for j in range(i + 1, len(ranks))]


def _too_fast(given: Iterable[AnyJudgement], lengths: Mapping[str, int]) -> list[float]:
    timed = [(judgement.seconds, sum(lengths.get(r, 0) for r in judgement.shown)) for judgement in given]
    return [float(seconds < length / READ) for seconds, length in timed if seconds is not None and length]


def share(values: Sequence[float]) -> Share | None:
    """The mean of values from 0 to 1, with Wilson's interval (too wide rather than too narrow for parts of 1)."""
    n, z = len(values), 1.96
    if not n:
        return None
    p = sum(values) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return Share(value=p, low=max(0.0, middle - half), high=min(1.0, middle + half), of=n)
