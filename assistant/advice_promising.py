"""Whether an arm that was made of a part of the training records can still win. Pure numbers."""

from assistant.advice_types import Figures, Task


def cannot_win(mine: Figures, best: Figures, hope: float, task: Task | None = None, seed: int = 0) -> str | None:
    """Why an arm need not be tried with more records, from both arms' figures on the same validation records.

    `hope`: what all the training records may still add to it, in the metric's unit. None: it may still win.
    """
    raise NotImplementedError
