"""Leaderboards as a picture: a dot and its 95% interval for each version, the best on top; a panel for each group."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data.errors import one_line
from data.exporting import whole_file
from data.leaderboard import Leaderboard

_INK, _SOFT, _BAR = "#20242a", "#8a929c", "#1f5fa8"
_MOST = 40  # versions drawn in a panel
_PANELS = 12  # those with the most matches
_NAME = 36  # characters of a name
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 11, "text.color": _INK, "axes.labelcolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": _SOFT, "axes.spines.top": False,
    "axes.spines.right": False, "axes.spines.left": False,
}  # fmt: skip


def draw(boards: Mapping[str, Leaderboard], path: Path) -> int:
    """Write `path` (.png or .svg), whole or not at all; returns how many of the boards are drawn."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    shown = dict(islice(boards.items(), _PANELS))
    heights = [0.75 + 0.42 * min(len(board.standings), _MOST) for board in shown.values()]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 0.75 + sum(heights)), layout="constrained", facecolor="white")
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, board) in zip(panels, shown.items(), strict=True):
            _panel(axes, name, board)
        figure.supxlabel("points, with 95% interval (400 more: odds of 10 to 1; the mean is 1000)", fontsize=10)
        with whole_file(path, replace=True) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().removeprefix("."), dpi=160)
    return len(shown)


def _panel(axes: Any, name: str, board: Leaderboard) -> None:
    shown = board.standings[:_MOST]
    lines = range(len(shown))
    axes.hlines(lines, [s.low for s in shown], [s.high for s in shown], color=_BAR, linewidth=2.5, alpha=0.55)
    axes.plot([s.points for s in shown], lines, "o", color=_BAR, markersize=7)
    axes.axvline(1000, color=_SOFT, linewidth=0.8, linestyle=":")
    for line, standing in zip(lines, shown, strict=True):
        axes.annotate(f"{standing.points:.0f}", (standing.points, line), (0, 7), textcoords="offset points",
                      ha="center", fontsize=9)  # fmt: skip
    axes.set_yticks(lines, [_short(standing.version) for standing in shown])
    axes.set_ylim(len(shown) - 0.5, -0.7)
    axes.tick_params(axis="y", length=0)
    at_equal = " at equal style" if board.style else ""
    what = f"{one_line(name, _NAME)}: {board.matches:,} matches" if name else f"{board.matches:,} matches"
    axes.set_title(f"{what}{at_equal}" if name else f"Preferred by people{at_equal}: {what}", loc="left", fontsize=12)


def _short(version: str) -> str:
    """A version's name; of a long one the number is kept."""
    name = one_line(version, len(version))
    return name if len(name) <= _NAME else f"{name[: _NAME - 13]}…{name[-12:]}"
