"""What a training tells while it runs, and how it ends early."""

from data.errors import BrogueError
from data.settings import Frozen

METRICS = "metrics.jsonl"  # in a run's folder


class TrainProgress(Frozen):
    """What a progress bar needs, once a step."""

    step: int
    steps: int
    loss: float | None
    tokens_per_s: float
    seconds_left: float


class Interrupted(BrogueError):
    """Ctrl-C or SIGTERM: a checkpoint was written, the same command goes on from it."""


class Diverged(BrogueError):
    """The loss was no number or exploded; the last good checkpoint is kept."""
