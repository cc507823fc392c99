"""The raters' queues in the store: tasks, who has which turn, what is left.

Any number of processes may ask for turns and judge at once: a claim and a judgement with its turn are one transaction
each.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from data.judgements import StoredJudgement
from data.queues import NewQueue, Progress, Prompt, Queue, Said, Task, Turn
from data.store import Store

IDLE = timedelta(minutes=30)  # a turn without a sign of its rater holds its task for so long
BETWEEN = 5  # other turns before a task comes back to the same rater


class Queues:
    """The queues of a store. Unknown names and ids raise `UnknownName`, others' turns `NotYours`; all one line."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, new: NewQueue, prompts: Sequence[Prompt]) -> Queue:
        """A queue with a task for each prompt (see data/queue_prompts.py: `gather`). A taken name is refused."""
        raise NotImplementedError

    def all(self) -> list[Queue]:
        """All queues, newest first."""
        raise NotImplementedError

    def get(self, name: str) -> Queue:
        """One queue."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Remove a queue with its tasks and turns; responses and judgements stay."""
        raise NotImplementedError

    def next(self, queue: str, rater: str) -> Turn | None:
        """The rater's open turn (the last one touched), or a new one; none if there is nothing for them at present."""
        raise NotImplementedError

    def turn(self, turn_id: str, rater: str) -> Turn:
        """A turn of this rater's as it is shown, judged or not."""
        raise NotImplementedError

    def task(self, turn_id: str, rater: str) -> Task:
        """What is behind a turn: the arms in the order shown, and which of them have answered."""
        raise NotImplementedError

    def set_answers(self, task_id: str, answers: Mapping[int, str]) -> None:
        """Keep which responses (already in the store) are the answers of which arms (`Slot.number`).

        The first one of an arm wins; read the task or turn again to see which. Raises `UnknownName` also for a
        response that is not in the store (yet).
        """
        raise NotImplementedError

    def judge(self, turn_id: str, rater: str, said: Said) -> StoredJudgement:
        """Keep what a rater says of a turn. The same again is acknowledged again; something else is refused."""
        raise NotImplementedError

    def skip(self, turn_id: str, rater: str, reason: str = "") -> None:
        """Leave a turn to others; it does not come back to this rater."""
        raise NotImplementedError

    def undo(self, turn_id: str, rater: str) -> Turn:
        """Take back a turn's judgement, or that it was skipped: it is open again, and the next one of this rater."""
        raise NotImplementedError

    def progress(self, queue: str, rater: str) -> Progress:
        """How far a rater is."""
        raise NotImplementedError

    def may_see(self, rater: str, response_id: str) -> bool:
        """Whether the rater has (had) a turn that shows this response."""
        raise NotImplementedError
