"""Lists a page at a time, as OpenAI's API gives them: `after` is the id of the last one seen."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

from data.store_schema import FileRow, JobRow
from data.store_text import storable

Item = TypeVar("Item")
Row = TypeVar("Row", FileRow, JobRow)


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some of a list, and whether there are more behind them."""

    items: list[Item]
    more: bool


def page(
    session: Session, query: Select[Row], row: type[Row], after: str | None, limit: int,
    oldest_first: bool = False,
) -> Page[Row]:  # fmt: skip
    """The `limit` rows behind the one of id `after`, by the time they were made; an unknown `after` has none behind."""
    last = None if after is None else session.get(row, storable(after))
    if after is not None:
        if last is None:
            return Page([], False)
        later = row.created > last.created if oldest_first else row.created < last.created
        beside = row.id > last.id if oldest_first else row.id < last.id
        query = query.where(or_(later, and_(row.created == last.created, beside)))
    order = (row.created, row.id) if oldest_first else (row.created.desc(), row.id.desc())
    found = list(session.scalars(query.order_by(*order).limit(limit + 1)))
    return Page(found[:limit], len(found) > limit)
