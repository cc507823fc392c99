"""Arms with figures that are made up: for the advisor's statistics and verdict."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from adapters.exam_types import Interval, Measured
from adapters.held_out import wilson
from assistant.advice_types import Arm, Family, Figures, Ready, Result
from assistant.definitions import Assistant

UPKEEP: dict[Family, int] = {"prompt": 0, "few-shot": 1, "rag": 2, "specialist": 2, "fine-tuned": 3, "other base": 4}


def figures(scores: ArrayLike, groups: Sequence[str] = (), **more: Any) -> Figures:
    """Of one score, 0 to 1, for each record."""
    values = np.asarray(scores, dtype=np.float64)
    parts = np.column_stack([values, np.ones(len(values))])
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    low, high = wilson(float(values.sum()), len(values)) if set(values) <= {0, 1} else (mean - half, mean + half)
    main = Interval(value=mean, low=low, high=high)
    found = Measured(name="task.accuracy", unit="share", better="higher", n=len(values), arms={"version": main})
    return Figures.model_validate({
        "n": len(values), "main": main, "parts": parts.tolist(), "groups": tuple(groups),
        "measures": (found,), "prompt_tokens": 100, "answer_tokens": 10, "seconds_p50": 0.5, "seconds_p95": 1,
    } | more)  # fmt: skip


def tried(name: str, family: Family, scores: ArrayLike, minutes: float = 0.0, **more: Any) -> Result:
    """An arm that was measured on the test records."""
    arm = Arm(name=name, family=family, title=f"the way {name}", upkeep=UPKEEP[family], learns=family == "fine-tuned")
    ready = Ready(arm=name, rows=100, definition=Assistant(name=f"advice-00000000-{name}"), minutes=minutes)
    return Result(arm=arm, state="measured", ready=ready, test=figures(scores, **more))


def untried(name: str, family: Family, state: str, why: str) -> Result:
    """An arm that was not."""
    arm = Arm(name=name, family=family, title=f"the way {name}", upkeep=UPKEEP[family])
    return Result.model_validate({"arm": arm, "state": state, "why": why})
