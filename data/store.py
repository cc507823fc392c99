"""The store of responses and judgements: `<home>/store.db` (SQLite), or PostgreSQL by URL.

Any number of processes may write at once. When a method returns, what it wrote is committed: a kill at any moment
loses nothing that was acknowledged and leaves nothing half written.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from data.errors import BrogueError, UnknownName, one_line
from data.home import Home
from data.judgements import (
    MAX_COMMENT,
    MAX_CORRECTION,
    AnyJudgement,
    Forgotten,
    Rating,
    Response,
    StoredJudgement,
    Wanted,
    now,
)
from data.settings import Logging
from data.store_open import erase_deleted, open_engine, sqlite_url
from data.store_queries import about, concerns, judgement_query, of_person, stored_of, within
from data.store_rows import known_response, read_judgements, response_of, same, stored
from data.store_schema import JudgedRow, JudgementRow, ResponseRow, StoredResponseRow, TaskRow, TurnRow, UserRow
from data.store_text import Redactor, storable, written

_IN_COLUMNS = {"id", "kind", "rater", "seconds", "shown", "response"}  # of a judgement; the rest is its `said`
_JUDGED = select(JudgedRow.response_id).join(JudgementRow).where(JudgementRow.kind.in_(("comparison", "ranking")))


class NotYours(BrogueError):
    """Somebody else's judgement cannot be taken back."""


class StoreDown(BrogueError):
    """The database does not take anything at present: it is away, or its disk is full."""


class Store:
    """Everything that is written of responses and judgements, and read again."""

    def __init__(self, engine: Engine, logging: Logging = "full", redact: Redactor | None = None) -> None:
        if logging == "redacted" and redact is None:
            raise ValueError("logging 'redacted' needs a redactor")
        self._engine = engine
        self._logging = logging
        self._redact = redact if logging == "redacted" else None
        self._write = sessionmaker(engine, expire_on_commit=False)
        self._read = sessionmaker(engine.execution_options(reader=True))

    @classmethod
    def open(cls, home: Home, url: str | None = None, logging: Logging = "full",
             redact: Redactor | None = None) -> "Store":  # fmt: skip
        """The store at `url`, or in the home folder; its tables are made or brought up to date."""
        return cls(open_engine(url or sqlite_url(home.root / "store.db")), logging, redact)

    @property
    def logging(self) -> Logging:
        """What is kept of what people write."""
        return self._logging

    @property
    def is_shared(self) -> bool:
        """Whether several gateways can have it: a SQLite file is one home's own."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def connect(self) -> Connection:
        """A connection outside of transactions, for what is none of the store's methods. Close it."""
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT", reader=True)

    def add_response(self, response: Response) -> Response:
        """Append a response, and return what was kept of it."""
        row = ResponseRow(**self._kept(response))
        try:
            with self._write.begin() as session:
                session.add(row)
        except IntegrityError as error:
            raise BrogueError(f"response '{response.id}' is in the store already") from error
        return response_of(row)

    def add_responses(self, responses: Sequence[Response]) -> None:
        """Append several in one transaction; those that are there already stay as they are. Raises `StoreDown`."""
        insert = (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert(ResponseRow)
        rows = [self._kept(response) for response in responses]
        with told(), self._write.begin() as session:
            session.execute(insert.on_conflict_do_nothing(), rows)

    def _kept(self, response: Response) -> dict[str, Any]:
        """A response's columns, as far as they are to be kept."""
        values = response.model_dump(exclude={"logging"})
        logging = "off" if response.logging == "off" else self._logging
        if logging == "off":
            values |= {"messages": [], "text": "", "passages": []}
        words = written({key: values[key] for key in ("messages", "text", "passages")}, self._redact)
        return values | words | {"logging": logging}

    def rate(self, rating: Rating) -> tuple[str, Rating | None]:
        """Append a thumb in the place of the one that this rater gave before: (the response's version, the one before).

        Raises `StoreDown`.
        """
        with told(), self._write.begin() as session:
            # Locked, so that of two thumbs at once the second sees the first.
            response = session.get(ResponseRow, rating.response, with_for_update=True)
            if response is None:
                raise UnknownName(f"no response '{rating.response}' in the store")
            wanted = Wanted(response=rating.response, kind="rating", rater=rating.rater)
            standing = list(session.scalars(judgement_query(wanted)))
            before = stored(standing[0]).judgement if standing else None
            assert before is None or isinstance(before, Rating)
            same = ("thumb", "reasons", "comment")
            if before is None or any(getattr(before, name) != getattr(rating, name) for name in same):
                for row in standing:
                    row.taken_back = now()
                row = JudgementRow(id=rating.id, kind=rating.kind, rater=rating.rater, seconds=rating.seconds,
                                   said=self.said(rating), created=now(), taken_back=None)  # fmt: skip
                row.shown.append(JudgedRow(position=0, response=response))
                session.add(row)
            return response.version, before

    def judge(self, judgement: AnyJudgement) -> StoredJudgement:
        """Append a judgement, and return it as it was kept. The same one again (same id) is acknowledged again.

        In mode `off` comments are left out, and a correction is refused, for nothing would be left of it.
        """
        said = self.said(judgement)
        with self.writing() as session:
            return self.append(session, judgement, said)

    def append(self, session: Session, judgement: AnyJudgement, said: dict[str, Any]) -> StoredJudgement:
        """`judge` as a part of a larger transaction; `said` is what `self.said` leaves of the judgement."""
        if (known := session.get(JudgementRow, judgement.id)) is not None:
            return same(known, judgement, said)
        row = JudgementRow(id=judgement.id, kind=judgement.kind, rater=judgement.rater, seconds=judgement.seconds,
                           said=said, created=now(), taken_back=None)  # fmt: skip
        for position, response_id in enumerate(judgement.shown):
            row.shown.append(JudgedRow(position=position, response=known_response(session, response_id)))
        session.add(row)
        session.flush()
        return stored(row)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block. Raises `StoreDown`."""
        try:
            with told(), self._write.begin() as session:
                yield session
        except IntegrityError as error:  # PostgreSQL: another process wrote the same, or deleted what is named
            raise BrogueError("this met another change to the same rows of the store; do it again") from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with told(), self._read() as session:
            yield session

    def kept(self, record: dict[str, Any]) -> dict[str, Any]:
        """`record` (JSON) with its texts as they may be written: as they are, or redacted."""
        return written(record, self._redact)

    def said(self, judgement: AnyJudgement) -> dict[str, Any]:
        """What is kept of a judgement besides its columns; refuses texts that are too long."""
        said = judgement.model_dump(mode="json", exclude=_IN_COLUMNS)
        for name, limit in (("comment", MAX_COMMENT), ("text", MAX_CORRECTION)):
            if len(said.get(name, "")) > limit:
                raise BrogueError(f"the {name} has {len(said[name]):,} characters; wanted at most {limit:,}")
        if self._logging == "off":
            if judgement.kind == "correction":
                raise BrogueError("a correction cannot be kept: logging is 'off'; set it to 'full' or 'redacted'")
            said["comment"] = ""
        return written(said, self._redact)

    def take_back(self, judgement_id: str, rater: str, at: datetime | None = None) -> StoredJudgement:
        """Mark a judgement as taken back by the one who gave it; from then on it counts for nothing.

        One that was taken back before keeps its time, so that whoever hands in `at` sees whether it was this call.
        """
        with told(), self._write.begin() as session:
            row = session.get(JudgementRow, judgement_id := storable(judgement_id), with_for_update=True)
            if row is None:
                raise UnknownName(f"no judgement '{judgement_id}' in the store; list them: brogue feedback list")
            if row.rater != rater:
                raise NotYours(f"judgement '{judgement_id}' is another rater's; only they can take it back")
            row.taken_back = row.taken_back or at or now()
            left = {"state": "skipped", "reason": "taken back", "judgement_id": None}  # others may have its turn
            session.execute(update(TurnRow).where(TurnRow.judgement_id == judgement_id).values(left))
            return stored(row)

    def response(self, response_id: str) -> Response:
        """One response by its id. Raises `StoreDown`."""
        with told(), self._read() as session:
            return response_of(known_response(session, response_id))

    def lacks(self, ids: Sequence[str]) -> bool:
        """Whether one of these responses is not there. Raises `StoreDown`."""
        wanted = {storable(one) for one in ids}
        with told(), self._read() as session:
            query = select(func.count()).select_from(ResponseRow).where(ResponseRow.id.in_(wanted))
            return session.scalar(query) != len(wanted)

    def responses(self, wanted: Wanted | None = None) -> list[Response]:
        """The wanted responses, newest first."""
        wanted = wanted or Wanted()
        query = select(ResponseRow).where(*about(wanted), *within(ResponseRow.created, wanted))
        if wanted.subject is not None:
            query = query.where(ResponseRow.subject == wanted.subject)
        query = query.order_by(ResponseRow.created.desc(), ResponseRow.id).limit(wanted.limit)
        with self._read() as session:
            return [response_of(row) for row in session.scalars(query)]

    def responses_of(self, ids: Sequence[str]) -> dict[str, Response]:
        """Those of these responses that are there; at most some thousand ids at once."""
        with self._read() as session:
            return {
                row.id: response_of(row) for row in session.scalars(select(ResponseRow).where(ResponseRow.id.in_(ids)))
            }

    def judged_texts(self) -> Iterator[tuple[str, str]]:
        """(id, text) of every answer that was compared or ranked."""
        query = select(ResponseRow.id, ResponseRow.text).where(ResponseRow.id.in_(_JUDGED))
        with self._read() as session:
            for row in session.execute(query.execution_options(yield_per=2000)):
                yield row.id, row.text

    def judged_lengths(self) -> dict[str, int]:
        """The characters of every answer that was compared or ranked."""
        query = select(ResponseRow.id, func.length(ResponseRow.text)).where(ResponseRow.id.in_(_JUDGED))
        with self._read() as session:
            return {row.id: row[1] for row in session.execute(query)}

    def judgements(self, wanted: Wanted | None = None) -> list[StoredJudgement]:
        """The wanted judgements, newest first. Raises `StoreDown`."""
        with told(), self._read() as session:
            return list(read_judgements(session, wanted or Wanted()))

    def of_person(self, subject: str) -> Forgotten:
        """What `forget` would remove."""
        with self._read() as session:
            return of_person(session, subject, lock=False)

    def forget(self, subject: str) -> Forgotten:
        """Delete a person's responses, stored ones too, their judgements, all judgements of their responses, and what
        raters' queues hold of them, for good; they cannot sign in any more."""
        with self._write.begin() as session:
            found = of_person(session, subject, lock=True)
            unsynced = {"synchronize_session": False}  # this session holds no such objects
            session.execute(delete(JudgementRow).where(concerns(subject)), execution_options=unsynced)
            stored_ids = StoredResponseRow.id.in_(stored_of(session, subject))
            session.execute(delete(StoredResponseRow).where(stored_ids), execution_options=unsynced)
            for theirs in (ResponseRow.subject, TaskRow.subject, TurnRow.rater, UserRow.name):
                session.execute(delete(theirs.class_).where(theirs == subject), execution_options=unsynced)
        erase_deleted(self._engine)
        return found


@contextmanager
def told() -> Iterator[None]:
    """A database that is away or full becomes one line."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StoreDown(f"the store cannot be written: {one_line(error.orig, 160)}") from error
