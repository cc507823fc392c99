"""The store's tables. A change here needs a new file in data/migrations/versions; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, ForeignKey, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

# Constraints have names of ours, so that a migration can name them on either database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone. SQLite has none, so there it is written in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {
        datetime: UtcTime, float: Double, dict[str, Any]: JSON, list[dict[str, Any]]: JSON, list[int]: JSON,
    }  # fmt: skip


class ResponseRow(Base):
    """One logged answer."""

    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    assistant: Mapped[str | None] = mapped_column(index=True)
    version: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str | None] = mapped_column(index=True)
    conversation: Mapped[str | None] = mapped_column(index=True)
    logging: Mapped[str]
    messages: Mapped[list[dict[str, Any]]]
    text: Mapped[str]
    passages: Mapped[list[dict[str, Any]]]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    seconds: Mapped[float]
    topic: Mapped[str | None]


class JudgementRow(Base):
    """What a person said of one or more responses."""

    __tablename__ = "judgements"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str]
    rater: Mapped[str] = mapped_column(index=True)
    seconds: Mapped[float | None]
    said: Mapped[dict[str, Any]]  # the judgement without what stands in columns
    taken_back: Mapped[datetime | None]
    shown: Mapped[list["JudgedRow"]] = relationship(order_by="JudgedRow.position", cascade="all, delete-orphan")


class JudgedRow(Base):
    """A response that a judgement is about, and the position at which it was shown (0 is left, or on top)."""

    __tablename__ = "judged"

    judgement_id: Mapped[str] = mapped_column(ForeignKey("judgements.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    response_id: Mapped[str] = mapped_column(ForeignKey("responses.id"), index=True)
    response: Mapped[ResponseRow] = relationship()


class UserRow(Base):
    """Who may sign in."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    role: Mapped[str]
    password: Mapped[str]  # bcrypt


class SessionRow(Base):
    """Who is signed in."""

    __tablename__ = "sessions"

    token: Mapped[str] = mapped_column(primary_key=True)  # its SHA-256
    user: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), index=True)
    expires: Mapped[datetime]


class QueueRow(Base):
    """A queue for raters."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    rules: Mapped[dict[str, Any]]  # arms, overlap, raters, repeat


class TaskRow(Base):
    """A prompt of a queue, which every arm answers once."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(ForeignKey("queues.name", ondelete="CASCADE"), index=True)
    number: Mapped[int]  # its place in the queue
    messages: Mapped[list[dict[str, Any]]]
    topic: Mapped[str | None]
    subject: Mapped[str | None] = mapped_column(index=True)
    raters: Mapped[int]  # how many are to judge it
    again: Mapped[bool]  # whether it comes back to each of them once
    answers: Mapped[list["AnswerRow"]] = relationship(order_by="AnswerRow.number", passive_deletes=True)


class AnswerRow(Base):
    """An arm's answer to a task."""

    __tablename__ = "answers"

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # the arm's
    response_id: Mapped[str] = mapped_column(ForeignKey("responses.id", ondelete="CASCADE"), index=True)
    response: Mapped[ResponseRow] = relationship(lazy="joined", innerjoin=True)


class TurnRow(Base):
    """A task as one rater has it."""

    __tablename__ = "turns"
    __table_args__ = (UniqueConstraint("task_id", "rater", "again"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    rater: Mapped[str] = mapped_column(index=True)
    again: Mapped[bool]  # the second time for this rater
    places: Mapped[list[int]]  # the arms' numbers in the order shown
    state: Mapped[str]  # open, judged or skipped
    touched: Mapped[datetime]  # the last sign of the rater
    ended: Mapped[datetime | None]
    seconds: Mapped[float | None]  # how long the rater took
    reason: Mapped[str]  # why it was skipped
    judgement_id: Mapped[str | None] = mapped_column(ForeignKey("judgements.id", ondelete="CASCADE"), index=True)
    task: Mapped[TaskRow] = relationship()


class KeyRow(Base):
    """An API key of the gateway. The key itself is shown once and kept nowhere."""

    __tablename__ = "keys"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    digest: Mapped[str] = mapped_column(unique=True)  # the key's SHA-256
    hint: Mapped[str]  # its first and last letters, to tell keys apart
    role: Mapped[str]
    rules: Mapped[dict[str, Any]]  # assistants, and limits of requests, tokens and answers at once
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class UsageRow(Base):
    """What a key has used in one window of time: its limits hold in every gateway and after a restart."""

    __tablename__ = "usage"

    key: Mapped[str] = mapped_column(ForeignKey("keys.name", ondelete="CASCADE"), primary_key=True)
    window: Mapped[str] = mapped_column(primary_key=True)  # such as 2026-11-29, a day in UTC
    requests: Mapped[int]
    tokens: Mapped[int]


class TallyRow(Base):
    """What one gateway counted of a version's answers; all gateways' rows together are the version's tally."""

    __tablename__ = "tallies"

    adapter: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    gateway: Mapped[str] = mapped_column(primary_key=True)  # the id of its home
    answers: Mapped[int]
    errors: Mapped[int]
    up: Mapped[int]
    down: Mapped[int]


class SharedFileRow(Base):
    """A file that the homes of several gateways have in common; its bytes lie with the artefacts, by their hash."""

    __tablename__ = "shared_files"

    path: Mapped[str] = mapped_column(primary_key=True)  # below the home folder
    revision: Mapped[int] = mapped_column(BigInteger, unique=True)  # of two changes the later one's is greater
    sha256: Mapped[str | None]  # none: the file is gone
    changed: Mapped[datetime]


class StoredResponseRow(Base):
    """An answer of /v1/responses that was stored, so that a next request can go on from it."""

    __tablename__ = "stored_responses"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[str | None] = mapped_column(index=True)  # who asked, as serve.identity names them
    subject: Mapped[str | None] = mapped_column(index=True)  # whose words it holds
    previous: Mapped[str | None] = mapped_column(index=True)
    asked: Mapped[list[dict[str, Any]]]  # the input items of this turn
    body: Mapped[dict[str, Any]]  # OpenAI's response object


class FileRow(Base):
    """An uploaded file; its bytes are in the home folder."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[str | None] = mapped_column(index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    size: Mapped[int]  # bytes
    sha256: Mapped[str]


class JobRow(Base):
    """A fine-tuning job."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(index=True)  # OpenAI's words
    asked: Mapped[dict[str, Any]]  # what is to be trained; data/jobs.py has both
    found: Mapped[dict[str, Any]]  # what came of it so far
    finished: Mapped[datetime | None]
    worker: Mapped[str | None]  # who works on it
    beat: Mapped[datetime | None]  # the worker's last sign of life
    events: Mapped[list["JobEventRow"]] = relationship(order_by="JobEventRow.number", cascade="all, delete-orphan")


class JobEventRow(Base):
    """Something that happened to a fine-tuning job."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    level: Mapped[str]  # info, warn or error
    kind: Mapped[str]  # message or metrics
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
