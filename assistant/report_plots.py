"""The plots of a report, as SVG that takes its colours from the page: readable in light and dark, loads nothing."""

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from data.checking_report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that matplotlib draws with; the page's own colours take their places.
_COLOURS = {"#010203": "var(--ink)", "#010204": "var(--bar)", "#010205": "var(--line)", "#010206": "var(--alarm)"}
INK, BAR, LINE, ALARM = _COLOURS
WIDTH = 4.8  # inches: drawn so narrow, the letters keep their size on a telephone
MOST = 20  # bars with names
NAME = 22  # characters of a name


def plots(report: Report) -> dict[str, str]:
    """Heading → SVG, for what the report has figures of."""
    done = {}
    if len(report.histogram) > 1:
        done[f"Lengths in {report.unit}"] = draw(2.6, lambda axes: _histogram(axes, report))
    if report.languages:
        done["Languages"] = _named_bars(report.languages)
    if len(report.classes) > 1:
        total = len(report.classes) + report.other_classes
        heading = f"Records by class (the largest {MOST} of {total:,})" if total > MOST else "Records by class"
        done[heading] = _named_bars(report.classes)
    if len(report.lengths_by_class) > 1:
        boxes = dict(list(report.lengths_by_class.items())[:MOST])
        done[f"Length by class in {report.unit} (half of the records lie in the bar, 95% left of the line's end)"] = (
            draw(_height(len(boxes)), lambda axes: _boxes(axes, boxes))
        )
    return done


def _histogram(axes: "Axes", report: Report) -> None:
    bars = report.histogram
    width = bars[0].high - bars[0].low + 1
    axes.bar([bar.low for bar in bars], [bar.count for bar in bars], width=width * 0.9, align="edge", color=BAR)
    if report.limit <= bars[-1].low + width:
        axes.axvline(report.limit, color=ALARM, linewidth=1.2)
    last = bars[-1]
    axes.set_xlabel(f"{report.unit} (the last bar: {last.low:,} and more)")
    axes.set_ylabel("records")


def _named_bars(values: Mapping[str, int]) -> str:
    shown = dict(sorted(values.items(), key=lambda item: -item[1])[:MOST])

    def fill(axes: "Axes") -> None:
        bars = axes.barh([*map(_short, _unique(shown))], list(shown.values()), color=BAR, height=0.7)
        axes.bar_label(bars, labels=[f"{count:,}" for count in shown.values()], padding=3, color=INK, fontsize=11)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    return draw(_height(len(shown)), fill)


def _boxes(axes: "Axes", boxes: Mapping[str, Any]) -> None:
    """A bar from the first to the third quarter, a line up to the 95th percentile, a mark at the median."""
    for place, lengths in enumerate(boxes.values()):
        axes.plot([lengths.quarter, lengths.p95], [place, place], color=LINE, linewidth=1.5, zorder=0)
        axes.barh(
            place, max(lengths.three_quarters - lengths.quarter, 0.2), left=lengths.quarter, color=BAR, height=0.6
        )
        axes.plot([lengths.median, lengths.median], [place - 0.35, place + 0.35], color=INK, linewidth=1.6)
    axes.set_yticks(range(len(boxes)), [*map(_short, _unique(boxes))])
    axes.set_xlim(left=0)
    axes.invert_yaxis()


def draw(height: float, fill: Callable[["Axes"], None]) -> str:
    """A drawing `WIDTH` wide and `height` inches high as SVG; `fill` draws in the colours INK, BAR, LINE and ALARM."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 12, "text.color": INK,
             "axes.labelcolor": INK, "axes.edgecolor": LINE, "xtick.color": INK, "ytick.color": INK,
             "text.parse_math": False,
             "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        fill(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue())


def _inline(svg: str) -> str:
    """The drawing alone: no prologue, no metadata, no ids that would clash with another plot's, the page's font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:figure|axes|patch|matplotlib\.axis|xtick|ytick|text|line2d|LineCollection)_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg


def _height(bars: int) -> float:
    return 0.6 + 0.27 * bars


def _short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def _unique(names: Mapping[str, Any]) -> list[str]:
    """The names; where two would be cut to the same text, numbered, since equal ones would share a bar."""
    cut = [_short(name) for name in names]
    return [f"{i + 1} {name}" if cut.count(_short(name)) > 1 else name for i, name in enumerate(names)]
