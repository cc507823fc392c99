"""What is measured of an arm: the exam's own figures, reckoned from an exam's room with one arm, "version"."""

from collections.abc import Sequence

from adapters.exam_types import Interval, Room
from assistant.advice_types import Figures, Task
from data.dataset import Row


def measure(task: Task, room: Room, rows: Sequence[Row], seed: int = 0, plain: Room | None = None) -> Figures:
    """The figures of the arm in `room` on `rows`; the parts are in their order. Raises `BrogueError`.

    `plain`: the room of the arm without any training (the prompt alone): with it, answers in words are also told from
    that arm's (`voice.likeness`).
    """
    raise NotImplementedError


def consistency(task: Task, room: Room, rows: Sequence[Row], seed: int = 0) -> Interval:
    """How far the arm says the same when it is asked again at temperature 0.7, of the first 30 of `rows`."""
    raise NotImplementedError
