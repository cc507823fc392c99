"""A leaderboard as a picture: a dot and its 95% interval for each version, the best on top."""

from pathlib import Path
from typing import Any

from data.errors import one_line
from data.exporting import whole_file
from data.leaderboard import Leaderboard

_INK, _SOFT, _BAR = "#20242a", "#8a929c", "#1f5fa8"
_MOST = 40  # versions drawn
_NAME = 36  # characters of a name


def draw(board: Leaderboard, path: Path) -> None:
    """Write `path` (.png or .svg), whole or not at all."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    shown = board.standings[:_MOST]
    style: Any = {"svg.fonttype": "none", "text.parse_math": False, "font.size": 11, "text.color": _INK,
                  "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": _SOFT,
                  "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.5, 1.5 + 0.42 * len(shown)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        lines = range(len(shown))
        axes.hlines(lines, [s.low for s in shown], [s.high for s in shown], color=_BAR, linewidth=2.5, alpha=0.55)
        axes.plot([s.points for s in shown], lines, "o", color=_BAR, markersize=7)
        axes.axvline(1000, color=_SOFT, linewidth=0.8, linestyle=":")
        for line, standing in zip(lines, shown, strict=True):
            axes.annotate(f"{standing.points:.0f}", (standing.points, line), (0, 7), textcoords="offset points",
                          ha="center", fontsize=9)  # fmt: skip
        axes.set_yticks(lines, [one_line(standing.version, _NAME) for standing in shown])
        axes.set_ylim(len(shown) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("points, with 95% interval (400 more: odds of 10 to 1; the mean is 1000)")
        at_equal = " at equal style" if board.style else ""
        axes.set_title(f"Preferred by people{at_equal}: {board.matches:,} matches", loc="left", fontsize=12)
        with whole_file(path, replace=True) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().removeprefix("."), dpi=160)
