"""A run's log lines as curves: which figures are drawn together, and not more points than a picture can show."""

import math
from collections.abc import Sequence
from typing import Any

from data.settings import Frozen

MOST = 400  # points of a curve; of more, each point is the mean of some
# Title → curves, each with the names that our trainers and TRL's log it by. Those that nothing was logged of are left
# out, so that what a recipe is about comes first: the reward where there is one, else the loss.
PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    "Reward": {"reward": ("reward",)},
    "KL to where it began (nats)": {"KL": ("kl",)},
    "Length (tokens an answer)": {"length": ("tokens", "completions/mean_length")},
    "Loss": {"training": ("loss",), "validation": ("eval_loss",)},
    "Accuracy on held-out rows": {"accuracy": ("eval_accuracy",)},
}


class Curve(Frozen):
    """One line of a panel."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]  # as many


class Panel(Frozen):
    """Curves that share an axis."""

    title: str
    curves: tuple[Curve, ...]

    @property
    def words(self) -> str:
        """The picture in a sentence, for who cannot see it."""
        parts = [f"{c.name} from {c.values[0]:.3g} to {c.values[-1]:.3g}" for c in self.curves]
        return f"{self.title} by step: {', '.join(parts)}"


def panels(lines: Sequence[dict[str, Any]], most: int = MOST) -> list[Panel]:
    """What can be drawn of a run's log lines (`runs.metrics`); values that are no finite numbers are left out."""
    found = []
    for title, names in PANELS.items():
        curves = tuple(curve for name, keys in names.items() if (curve := _curve(name, keys, lines, most)).steps)
        if curves:
            found.append(Panel(title=title, curves=curves))
    return found


def _curve(name: str, keys: Sequence[str], lines: Sequence[dict[str, Any]], most: int) -> Curve:
    points = [(line["step"], line[key]) for line in lines for key in keys if _is_number(line.get(key))]
    size = math.ceil(len(points) / most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]
    return Curve(name=name, steps=tuple(round(s, 1) for s, _ in means), values=tuple(v for _, v in means))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
