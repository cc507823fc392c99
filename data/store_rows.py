"""The store's rows as what they stand for."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName
from data.judgements import JUDGEMENT, AnyJudgement, Response, StoredJudgement, Wanted
from data.store_queries import judgement_query
from data.store_schema import JudgedRow, JudgementRow, ResponseRow
from data.store_text import storable

JUDGEMENT_COLUMNS = (JudgementRow.id, JudgementRow.kind, JudgementRow.rater, JudgementRow.seconds, JudgementRow.said,
                     JudgementRow.created, JudgementRow.taken_back)  # fmt: skip
_AT_ONCE = 5000  # judgements whose answers are asked for in one question

Shown = tuple[str, str, str | None, str | None]  # response, version, assistant, topic


def known_response(session: Session, response_id: str) -> ResponseRow:
    """The response with this id."""
    response_id = storable(response_id)
    row = session.get(ResponseRow, response_id)
    if row is None:
        raise UnknownName(f"no response '{response_id}' in the store; every answer's id is in its x-brogue-response-id")
    return row


def same(row: JudgementRow, judgement: AnyJudgement, said: dict[str, Any]) -> StoredJudgement:
    """The judgement that has this id already, if it says the same."""
    kept = stored(row)
    there = (row.kind, row.rater, row.said, kept.judgement.shown)
    if there != (judgement.kind, judgement.rater, said, judgement.shown):
        raise BrogueError(f"judgement '{judgement.id}' is in the store already and says something else")
    return kept


def response_of(row: ResponseRow) -> Response:
    """A response."""
    return Response.model_validate({name: getattr(row, name) for name in Response.model_fields})


def stored(row: JudgementRow) -> StoredJudgement:
    """A judgement with what it is about."""
    shown = [(j.response_id, j.response.version, j.response.assistant, j.response.topic) for j in row.shown]
    return judgement_of((row.id, row.kind, row.rater, row.seconds, row.said, row.created, row.taken_back), shown)


def judgement_of(columns: Sequence[Any], shown: Sequence[Shown]) -> StoredJudgement:
    """A judgement from its columns, in the order of `JUDGEMENT_COLUMNS`, and what it is about."""
    id, kind, rater, seconds, said, created, taken_back = columns
    responses, versions, assistants, topics = zip(*shown, strict=True)
    about = {"shown": responses} if kind in ("comparison", "ranking") else {"response": responses[0]}
    judgement = JUDGEMENT.validate_python(said | about | {"id": id, "kind": kind, "rater": rater, "seconds": seconds})
    return StoredJudgement.model_construct(  # not validated, for it would look through the judgement once more
        judgement=judgement, versions=versions, assistants=assistants, topics=topics, created=created,
        taken_back=taken_back,
    )  # fmt: skip


def read_judgements(session: Session, wanted: Wanted) -> Iterator[StoredJudgement]:
    """The wanted judgements, newest first: as plain columns, for 100,000 mapped objects take half a minute."""
    query = judgement_query(wanted).with_only_columns(*JUDGEMENT_COLUMNS)
    for rows in session.execute(query.execution_options(yield_per=_AT_ONCE)).partitions():
        shown = _shown(session, [row[0] for row in rows])
        for row in rows:
            if row[0] in shown:  # else somebody has been forgotten meanwhile
                yield judgement_of(row, shown[row[0]])


def _shown(session: Session, ids: Sequence[str]) -> dict[str, list[Shown]]:
    """Judgement → what it is about, in order of position."""
    query = (
        select(JudgedRow.judgement_id, JudgedRow.response_id, ResponseRow.version, ResponseRow.assistant,
               ResponseRow.topic)
        .join(JudgedRow.response).where(JudgedRow.judgement_id.in_(ids)).order_by(JudgedRow.position)
    )  # fmt: skip
    found: dict[str, list[Shown]] = {}
    for judgement, *about in session.execute(query):
        found.setdefault(judgement, []).append(tuple(about))  # type: ignore[arg-type]
    return found
