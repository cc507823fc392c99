"""What a training tells while it runs, and how it ends early."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from data.errors import BrogueError
from data.settings import Frozen

METRICS = "metrics.jsonl"  # in a run's folder
TRAINING, MEASURING = "training", "measuring"
Part = TypeVar("Part")


class TrainProgress(Frozen):
    """What a progress bar needs: once a step, and once a batch of held-out rows."""

    step: int
    steps: int
    loss: float | None
    tokens_per_s: float  # 0: not counted
    seconds_left: float  # of this phase
    phase: str = TRAINING
    figures: dict[str, float] = {}  # what else tells how it goes, such as the reward

    @property
    def words(self) -> str:
        """The figures as a person reads them, such as "loss 0.421, 350 tokens/s, 3 min left"."""
        parts = [] if self.loss is None else [f"loss {self.loss:.3f}"]
        parts += [f"{name} {value:.2f}" for name, value in self.figures.items()]
        parts += [f"{self.tokens_per_s:.0f} tokens/s"] if self.tokens_per_s else []
        return ", ".join([*parts, f"{duration(self.seconds_left)} left"])


Tell = Callable[[TrainProgress], None]


def silent(_: TrainProgress) -> None:
    """Nobody is told."""


def measuring(parts: Sequence[Part], tell: Tell) -> Iterator[Part]:
    """The parts of a measurement, one after the other, telling after each how far it is."""
    began = time.monotonic()
    for number, part in enumerate(parts, 1):
        yield part
        left = (time.monotonic() - began) / number * (len(parts) - number)
        tell(TrainProgress(step=number, steps=len(parts), loss=None, tokens_per_s=0, seconds_left=left,
                           phase=MEASURING))  # fmt: skip


def duration(seconds: float) -> str:
    """A time as a person says it: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Interrupted(BrogueError):
    """Ctrl-C or SIGTERM: a checkpoint was written, the same command goes on from it."""


class Diverged(BrogueError):
    """The loss was no number or exploded, or a policy ran away; the last good checkpoint is kept."""
