"""Where the advisor's arms are made: datasets without a test row, trainings, indexes, definitions that can be asked.

Everything has a name that follows from what it is made of and is kept on disk, so that what a kill left is taken up.
"""

from collections.abc import Callable
from pathlib import Path

from adapters.base_model import BaseModel
from adapters.exam_asking import Gateway
from assistant.advice_types import Task
from data.home import Home

Tell = Callable[[str], None]


class Lab:
    """One task, one base model, one gateway. `home` need not hold the task's dataset: arms are made of records."""

    def __init__(self, home: Home, id: str, task: Task, base: BaseModel, gateway: Gateway, seed: int, tell: Tell,
                 knowledge: Path | None = None) -> None:  # fmt: skip
        self.home, self.id, self.task, self.base = home, id, task, base
        self.gateway, self.seed, self.tell, self.knowledge = gateway, seed, tell, knowledge
