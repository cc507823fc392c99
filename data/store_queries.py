"""What the store is asked: which responses and judgements meet what is wanted, and what concerns a person."""

from collections import Counter
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from data.judgements import Forgotten, Removed, Wanted
from data.store_schema import JudgedRow, JudgementRow, ResponseRow, StoredResponseRow, TaskRow, TurnRow, UserRow


def judgement_query(wanted: Wanted) -> Select[JudgementRow]:
    """The wanted judgements, newest first."""
    query = select(JudgementRow).where(*within(JudgementRow.created, wanted))
    if conditions := about(wanted):
        ids = select(JudgedRow.judgement_id).join(JudgedRow.response).where(*conditions)
        query = query.where(JudgementRow.id.in_(ids))
    if wanted.subject is not None:
        query = query.where(concerns(wanted.subject))
    if wanted.kind is not None:
        query = query.where(JudgementRow.kind == wanted.kind)
    if wanted.rater is not None:
        query = query.where(JudgementRow.rater == wanted.rater)
    if not wanted.taken_back:
        query = query.where(JudgementRow.taken_back.is_(None))
    return query.order_by(JudgementRow.created.desc(), JudgementRow.id).limit(wanted.limit)


def about(wanted: Wanted) -> list[ColumnElement[bool]]:
    """What a response has to meet, or one of a judgement's."""
    conditions = {
        ResponseRow.id: wanted.response,
        ResponseRow.version: wanted.version,
        ResponseRow.assistant: wanted.assistant,
        ResponseRow.conversation: wanted.conversation,
    }
    return [column == value for column, value in conditions.items() if value is not None]


def within(created: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    """The times that are wanted."""
    since = [] if wanted.since is None else [created >= wanted.since]
    return since + ([] if wanted.until is None else [created < wanted.until])


def concerns(subject: str) -> ColumnElement[bool]:
    """Judgements that a person gave, or that are about answers to them."""
    theirs = select(JudgedRow.judgement_id).join(JudgedRow.response).where(ResponseRow.subject == subject)
    return or_(JudgementRow.rater == subject, JudgementRow.id.in_(theirs))


def had(subject: str) -> ColumnElement[bool]:
    """Turns in raters' queues that a person had, or that are about their words (joined with their tasks)."""
    return or_(TurnRow.rater == subject, TaskRow.subject == subject)


def stored_of(session: Session, subject: str) -> set[str]:
    """The stored answers of /v1/responses that hold a person's words or were theirs, and all that go on from one."""
    theirs = or_(StoredResponseRow.subject == subject, StoredResponseRow.owner == subject)
    found: set[str] = set()
    more = set(session.scalars(select(StoredResponseRow.id).where(theirs)))
    while more:
        found |= more
        later = select(StoredResponseRow.id).where(StoredResponseRow.previous.in_(more))
        more = set(session.scalars(later)) - found
    return found


def of_person(session: Session, subject: str, lock: bool) -> Forgotten:
    """What is there of a person; with `lock` nobody can judge their responses until the transaction ends.

    (PostgreSQL needs the lock; on SQLite a writer is alone.)
    """
    theirs = select(ResponseRow.id, ResponseRow.version).where(ResponseRow.subject == subject).order_by(ResponseRow.id)
    responses = session.execute(theirs.with_for_update() if lock else theirs).all()
    judged = session.execute(
        select(JudgementRow.id, JudgementRow.kind, JudgementRow.rater, ResponseRow.version, JudgedRow.response_id)
        .join(JudgementRow.shown).join(JudgedRow.response)
        .where(concerns(subject))
    ).all()  # fmt: skip
    answered = Counter(r.version for r in responses)
    compared = Counter(version for _, version in {(j.id, j.version) for j in judged})
    turns = session.scalar(select(func.count()).select_from(TurnRow).join(TurnRow.task).where(had(subject)))
    tasks = session.scalar(select(func.count()).select_from(TaskRow).where(TaskRow.subject == subject))
    return Forgotten(
        turns=turns or 0,
        tasks=tasks or 0,
        stored=len(stored_of(session, subject)),
        user=session.get(UserRow, subject) is not None,
        responses=tuple(r.id for r in responses),
        judgements=tuple(sorted({j.id for j in judged})),
        corrected=tuple(sorted({j.response_id for j in judged if j.kind == "correction" and j.rater == subject})),
        by_version={
            version: Removed(responses=answered[version], judgements=compared[version])
            for version in sorted(answered | compared)
        },
    )
