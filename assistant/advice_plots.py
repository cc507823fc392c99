"""The plots of an advice, as SVG in the page's colours: quality by arm and against cost, and the learning curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adapters.exam_types import Interval
from assistant import advice_words as shown
from assistant.advice_types import Advice, Growth, Result
from assistant.advice_words import Cost
from assistant.exam_plots import interval, short
from assistant.report_plots import ALARM, BAR, INK, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLACES = ((8, 3), (8, -11), (-8, 3), (-8, -11), (0, 9), (0, -17))  # of a number beside its dot, in points
_APART = 11  # points between two numbers
_RATIO = 1.45  # between two ticks of a learning curve
_DECADES = 4  # ticks of a logarithmic axis, more are words on words


def by_arm(advice: Advice) -> str:
    """The metric of each measured arm with its interval, the best on top; the recommended one is filled."""
    measured = [result for result in shown.ordered(advice) if result.test]

    def fill(axes: "Axes") -> None:
        for place, result in enumerate(measured):
            chosen = result.arm.name == advice.recommendation.arm
            if result.test:
                interval(axes, result.test.main, place, BAR if chosen else INK, _factor(advice), hollow=not chosen)
        if advice.target is not None:
            axes.axvline(advice.target * _factor(advice), color=ALARM, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(measured)), [short(result.arm.name) for result in measured])
        axes.set_ylim(len(measured) - 0.5, -0.5)
        axes.set_xlabel("%" if _factor(advice) == 100 else shown.unit(advice))

    return draw(0.7 + 0.3 * len(measured), fill)


def against_cost(advice: Advice, cost: Cost, numbers: Mapping[str, int]) -> str:
    """A dot for each measured arm, numbered; those that none beats in quality and cost are joined (Pareto)."""
    quality = {one.arm.name: one.test.main for one in advice.results if one.test and one.arm.name in cost.of}
    front = shown.front({name: found.value for name, found in quality.items()}, cost.of, advice.task.better)
    factor = _factor(advice)

    def fill(axes: "Axes") -> None:
        for name, found in quality.items():
            colour, face = (BAR, BAR) if name in front else (INK, "none")
            axes.plot([cost.of[name]] * 2, [found.low * factor, found.high * factor], color=colour, alpha=0.45,
                      zorder=0)  # fmt: skip
            axes.plot(cost.of[name], found.value * factor, "o", color=colour, markerfacecolor=face, markersize=6)
            if name == advice.recommendation.arm:
                axes.plot(cost.of[name], found.value * factor, "o", color=BAR, markerfacecolor="none", markersize=12)
        steps = [quality[name].value * factor for name in front]
        axes.plot([cost.of[name] for name in front], steps, color=BAR, linewidth=1.4, drawstyle="steps-post", zorder=1)
        _quality_axis(axes, advice)
        _cost_axis(axes, list(cost.of.values()))
        axes.set_xlabel(f"← cheaper · {cost.title}")
        _numbered(axes, {numbers[name]: (cost.of[name], found.value * factor) for name, found in quality.items()})

    return draw(3.4, fill)


def curve(advice: Advice, result: Result, growth: Growth | None, limits: tuple[float, float]) -> str:
    """The metric by the number of training rows; dashed, what twice the rows would bring. `limits`: of the metric."""
    factor = _factor(advice)
    points = sorted(result.curve, key=lambda point: point.rows)
    rows = [point.rows for point in points]

    def fill(axes: "Axes") -> None:
        axes.plot(rows, [point.found.value * factor for point in points], color=BAR, linewidth=1.6)
        for point in points:
            _upright(axes, point.found, point.rows, factor, hollow=False)
        ticks = rows
        if growth is not None:
            last, more = points[-1], _bounded(points[-1].found.value, growth.twice, factor)
            ends = [last.found.value * factor, more.value * factor]
            axes.plot([last.rows, 2 * last.rows], ends, color=BAR, linewidth=1.4, linestyle=(0, (4, 3)))
            _upright(axes, more, 2 * last.rows, factor, hollow=True)
            ticks = [*rows, 2 * last.rows]
        axes.set_xscale("log")
        ticks = _apart(ticks)
        axes.set_xticks(ticks, [_count(one) for one in ticks])
        axes.minorticks_off()
        axes.set_ylim(limits[0] * factor, limits[1] * factor)
        _quality_axis(axes, advice)
        axes.set_xlabel("training rows")

    return draw(2.4, fill)


def limits(advice: Advice, growth: Mapping[str, Growth]) -> tuple[float, float]:
    """The least and most of all curves and what they promise, so that the arms' pictures can be compared."""
    ends = [end for one in advice.results for point in one.curve for end in (point.found.low, point.found.high)]
    for one in advice.results:
        if one.curve and one.arm.name in growth:
            more = _bounded(max(one.curve, key=lambda point: point.rows).found.value, growth[one.arm.name].twice,
                            _factor(advice))  # fmt: skip
            ends += [more.low, more.high]
    room = 0.04 * (max(ends) - min(ends) or 1)
    return min(ends) - room, max(ends) + room


def _bounded(last: float, twice: Interval, factor: float) -> Interval:
    """The figure at twice the rows; a share stays one."""
    top = 1.0 if factor == 100 else float("inf")
    ends = [max(0.0, min(top, last + gain)) for gain in (twice.value, twice.low, twice.high)]
    return Interval(value=ends[0], low=ends[1], high=ends[2])


def _upright(axes: "Axes", found: Interval, place: float, factor: float, hollow: bool) -> None:
    axes.plot([place, place], [found.low * factor, found.high * factor], color=BAR, linewidth=1.4)
    axes.plot(place, found.value * factor, "o", color=BAR, markerfacecolor="none" if hollow else BAR, markersize=6)


def _quality_axis(axes: "Axes", advice: Advice) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.yaxis.set_major_locator(MaxNLocator(5))
    if _factor(advice) == 100:
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    if advice.target is not None:
        low, high = axes.get_ylim()
        axes.axhline(advice.target * _factor(advice), color=ALARM, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
        axes.set_ylim(low, max(high, advice.target * _factor(advice)))


def _cost_axis(axes: "Axes", costs: Sequence[float]) -> None:
    """Logarithmic where the costs differ much; nothing at all has a place at its left end."""
    import math

    from matplotlib.ticker import MaxNLocator

    some = [one for one in costs if one > 0]
    if not some or max(some) < 5 * min(some):
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.12)
        return
    axes.set_xscale("symlog", linthresh=min(some), linscale=0.5)
    powers = range(math.ceil(math.log10(min(some))), math.floor(math.log10(max(some))) + 1)
    steps = (1, 3) if len(powers) <= _DECADES // 2 else (1,)
    kept = [step * 10.0**power for power in list(powers)[:: -(-len(powers) // _DECADES) or 1] for step in steps]
    kept = [tick for tick in kept if tick <= 1.2 * max(some)]
    ticks = [0.0, *kept] if 0 in costs else kept
    axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(x=0.12)


def _numbered(axes: "Axes", points: Mapping[int, tuple[float, float]]) -> None:
    """Each dot's number beside it, where no other dot or number stands."""
    scale = 72 / axes.figure.dpi
    dots = {number: axes.transData.transform(point) * scale for number, point in points.items()}
    taken = [tuple(dot) for dot in dots.values()]
    for number, (x, y) in dots.items():
        free = [
            (right, up) for right, up in _PLACES
            if all(abs(x + right - left) > _APART or abs(y + up + 4 - down) > _APART
                   for left, down in taken if (left, down) != (x, y))
        ]  # fmt: skip
        right, up = (free or _PLACES)[0]
        taken.append((x + right, y + up + 4))
        side = "left" if right > 0 else "right" if right < 0 else "center"
        axes.annotate(str(number), points[number], (right, up), textcoords="offset points", ha=side, fontsize=11)


def _apart(rows: Sequence[int]) -> list[int]:
    """Those of the numbers, ascending, between which there is room for their words; the last is one of them."""
    kept: list[int] = []
    for one in reversed(rows):
        if not kept or kept[0] >= _RATIO * one:
            kept.insert(0, one)
    return kept


def _count(rows: int) -> str:
    return f"{rows / 1000:g}k" if rows >= 10_000 else f"{rows:,}"


def _factor(advice: Advice) -> float:
    return 100 if shown.unit(advice) == "share" else 1
