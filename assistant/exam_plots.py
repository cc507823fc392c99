"""The plots of an exam, as SVG in the page's colours: the changes, and the figures by slice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.exam_types import Arm, Interval, Measured
from assistant.exam_words import Judged, unit_of_change
from assistant.report_plots import ALARM, BAR, INK, LINE, MOST, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAME = 30  # characters of a figure's name
_COLOURS = {"better": BAR, "worse": ALARM}


def changes(found: Sequence[Judged]) -> dict[str, str]:
    """Heading → SVG for each unit: the changes with their intervals, better to the right."""
    by_unit: dict[str, list[Judged]] = {}
    for one in found:
        if one.change is not None and one.way not in ("same", "stated"):
            by_unit.setdefault(one.figure.unit, []).append(one)
    return {f"Changes in {unit_of_change(unit)}": _changes(unit, some[:MOST]) for unit, some in by_unit.items()}


def by_slice(figure: Measured, other: Arm, names: dict[Arm, str]) -> str | None:
    """A figure's slices, the version and whom it is compared with side by side; none for a figure without."""
    slices = {name: arms for name, arms in figure.slices.items() if "version" in arms}
    if len(slices) < 2:
        return None
    shown = dict(list(slices.items())[:MOST])
    factor = 100 if figure.unit == "share" else 1

    def fill(axes: "Axes") -> None:
        for place, arms in enumerate(shown.values()):
            for arm, colour, shift in (("version", BAR, -0.14), (other, INK, 0.14)):
                if arm in arms:
                    interval(axes, arms[arm], place + shift, colour, factor, hollow=arm != "version")
        for arm, colour in (("version", BAR), (other, INK)):
            if arm in names:
                face = colour if arm == "version" else "none"
                axes.plot([], [], "o", color=colour, markerfacecolor=face, label=names[arm])
        axes.set_yticks(range(len(shown)), [short(name) for name in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("%" if figure.unit == "share" else figure.unit)
        axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    return draw(1.1 + 0.42 * len(shown), fill)


def by_version(
    points: Sequence[tuple[int, Interval]], versions: Sequence[int], share: bool, even: float | None = None
) -> str:
    """A figure of an adapter's `versions`, the oldest first: a dot with its interval each. `even`: a line there."""
    factor = 100 if share else 1
    at = {version: place for place, version in enumerate(versions)}

    def fill(axes: "Axes") -> None:
        if even is not None:
            axes.axhline(even * factor, color=INK, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
        places = [at[version] for version, _ in points]
        axes.plot(places, [found.value * factor for _, found in points], color=LINE, linewidth=1.6, zorder=1)
        for place, (_, found) in zip(places, points, strict=True):
            axes.plot([place, place], [found.low * factor, found.high * factor], color=BAR, linewidth=1.8)
            axes.plot(place, found.value * factor, "o", color=BAR, markersize=6)
        axes.set_xticks(range(len(versions)), [str(version) for version in versions])
        axes.set_xlim(-0.6, len(versions) - 0.4)
        axes.set_xlabel("version")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))

    from matplotlib.ticker import MaxNLocator, PercentFormatter

    return draw(2.2, fill)


def _changes(unit: str, shown: Sequence[Judged]) -> str:
    from matplotlib.ticker import MaxNLocator

    factor = 100 if unit == "share" else 1

    def fill(axes: "Axes") -> None:
        for place, one in enumerate(shown):
            if one.change is not None:
                turned = _turned(one.change) if one.figure.better == "lower" else one.change
                interval(axes, turned, place, _COLOURS.get(one.way, INK), factor, hollow=one.way == "open")
        axes.axvline(0, color=LINE, linewidth=1.2, zorder=0)
        axes.set_yticks(range(len(shown)), [short(one.figure.name) for one in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))  # small figures are long words
        axes.set_xlabel("← worse · better →")

    return draw(0.7 + 0.34 * len(shown), fill)


def interval(axes: "Axes", found: Interval, place: float, colour: str, factor: float, hollow: bool) -> None:
    """A dot at a figure's value, `factor` times, and a line from end to end of its interval."""
    axes.plot([found.low * factor, found.high * factor], [place, place], color=colour, linewidth=1.6)
    face = "none" if hollow else colour
    axes.plot(found.value * factor, place, "o", color=colour, markerfacecolor=face, markersize=6)


def _turned(change: Interval) -> Interval:
    return Interval(value=-change.value, low=-change.high, high=-change.low)


def short(name: str) -> str:
    """A name that leaves room for the picture."""
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
