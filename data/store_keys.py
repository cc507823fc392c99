"""The API keys of a store, and what they have used. Of a key only its SHA-256 is kept.

A key is 256 random bits, so its hash needs no salt and no slow function, and looking it up by hash tells nobody
anything by the time that it takes. A revoked key stays in the table: its name is never used again, since files, jobs
and answers belong to it.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from data.errors import BrogueError, one_line, unknown
from data.judgements import now
from data.keys import KEY_NAME, PREFIX, Key, KeyRules, NewKey, Usage
from data.secrets import digest
from data.store import Store
from data.store_schema import KeyRow, UsageRow

LETTERS = 4  # of the secret that a hint shows, at the end
_LATE = " late"  # behind a window: what was used in it and written so late that it counts for no minute's limit


class Keys:
    """The keys of a store. Every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def any(self) -> bool:
        """Whether there ever was a key, revoked ones too: taking the last one back must open nothing."""
        with self._store.reading() as session:
            return session.scalar(select(KeyRow.name).limit(1)) is not None

    def all(self) -> list[Key]:
        """All keys, by name."""
        with self._store.reading() as session:
            return [_key(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.name))]

    def by_digest(self) -> dict[str, Key]:
        """All keys, by their hash."""
        with self._store.reading() as session:
            return {row.digest: _key(row) for row in session.scalars(select(KeyRow))}

    def create(self, new: NewKey) -> tuple[Key, str]:
        """A new key, and its secret: nobody can read it again. A name that was used before is refused."""
        if not re.fullmatch(KEY_NAME, new.name):
            raise BrogueError(f"'{one_line(new.name, 40)}' cannot be a key's name: {_NAMES}")
        if new.expires is not None and new.expires <= now():
            raise BrogueError(f"the key would have ended already, on {new.expires:%Y-%m-%d %H:%M} UTC")
        secret = PREFIX + secrets.token_urlsafe(32)
        hint = f"{PREFIX}…{secret[-LETTERS:]}"
        row = KeyRow(name=new.name, created=now(), digest=digest(secret), hint=hint, role=new.role,
                     rules=new.rules.model_dump(mode="json"), expires=new.expires, revoked=None)  # fmt: skip
        with self._store.writing() as session:
            if session.get(KeyRow, new.name) is not None:
                raise BrogueError(f"there is or was a key '{new.name}'; take another name: what it made stays its own")
            session.add(row)
        return _key(row), secret

    def revoke(self, name: str) -> Key:
        """From now on the key is refused; revoking it again changes nothing. Raises `UnknownName`."""
        with self._store.writing() as session:
            row = session.get(KeyRow, name, with_for_update=True) if re.fullmatch(KEY_NAME, name) else None
            if row is None:
                known = list(session.scalars(select(KeyRow.name).order_by(KeyRow.name)))
                raise unknown("key", name, known, "Make one: brogue keys create NAME")
            row.revoked = row.revoked or now()
            return _key(row)

    def used(self, window: str, with_late: bool = True) -> dict[str, Usage]:
        """What each key has used in a window of time."""
        windows = (window, window + _LATE) if with_late else (window,)
        query = select(UsageRow.key, func.sum(UsageRow.requests), func.sum(UsageRow.tokens))
        with self._store.reading() as session:
            rows = session.execute(query.where(UsageRow.window.in_(windows)).group_by(UsageRow.key))
            return {key: Usage(requests=requests, tokens=tokens) for key, requests, tokens in rows}

    def add_usage(self, window: str, more: Mapping[str, Usage], late: Mapping[str, Usage] | None = None) -> None:
        """Add what keys have used since the last time; apart, what they used long before it could be written."""
        rows = [
            {"key": name, "window": where, "requests": used.requests, "tokens": used.tokens}
            for where, added in ((window, more), (window + _LATE, late or {}))
            for name, used in sorted(added.items())  # always in one order, so that two gateways never lock crosswise
            if used != Usage()
        ]
        if not rows:
            return
        with self._store.writing() as session:
            insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(UsageRow)
            added = {name: getattr(UsageRow, name) + insert.excluded[name] for name in ("requests", "tokens")}
            session.execute(insert.on_conflict_do_update(index_elements=["key", "window"], set_=added), rows)


def day(at: datetime) -> str:
    """The window of a day's limits."""
    return f"{at:%Y-%m-%d}"


_NAMES = "lower-case letters, digits and . _ - only, at most 63, a letter or digit first"


def _key(row: KeyRow) -> Key:
    return Key(name=row.name, role=row.role, hint=row.hint, rules=KeyRules.model_validate(row.rules),
               created=row.created, expires=row.expires, revoked=row.revoked)  # fmt: skip
