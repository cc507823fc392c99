"""The store's rows as what they stand for."""

from typing import Any

from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName
from data.judgements import JUDGEMENT, AnyJudgement, Response, StoredJudgement
from data.store_schema import JudgementRow, ResponseRow


def known_response(session: Session, response_id: str) -> ResponseRow:
    """The response with this id."""
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
    ids = [judged.response_id for judged in row.shown]
    shown = {"shown": ids} if row.kind in ("comparison", "ranking") else {"response": ids[0]}
    fields = {"id": row.id, "kind": row.kind, "rater": row.rater, "seconds": row.seconds}
    return StoredJudgement(
        judgement=JUDGEMENT.validate_python(row.said | shown | fields),
        versions=tuple(judged.response.version for judged in row.shown),
        assistants=tuple(judged.response.assistant for judged in row.shown),
        topics=tuple(judged.response.topic for judged in row.shown),
        created=row.created,
        taken_back=row.taken_back,
    )
