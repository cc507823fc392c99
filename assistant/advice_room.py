"""The room in which an arm is measured: a `Room` (adapters/exam_types.py) of one "version", asked as a client would."""

from collections.abc import Sequence

from adapters.exam_types import Arm as Who
from assistant.advice_lab import Lab
from assistant.advice_types import Ready
from data.dataset import Row


class ArmRoom:
    """`rows` are what every part gives, in their order, whatever split it names. What was asked once is kept."""

    def __init__(self, lab: Lab, ready: Ready, rows: Sequence[Row]) -> None:
        self.arms: tuple[Who, ...] = ("version",)
        self._lab, self._ready, self._rows = lab, ready, list(rows)
