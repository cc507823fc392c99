"""The advisor's arms: which ways there are to do a task, in the order of what they promise for their minutes."""

from collections.abc import Mapping

from assistant.advice_lab import Lab
from assistant.advice_types import Arm, Ready, Records, Task
from data.settings import Settings


def arms_for(task: Task, records: Records, settings: Settings, knowledge: bool) -> list[Arm]:
    """The arms that fit the task; `knowledge`: whether there are documents. What an arm needs stands before it."""
    raise NotImplementedError


def make(lab: Lab, arm: Arm, records: Records, ready: Mapping[str, Ready]) -> Ready:
    """The arm, ready to be asked, made of `records.train` (a part of it for a learning curve).

    `ready`: the arms that it needs, by name; one that is not there is made first. To make the same again costs
    nothing, also after a kill. Raises `BrogueError` where it cannot be made.
    """
    raise NotImplementedError
