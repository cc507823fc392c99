"""What more training records would bring an arm, from its learning curve. Pure numbers."""

from collections.abc import Sequence

from assistant.advice_types import Growth, Point, Result, Task


def growth(result: Result, task: Task | None = None, seed: int = 0) -> Growth | None:
    """What twice the records would bring; none where the arm has fewer than three points."""
    raise NotImplementedError


def hope(points: Sequence[Point], rows: int, task: Task | None = None, seed: int = 0) -> float:
    """What `rows` training records may add at most to the last point of a curve, in the metric's unit."""
    raise NotImplementedError
