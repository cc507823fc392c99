"""The store's tables. A change here needs a new file in data/migrations/versions; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Double, ForeignKey, MetaData
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
    type_annotation_map = {datetime: UtcTime, float: Double, dict[str, Any]: JSON, list[dict[str, Any]]: JSON}


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
