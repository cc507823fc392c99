"""A run's curves as pictures: a PNG in the run's folder, and SVG that takes its colours from the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import runs
from adapters.curves import Panel, panels
from adapters.progress import METRICS
from adapters.runs import Run
from assistant import report_plots
from data.exporting import whole_file
from data.home import Home

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _SOFT, _LINE, _DOT = "#20242a", "#8a929c", "#1f5fa8", "#b4441f"
_ROUND = [1, 2, 2.5, 5, 10]  # ticks
_DOTS = 60  # measurements; more are a line without dots
_STYLE: Any = {
    "font.size": 11, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.edgecolor": _SOFT, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False,
}  # fmt: skip


def picture(home: Home, run: Run) -> Path | None:
    """The PNG of a run's curves in its folder, drawn anew where there are new figures; none while there are none."""
    path, log = home.runs / run.id / runs.CURVE, home.runs / run.id / METRICS
    if path.exists() and path.stat().st_mtime > log.stat().st_mtime:
        return path
    shown = panels(runs.metrics(home, run.id))
    if shown:
        draw(shown, f"{run.id} ({run.recipe}, {run.asked.dataset})", path)
    return path if shown else None


def draw(shown: list[Panel], title: str, path: Path) -> None:
    """Write the PNG `path`, whole or not at all; two panels a row."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.5 + 4 * columns, 0.6 + 3.2 * rows), layout="constrained", facecolor="white")
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(places, shown, strict=False):
            _fill(axes, panel, _LINE, _DOT)
            axes.set_title(panel.title, loc="left", fontsize=11)
            axes.set_xlabel("step")
        for axes in places[len(shown) :]:
            axes.set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        with whole_file(path, replace=True) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def svg(panel: Panel) -> str:
    """One panel as SVG in the page's colours (report_plots.py says which)."""

    def fill(axes: "Axes") -> None:
        _fill(axes, panel, report_plots.BAR, report_plots.ALARM)
        axes.set_xlabel("step")

    return report_plots.draw(2.5, fill)


def _fill(axes: "Axes", panel: Panel, line: str, dot: str) -> None:
    """The first curve as a line; what is measured now and then with dots."""
    from matplotlib.ticker import MaxNLocator

    for number, curve in enumerate(panel.curves):
        look: dict[str, Any] = {"color": line, "linewidth": 1.4}
        if number:
            look = {"color": dot, "linewidth": 1.6}
        if len(curve.steps) == 1 or (number and len(curve.steps) <= _DOTS):
            look |= {"marker": "o", "markersize": 4.5}
        axes.plot(curve.steps, curve.values, label=curve.name, **look)
    if len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize="small")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.grid(axis="y", linewidth=0.6, alpha=0.35, color=axes.spines["left"].get_edgecolor())
