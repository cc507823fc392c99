"""The arms side by side on the test records: the cheapest first, each beside the best, and which work at all. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from scipy.stats import norm  # type: ignore[import-untyped]

from adapters.exam_types import Interval
from assistant.advice_statistics import LEVEL, Apart, above, all_apart, holm
from assistant.advice_types import Comparison, Figures, Result, Task

MARGIN = 0.10  # of the metric, a share: what the chosen arm may be worse by at most, by its interval
WORTH = 0.05  # of the metric: a gain that is surely less is not worth weights of one's own
FEWEST = 50  # test records; with fewer only a significant difference decides
LEAST = 0.02  # of the metric: less is nothing, however low the floor
SHOWN = 0.15  # above the floor: records that would not even show this cannot say that nothing works
FineTune = Literal["worth it", "not worth it", "cannot be told"]


@dataclass(frozen=True)
class Field:
    """What was measured of the arms on the same test records."""

    task: Task
    arms: tuple[Result, ...]  # the cheapest first
    best: Result
    pairs: Mapping[tuple[str, str], Apart]  # of every two arms, as the metric is measured
    comparisons: tuple[Comparison, ...]  # of the others, in the arms' order
    works: frozenset[str]  # the arms that are surely above their bar
    blur: float  # how far above its bar the best arm would have to be to be surely so
    aside: tuple[str, ...]  # arms that have fewer test records

    @property
    def n(self) -> int:
        """Test records."""
        return figures(self.best).n

    @property
    def worse(self) -> frozenset[str]:
        """The arms that are significantly worse than the best."""
        return frozenset(one.arm for one in self.comparisons if one.worse)

    @property
    def shows(self) -> bool:
        """Would these records show an arm that is well above the floor?"""
        return self.blur <= SHOWN

    def highest(self, trained: bool) -> Result | None:
        """The best of the arms that are fine-tuned, or of all others; none if there is none."""
        turn = 1 if self.task.better == "higher" else -1
        some = [one for one in self.arms if (one.arm.family == "fine-tuned") == trained]
        return max(some, key=lambda one: turn * figures(one).main.value, default=None)

    def gain(self, arm: Result, over: Result) -> Apart:
        """How much better an arm is than another: up is better, whatever the metric's direction."""
        found = beside(self.pairs, arm.arm.name, over.arm.name)
        return found._replace(difference=turned(self.task, found.difference))


class Choice(NamedTuple):
    """What the rules choose, and why."""

    arm: Result
    meets: bool  # the target, surely
    even: tuple[Result, ...]  # arms that are not significantly worse than the best, the cheapest first
    rivals: tuple[Result, ...]  # those of them that may be better than the chosen one by more than the margin
    needed: int | None  # test records that would tell these from it


def figures(result: Result) -> Figures:
    """What the test records say of an arm that was measured."""
    assert result.test is not None
    return result.test


def turned(task: Task, difference: Interval) -> Interval:
    """With up for better."""
    return difference if task.better == "higher" else negative(difference)


def negative(difference: Interval) -> Interval:
    """The difference the other way round."""
    return Interval(value=-difference.value, low=-difference.high, high=-difference.low)


def beside(pairs: Mapping[tuple[str, str], Apart], mine: str, other: str) -> Apart:
    """`mine` less `other`, whichever came first."""
    if (mine, other) in pairs:
        return pairs[mine, other]
    found = pairs[other, mine]
    return found._replace(difference=negative(found.difference))


def field_of(task: Task, results: Sequence[Result], seed: int = 0) -> Field | None:
    """The arms that have test figures; none if there are none."""
    tested = sorted((one for one in results if one.test is not None), key=cost)
    if not tested:
        return None
    most = max(len(figures(one).parts) for one in tested)
    arms = [one for one in tested if len(figures(one).parts) == most]
    turn = 1 if task.better == "higher" else -1
    best = max(arms, key=lambda one: turn * figures(one).main.value)  # of equals the cheapest
    pairs = all_apart({one.arm.name: figures(one) for one in arms}, seed)
    return Field(
        task=task,
        arms=tuple(arms),
        best=best,
        pairs=pairs,
        comparisons=_comparisons(task, arms, best, pairs),
        works=frozenset(one.arm.name for one in arms if _works(task, figures(one), len(arms), seed)),
        blur=_blur(figures(best), len(arms)),
        aside=tuple(one.arm.name for one in tested if one not in arms),
    )


def cost(result: Result) -> tuple[int, int, int, str]:
    """What an arm costs: what it takes to keep it up, then the tokens of an answer, then whole minutes to make it."""
    tokens = result.test.prompt_tokens + result.test.answer_tokens if result.test else 0
    minutes = result.ready.minutes if result.ready else 0
    return result.arm.upkeep, round(tokens), round(minutes), result.arm.name


def bar(task: Task, found: Figures) -> float:
    """What an arm has to be above: the floor, what its own answers score on other records, and next to nothing."""
    if task.better == "lower":
        return min(task.floor, found.by_chance if found.by_chance is not None else task.floor)
    return max(task.floor, LEAST, found.by_chance or 0.0)


def _comparisons(task: Task, arms: Sequence[Result], best: Result,
                 pairs: Mapping[tuple[str, str], Apart]) -> tuple[Comparison, ...]:  # fmt: skip
    """Each arm less the best one. Holm's correction is for all pairs: which arm is best was seen on these records."""
    corrected = dict(zip(pairs, holm([one.p for one in pairs.values()]), strict=True))
    found = []
    for name in (one.arm.name for one in arms if one is not best):
        one = beside(pairs, name, best.arm.name)
        p = corrected.get((name, best.arm.name), corrected.get((best.arm.name, name), 1.0))
        worse = p < LEVEL and turned(task, one.difference).value < 0
        found.append(Comparison(arm=name, difference=one.difference, p=one.p, p_holm=p, worse=worse))
    return tuple(found)


def _works(task: Task, found: Figures, arms: int, seed: int) -> bool:
    """Surely above its bar, also as one of so many that had the chance (Bonferroni)."""
    return arms * above(found, bar(task, found), task.better, seed) < LEVEL


def _blur(found: Figures, arms: int) -> float:
    wider = float(norm.isf(LEVEL / arms) / norm.isf(0.025))
    return wider * (found.main.high - found.main.low) / 2
