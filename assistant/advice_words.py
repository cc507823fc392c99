"""An advice in words and numbers: the arms in order, what each costs, which of them nothing beats. No files."""

from collections.abc import Mapping
from typing import NamedTuple

from adapters.exam_types import Interval, Measured
from assistant import exam_words as words
from assistant.advice_types import Advice, Comparison, Figures, Result

_STATES = ("measured", "stopped", "failed", "left out")
_TITLES = {"use": "recommended: {}", "nothing works": "nothing works", "not enough evidence": "not enough evidence"}
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Found(NamedTuple):
    """What is known of an arm's metric."""

    figure: Interval
    rows: int  # that it learnt from
    validation: bool  # on the validation records only: it was stopped before the test


class Cost(NamedTuple):
    """What the measured arms cost, by their names; less is better."""

    title: str
    of: dict[str, float]


def title(advice: Advice) -> str:
    """The result in a few words."""
    recommendation = advice.recommendation
    return _TITLES[recommendation.result].format(recommendation.arm)


def circumstances(advice: Advice) -> str:
    """On what the advice rests."""
    counts = ", ".join(f"{count:,} {split}" for split, count in advice.counts.items())
    time = f"{advice.minutes:.0f} of {advice.budget_minutes:.0f} minutes"
    return f"{advice.task.dataset}: {counts} records; base model {advice.base_model}; {time}; advice {advice.id}"


def metric(advice: Advice) -> str:
    """The deciding figure's name for a person."""
    return words.figure_title(advice.task.metric)


def unit(advice: Advice) -> str:
    """What the deciding figure is counted in, as its measure says."""
    found = (measure(result.test, advice.task.metric) for result in advice.results if result.test)
    return next((one.unit for one in found if one is not None), "share")


def measure(figures: Figures, name: str) -> Measured | None:
    """The figure whose name ends so, such as "accuracy" for "task.accuracy"."""
    return next((one for one in figures.measures if one.name.rpartition(".")[2] == name), None)


def found(result: Result) -> Found | None:
    """The metric on the test records; of a stopped arm the last that the validation records said."""
    if result.test is not None:
        return Found(result.test.main, result.ready.rows if result.ready else 0, validation=False)
    if result.curve:
        return Found(result.curve[-1].found, result.curve[-1].rows, validation=True)
    return None


def ordered(advice: Advice) -> list[Result]:
    """The arms: those with test figures, the best first, then those that were stopped, failed or left out."""
    turn = -1 if advice.task.better == "higher" else 1

    def place(result: Result) -> tuple[int, float]:
        known = found(result)
        return 0 if result.test else _STATES.index(result.state), turn * known.figure.value if known else 0.0

    return sorted(advice.results, key=place)


def unfinished(advice: Advice) -> list[tuple[Result, str]]:
    """The arms that did not come to the end, or not as far as they might have, and what became of them."""
    told = {"measured": "not all of it"}
    return [(one, told.get(one.state, one.state)) for one in ordered(advice) if one.why]


def left_out(advice: Advice) -> list[str]:
    """What else was left out: without what `unfinished` tells already."""
    told = {f"{one.arm.name}: {one.why}" for one in advice.results}
    return [line for line in advice.left_out if line not in told]


def growth(advice: Advice) -> list[str]:
    """What more data would bring, of each arm that learns."""
    return [f"{one.arm}: {one.told}" for one in advice.recommendation.growth]


def growth_that_matters(advice: Advice) -> list[str]:
    """The same of the recommended arm and the best one, where what would change the verdict does not tell it."""
    told, arms = " ".join(advice.recommendation.changes), (advice.recommendation.arm, advice.recommendation.best)
    return [
        f"{one.arm}: {one.told}" for one in advice.recommendation.growth if one.arm in arms and one.told not in told
    ]


def currency(advice: Advice) -> str:
    """What prices are told in; empty where brogue.toml does not say."""
    found = (measure(result.test, "price_per_1000") for result in advice.results if result.test)
    unit = next((one.unit for one in found if one is not None), "")
    return "" if unit == "money" else unit


def beside_the_best(advice: Advice) -> dict[str, Comparison]:
    """What was found of each arm beside the best one, by the arm's name."""
    return {one.arm: one for one in advice.recommendation.comparisons}


def standing(advice: Advice, result: Result) -> str:
    """How an arm does beside the best one."""
    if result.arm.name == advice.recommendation.best:
        return "the best"
    comparison = beside_the_best(advice).get(result.arm.name)
    if comparison is None:
        return ""
    return "worse" if comparison.worse else "perhaps as good"


def cost_of_asking(advice: Advice) -> Cost:
    """The price of 1,000 answers where all arms have one, else seconds for an answer."""
    measured = [(one, one.test) for one in advice.results if one.test is not None]
    prices = {one.arm.name: one.price_per_1000 for one, _ in measured if one.price_per_1000 is not None}
    if measured and len(prices) == len(measured):
        return Cost("price of 1,000 answers", prices)
    return Cost("seconds for an answer", {one.arm.name: test.seconds_p50 for one, test in measured})


def cost_of_making(advice: Advice) -> Cost:
    """Minutes that each arm took to make."""
    measured = [one for one in advice.results if one.test is not None]
    return Cost("minutes to make it", {one.arm.name: one.ready.minutes if one.ready else 0.0 for one in measured})


def front(quality: Mapping[str, float], cost: Mapping[str, float], better: str = "higher") -> list[str]:
    """The names that no other beats in quality and cost (Pareto): the cheapest first. `cost`: less is better."""
    turn = 1 if better == "higher" else -1
    kept: list[str] = []
    for name in sorted(cost, key=lambda one: (cost[one], -turn * quality[one])):
        if not kept or turn * quality[name] > turn * quality[kept[-1]]:
            kept.append(name)
    return kept


def span(interval: Interval, unit: str) -> str:
    """An interval, short: "79.0–86.5"; its unit stands before."""
    return "–".join(words.number(end, unit, False).removesuffix("%") for end in (interval.low, interval.high))


def minutes(value: float) -> str:
    """Minutes, short."""
    return "0" if not value else "<0.1" if value < 0.1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def minutes_to_make(result: Result) -> str:
    """What it took to make an arm; of a stopped one, all that was tried of it."""
    return minutes(result.ready.minutes if result.test and result.ready else sum(one.minutes for one in result.curve))


def seconds(value: float) -> str:
    """Seconds, short."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def size(count: int) -> str:
    """Bytes as people read them."""
    for factor, name in _SIZES:
        if count >= factor:
            return f"{count / factor:,.{0 if count >= 100 * factor else 1}f}\u00a0{name}"
    return f"{count:,}\u00a0bytes"


def p_value(p: float) -> str:
    """A p-value; below a thousandth only that is said."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
