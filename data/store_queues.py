"""The raters' queues in the store: tasks, who has which turn, what is left.

Any number of processes may ask for turns and judge at once: a claim is one transaction, and so is a judgement with the
turn that it ends.
"""

import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName, one_line
from data.judgements import AnyJudgement, StoredJudgement, now
from data.queues import MAX_TASKS, Progress, Prompt, Queue, QueueRules, Said, Task, Turn
from data.store import Store
from data.store_queue_claims import claim, open_turn, progress_of
from data.store_queue_rows import judgement_of, known_queue, known_turn, locked_queue, queue_of, task_of, turn_of
from data.store_rows import known_response
from data.store_schema import AnswerRow, JudgementRow, QueueRow, TaskRow, TurnRow
from data.store_text import storable


class Queues:
    """The queues of a store. Unknown names and ids raise `UnknownName`, others' turns `NotYours`; all one line."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, new: QueueRules, prompts: Sequence[Prompt]) -> Queue:
        """A queue with a task for each prompt (see data/queue_prompts.py: `gather`). A taken name is refused."""
        if self._store.logging == "off":
            raise BrogueError("a queue keeps its prompts and answers: logging is 'off'; set it to 'full' or 'redacted'")
        if not 1 <= len(prompts) <= MAX_TASKS:
            raise BrogueError(f"a queue wants 1 to {MAX_TASKS:,} prompts; found {len(prompts):,}")
        rules = new.model_dump(mode="json", include=set(QueueRules.model_fields) - {"name"})
        shared, again = _some(new.overlap, len(prompts)), _some(new.repeat, len(prompts))
        words = [self._store.kept({"messages": prompt.messages})["messages"] for prompt in prompts]
        with self._store.writing() as session:
            if session.get(QueueRow, new.name) is not None:
                raise BrogueError(f"there is a queue '{new.name}' already; take another name, or remove that one")
            session.add(row := QueueRow(name=new.name, created=now(), rules=rules))
            session.flush()
            for number, prompt in enumerate(prompts):
                session.add(
                    TaskRow(id=f"task-{uuid.uuid4().hex}", queue=new.name, number=number, messages=words[number],
                            topic=prompt.topic, subject=prompt.subject, raters=new.raters if number in shared else 1,
                            again=number in again)
                )  # fmt: skip
            session.flush()
            return queue_of(session, row)

    def all(self) -> list[Queue]:
        """All queues, newest first."""
        with self._store.reading() as session:
            rows = session.scalars(select(QueueRow).order_by(QueueRow.created.desc(), QueueRow.name)).all()
            return [queue_of(session, row) for row in rows]

    def get(self, name: str) -> Queue:
        """One queue."""
        with self._store.reading() as session:
            return queue_of(session, known_queue(session, name))

    def remove(self, name: str) -> None:
        """Remove a queue with its tasks and turns; responses and judgements stay."""
        with self._store.writing() as session:
            session.execute(delete(QueueRow).where(QueueRow.name == locked_queue(session, name).name))

    def next(self, queue: str, rater: str) -> Turn | None:
        """The rater's open turn (the last one touched), or a new one; none if there is nothing for them at present."""
        with self._store.writing() as session:
            held = locked_queue(session, queue)
            row = open_turn(session, held.name, rater) or claim(session, held.name, rater, len(held.rules["arms"]))
            if row is None:
                return None
            row.touched = now()
            return turn_of(row)

    def turn(self, turn_id: str, rater: str) -> Turn:
        """A turn of this rater's as it is shown, judged or not."""
        with self._store.reading() as session:
            return turn_of(known_turn(session, turn_id, rater))

    def task(self, turn_id: str, rater: str) -> Task:
        """What is behind a turn: the arms in the order shown, and which of them have answered."""
        with self._store.reading() as session:
            row = known_turn(session, turn_id, rater)
            return task_of(row, known_queue(session, row.task.queue))

    def set_answers(self, task_id: str, answers: Mapping[int, str]) -> None:
        """Keep which responses (already in the store) are the answers of which arms (`Slot.number`).

        The first one of an arm wins; read the task or turn again to see which. Raises `UnknownName` also for a
        response that is not in the store (yet).
        """
        with self._store.writing() as session:
            task_id = storable(task_id)
            task = session.scalar(select(TaskRow).where(TaskRow.id == task_id).with_for_update())
            if task is None:
                raise UnknownName(f"no task '{one_line(task_id, 60)}'; its queue may have been removed")
            arms = len(known_queue(session, task.queue).rules["arms"])
            there = {answer.number for answer in task.answers}
            for number, response_id in answers.items():
                if not 0 <= number < arms:
                    raise BrogueError(f"queue '{task.queue}' has arms 0 to {arms - 1}; found an answer of arm {number}")
                if number not in there:
                    response = known_response(session, response_id)
                    session.add(AnswerRow(task_id=task.id, number=number, response_id=response.id))

    def judge(self, turn_id: str, rater: str, said: Said) -> StoredJudgement:
        """Keep what a rater says of a turn. The same again is acknowledged again; something else is refused."""
        with self._store.reading() as session:
            judgement = judgement_of(known_turn(session, turn_id, rater), said)
        kept = self._store.said(judgement)
        with self._store.writing() as session:
            row = known_turn(session, turn_id, rater, lock=True)
            if row.state == "skipped":
                raise BrogueError("this turn was skipped or taken back; undo that first")
            if row.state == "judged":
                return self._acknowledged(session, row, judgement, kept)
            # The judgement goes first: it waits for whoever is removing its responses, who removes the turn next.
            stored = self._store.append(session, judgement, kept)
            _end(row, "judged", (now() - row.touched).total_seconds() if said.seconds is None else said.seconds)
            row.judgement_id = judgement.id
            return stored

    def skip(self, turn_id: str, rater: str, reason: str = "") -> None:
        """Leave a turn to others; it does not come back to this rater."""
        words = self._store.kept({"comment": one_line(reason, 1000)})["comment"]
        with self._store.writing() as session:
            row = known_turn(session, turn_id, rater, lock=True)
            if row.state == "judged":
                raise BrogueError("this turn is judged already; undo that first")
            if row.state == "open":
                _end(row, "skipped")
                row.reason = words

    def undo(self, turn_id: str, rater: str) -> Turn:
        """Take back a turn's judgement, or that it was skipped: it is open again, and the next one of this rater."""
        with self._store.writing() as session:
            row = known_turn(session, turn_id, rater, lock=True)
            if row.judgement_id is not None and (given := session.get(JudgementRow, row.judgement_id)) is not None:
                given.taken_back = given.taken_back or now()
            row.state, row.reason, row.judgement_id, row.ended, row.seconds = "open", "", None, None, None
            row.touched = now()
            return turn_of(row)

    def progress(self, queue: str, rater: str) -> Progress:
        """How far a rater is."""
        with self._store.reading() as session:
            return progress_of(session, known_queue(session, queue).name, rater)

    def may_see(self, rater: str, response_id: str) -> bool:
        """Whether the rater has (had) a turn that shows this response."""
        shown = select(TurnRow.id).join(AnswerRow, AnswerRow.task_id == TurnRow.task_id)
        with self._store.reading() as session:
            query = shown.where(AnswerRow.response_id == storable(response_id), TurnRow.rater == rater)
            return session.scalar(query.limit(1)) is not None

    def _acknowledged(self, session: Session, row: TurnRow, judgement: AnyJudgement,
                      kept: dict[str, Any]) -> StoredJudgement:  # fmt: skip
        try:
            return self._store.append(session, judgement.model_copy(update={"id": row.judgement_id}), kept)
        except BrogueError:
            raise BrogueError("this turn is judged already, in another way; undo that first") from None


def _some(share: float, count: int) -> set[int]:
    """The given share of the numbers up to `count`, by chance."""
    return set(secrets.SystemRandom().sample(range(count), int(share * count + 0.5)))


def _end(row: TurnRow, state: Literal["judged", "skipped"], seconds: float | None = None) -> None:
    row.state, row.ended, row.seconds = state, now(), seconds
