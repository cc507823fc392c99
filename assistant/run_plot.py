"""A training run's loss curve as a picture: every step, and the validation losses."""

from pathlib import Path
from typing import Any

from adapters.runs import Run
from data.exporting import whole_file

_INK, _SOFT, _LINE, _DOT = "#20242a", "#8a929c", "#1f5fa8", "#b4441f"


def draw(run: Run, lines: list[dict[str, Any]], path: Path) -> None:
    """Write the PNG `path`, whole or not at all; `lines` are the run's metrics in order."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    held_out = [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    style: Any = {"font.size": 11, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK,
                  "ytick.color": _INK, "axes.edgecolor": _SOFT, "axes.spines.top": False,
                  "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.5, 4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.plot(*zip(*trained, strict=True), color=_LINE, linewidth=1.2, alpha=0.8, label="training")
        if held_out:
            axes.plot(*zip(*held_out, strict=True), "o-", color=_DOT, linewidth=1.5, label="validation")
            axes.legend(frameon=False)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_title(f"{run.id} ({run.recipe}, {run.asked.dataset})", loc="left", fontsize=12, parse_math=False)
        with whole_file(path, replace=True) as temporary:
            figure.savefig(temporary, format="png", dpi=130)
