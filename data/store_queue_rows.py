"""What the queues' rows say: a turn as its rater sees it, what is behind it, and the judgement that is made of it."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName, one_line, unknown
from data.judgements import Comparison, Ranking
from data.queues import Arm, Queue, Said, Shown, Slot, Task, Turn, Verdict
from data.store import NotYours
from data.store_schema import QueueRow, TaskRow, TurnRow
from data.store_text import storable

_MAKE = "Make one: brogue feedback queue NAME --arm MODEL --arm MODEL --prompt TEXT"


def locked_queue(session: Session, name: str) -> QueueRow:
    """The queue, held until the transaction ends: one at a time claims and ends its turns."""
    name = storable(name)
    row = session.scalar(select(QueueRow).where(QueueRow.name == name).with_for_update())
    return row if row is not None else known_queue(session, name)


def known_queue(session: Session, name: str) -> QueueRow:
    """The queue, or an error that names those there are."""
    name = storable(name)
    row = session.get(QueueRow, name)
    if row is None:
        raise unknown("queue", one_line(name, 60), list(session.scalars(select(QueueRow.name))), _MAKE)
    return row


def known_turn(session: Session, turn_id: str, rater: str, lock: bool = False) -> TurnRow:
    """The turn, if it is this rater's; with `lock` its queue is held, and then the turn is read."""
    turn_id = storable(turn_id)
    where = TurnRow.id == turn_id
    if lock and (queue := session.scalar(select(TaskRow.queue).join(TurnRow).where(where))) is not None:
        locked_queue(session, queue)
    row = session.scalar(select(TurnRow).where(where))
    if row is None:
        raise UnknownName(f"no turn '{one_line(turn_id, 60)}'; its queue may have been removed: ask for the next turn")
    if row.rater != rater:
        raise NotYours(f"turn '{row.id}' is another rater's")
    return row


def turn_of(row: TurnRow) -> Turn:
    """A turn as its rater sees it."""
    responses = {answer.number: answer.response for answer in row.task.answers}
    shown = []
    for position, number in enumerate(row.places):
        response = responses.get(number)
        known = {} if response is None else {"response_id": response.id, "text": response.text}
        shown.append(Shown(position=position, **known))
    task, kind = row.task, "comparison" if len(shown) == 2 else "ranking"
    values = {"id": row.id, "queue": task.queue, "kind": kind, "messages": task.messages, "answers": shown}
    return Turn.model_validate(values)


def task_of(row: TurnRow, queue: QueueRow) -> Task:
    """What is behind a turn."""
    task, arms = row.task, [Arm.model_validate(arm) for arm in queue.rules["arms"]]
    there = {answer.number: answer.response_id for answer in task.answers}
    slots = [
        Slot(position=position, number=number, arm=arms[number], response_id=there.get(number))
        for position, number in enumerate(row.places)
    ]
    values = {name: getattr(task, name) for name in ("id", "queue", "messages", "topic", "subject")}
    return Task.model_validate(values | {"slots": slots})


def queue_of(session: Session, row: QueueRow) -> Queue:
    """A queue and how far it is."""
    judged = (
        select(TurnRow.task_id, func.count().label("times"))
        .where(TurnRow.state == "judged", TurnRow.again.is_(False))
        .group_by(TurnRow.task_id).subquery()
    )  # fmt: skip
    ours = TaskRow.queue == row.name
    tasks = session.scalar(select(func.count()).select_from(TaskRow).where(ours)) or 0
    ended = select(func.count()).select_from(TaskRow).join(judged, judged.c.task_id == TaskRow.id)
    done = session.scalar(ended.where(ours, judged.c.times >= TaskRow.raters)) or 0
    raters = select(TurnRow.rater, func.count()).join(TurnRow.task).where(ours, TurnRow.state == "judged")
    by_rater = {row.rater: row[1] for row in session.execute(raters.group_by(TurnRow.rater).order_by(TurnRow.rater))}
    counts = {"tasks": tasks, "done": done, "open": tasks - done, "by_rater": by_rater}
    return Queue.model_validate(row.rules | counts | {"name": row.name, "created": row.created})


def judgement_of(row: TurnRow, said: Said) -> Comparison | Ranking:
    """What a rater said of a turn's answers, as a judgement."""
    there = {answer.number: answer.response_id for answer in row.task.answers}
    missing = [position for position, number in enumerate(row.places) if number not in there]
    if missing:
        raise BrogueError(
            f"answer {missing[0] + 1} of {len(row.places)} is not there yet; ask for the answers again, or skip it"
        )
    common: dict[str, Any] = {name: getattr(said, name) for name in ("seconds", "reasons", "comment")}
    common |= {"rater": row.rater, "shown": tuple(there[number] for number in row.places)}
    if said.ranks is None:
        if len(row.places) > 2:
            raise BrogueError(f"{len(row.places)} answers want ranks, 0 for the best; found verdict '{said.verdict}'")
        return Comparison(verdict=_verdict(said, said.verdict), **common)
    try:
        ranking = Ranking(ranks=said.ranks, all_bad=said.all_bad, **common)
    except ValidationError as error:
        raise BrogueError(one_line(error.errors()[0]["msg"].removeprefix("Value error, "))) from error
    if len(row.places) > 2:
        return ranking
    by_ranks: Verdict = "tie" if said.ranks[0] == said.ranks[1] else "first" if said.ranks[0] == 0 else "second"
    return Comparison(verdict=_verdict(said, by_ranks), **common)


def _verdict(said: Said, verdict: Verdict | None) -> Verdict:
    """The verdict on two answers: if both are bad, none of them is better."""
    assert verdict is not None
    if not said.all_bad or verdict == "both-bad":
        return verdict
    if verdict != "tie":
        raise BrogueError(f"of two answers either one is better or both are bad; found '{verdict}' and all_bad")
    return "both-bad"
