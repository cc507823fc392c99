"""The stored answers of `/v1/responses`, so that a next request can go on from one.

As much of them is kept as of all that people write: in mode `off` nothing, in mode `redacted` without what tells who
they are; then a conversation goes on from the redacted words.
"""

from typing import Any

from pydantic import AwareDatetime
from sqlalchemy import delete
from sqlalchemy.orm import Session

from data.errors import UnknownName
from data.settings import Frozen
from data.store import Store
from data.store_schema import StoredResponseRow
from data.store_text import storable

MOST_TURNS = 1000  # of a conversation
_WORDS = ("output", "instructions", "metadata", "text", "tools", "brogue")  # of a response object, what people wrote


class StoredResponse(Frozen):
    """One answer with what was asked."""

    id: str
    owner: str | None = None  # who asked, as serve.identity names them
    subject: str | None = None  # whose words it holds
    previous: str | None = None  # the one that it goes on from
    asked: tuple[dict[str, Any], ...]  # the input items of this turn
    body: dict[str, Any]  # OpenAI's response object
    created: AwareDatetime


class StoredResponses:
    """The stored answers of a store. Every method is one transaction; call off the event loop. Raises `StoreDown`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._store.logging != "off"

    def add(self, response: StoredResponse) -> None:
        """Store an answer, as far as its words are to be kept."""
        body = response.body
        words = {"asked": list(response.asked), **{key: body[key] for key in _WORDS if key in body}}
        kept = self._store.kept(words)
        values = response.model_dump(exclude={"asked", "body"})
        asked = kept.pop("asked")
        with self._store.writing() as session:
            session.add(StoredResponseRow(**values, asked=asked, body=body | kept))

    def get(self, id: str) -> StoredResponse:
        """One answer. Raises `UnknownName`."""
        with self._store.reading() as session:
            return _read(session, id)

    def conversation(self, id: str) -> list[StoredResponse]:
        """An answer and those before it, the first one first. Raises `UnknownName` if one of them is not there."""
        found: list[StoredResponse] = []
        with self._store.reading() as session:
            wanted: str | None = id
            while wanted is not None and len(found) < MOST_TURNS:
                found.append(_read(session, wanted))
                wanted = found[-1].previous
        return found[::-1]

    def delete(self, id: str) -> None:
        """Delete one answer for good; those that go on from it stay, but cannot be gone on from any more."""
        with self._store.writing() as session:
            session.execute(delete(StoredResponseRow).where(StoredResponseRow.id == storable(id)))


def _read(session: Session, id: str) -> StoredResponse:
    row = session.get(StoredResponseRow, storable(id))
    if row is None:
        raise UnknownName(f"no response '{id}' is stored")
    return StoredResponse.model_validate({name: getattr(row, name) for name in StoredResponse.model_fields})
