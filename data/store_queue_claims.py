"""Who gets what: which of a queue's tasks is next for a rater, and how many there are.

A task goes to as many raters as it wants. A turn that was judged counts, and so does an open one for half an hour after
the last sign of its rater; a skipped one does not. Some tasks come back to the same rater once, when enough others have
been between, or when nothing else is left.
"""

import secrets
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from data.judgements import now
from data.queues import Progress
from data.store_schema import TaskRow, TurnRow

IDLE = timedelta(minutes=30)  # a turn without a sign of its rater holds its task for so long
BETWEEN = 5  # other turns before a task comes back to the same rater
_PACE = 20  # a rater's latest turns, by which the time left is told


def open_turn(session: Session, queue: str, rater: str) -> TurnRow | None:
    """The rater's turn that is not ended; of several the last one touched."""
    query = _turns(queue, rater).where(TurnRow.state == "open").order_by(TurnRow.touched.desc(), TurnRow.id)
    return session.scalar(query.limit(1))


def claim(session: Session, queue: str, rater: str, arms: int) -> TurnRow | None:
    """A new turn for the rater; none if there is nothing for them at present. The queue must be held."""
    back = session.scalar(_coming_back(queue, rater).where(TurnRow.state == "judged").order_by(TurnRow.ended).limit(1))
    if back is None or _others_since(session, queue, back) < BETWEEN:
        free = session.scalar(select(TaskRow).where(*_free(queue, rater)).order_by(TaskRow.number).limit(1))
    else:
        free = None
    task = free if free is not None else back.task if back is not None else None
    if task is None:
        return None
    places = list(range(arms))
    secrets.SystemRandom().shuffle(places)
    row = TurnRow(id=f"turn-{uuid.uuid4().hex}", task=task, rater=rater, again=free is None, places=places,
                  state="open", touched=now(), reason="")  # fmt: skip
    session.add(row)
    session.flush()
    return row


def progress_of(session: Session, queue: str, rater: str) -> Progress:
    """How far the rater is; what comes back counts from the beginning, so that the end does not move."""
    done = _count(session, _turns(queue, rater).where(TurnRow.state != "open"))
    left = _count(session, _turns(queue, rater).where(TurnRow.state == "open"))
    left += _count(session, _coming_back(queue, rater))
    free = select(TaskRow).where(*_free(queue, rater))
    left += _count(session, free) + _count(session, free.where(TaskRow.again))
    return Progress(done=done, of=done + left, seconds_left=_seconds(session, queue, rater, left))


def _turns(queue: str, rater: str) -> Select[TurnRow]:
    return select(TurnRow).join(TurnRow.task).where(TaskRow.queue == queue, TurnRow.rater == rater)


def _count(session: Session, query: Select[TurnRow] | Select[TaskRow]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _free(queue: str, rater: str) -> list[ColumnElement[bool]]:
    """Tasks that the rater has not had and that want another rater."""
    here = TurnRow.task_id == TaskRow.id
    held = or_(TurnRow.state == "judged", and_(TurnRow.state == "open", TurnRow.touched > now() - IDLE))
    holders = select(func.count()).select_from(TurnRow).where(here, TurnRow.again.is_(False), held)
    had = exists().where(here, TurnRow.rater == rater)
    return [TaskRow.queue == queue, ~had, holders.scalar_subquery() < TaskRow.raters]


def _coming_back(queue: str, rater: str) -> Select[TurnRow]:
    """The rater's first turns at tasks that are to come back, and have not yet."""
    second = aliased(TurnRow)
    came = exists().where(second.task_id == TurnRow.task_id, second.rater == rater, second.again)
    first = _turns(queue, rater).where(TaskRow.again, TurnRow.again.is_(False), TurnRow.state != "skipped")
    return first.where(~came)


def _others_since(session: Session, queue: str, turn: TurnRow) -> int:
    return _count(session, _turns(queue, turn.rater).where(TurnRow.ended > turn.ended))


def _seconds(session: Session, queue: str, rater: str, left: int) -> float | None:
    latest = _turns(queue, rater).where(TurnRow.seconds.is_not(None)).order_by(TurnRow.ended.desc()).limit(_PACE)
    took = sorted(seconds or 0.0 for seconds in session.scalars(latest.with_only_columns(TurnRow.seconds)))
    return round(took[len(took) // 2] * left, 1) if took else None
