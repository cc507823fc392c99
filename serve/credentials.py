"""Who there is: users, keys and sessions, held in memory for a moment so that no request asks the database for itself.

What another process changes counts here after `FRESH_S` at most; what this one changes counts with its next request.
A store that is away leaves what is known in force for `LEFT_S`, then nobody is known any more.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from data.judgements import now
from data.keys import Key
from data.secrets import digest
from data.store import StoreDown
from data.store_keys import Keys
from data.store_users import Users
from data.users import User
from serve.recorder import Recorder

FRESH_S = 0.5
EARLY = 0.8  # of that time: then the next one to ask has it read anew, and nobody waits for it
LEFT_S = 300.0
PATIENCE_S = 1.0  # so long a request waits for a store that does not answer, while what is known may still be used
SESSIONS = 10_000  # that are held


@dataclass(frozen=True)
class Known:
    """What the store said."""

    users: Mapping[str, User]
    keys: Mapping[str, Key]  # by digest, those that are revoked or at their end as well
    sessions: dict[str, User | None] = field(default_factory=dict)  # by digest, as they are asked for

    @property
    def closed(self) -> bool:
        """Whether a credential is wanted at all: somebody has made a user or a key."""
        return bool(self.users or self.keys)

    def key(self, secret: str) -> Key | None:
        """The key, if it is one that counts at this moment."""
        found = self.keys.get(digest(secret))
        return found if found is not None and found.state_at(now()) == "active" else None


class Credentials:
    """Asks the recorder's store. For one event loop."""

    def __init__(self, recorder: Recorder, fresh_s: float = FRESH_S) -> None:
        self._recorder = recorder
        self.fresh_s = fresh_s  # so long what was read is believed
        self._known: Known | None = None
        # When it was read, from when on it may be read anew, and when it is too old to be believed.
        self._read_at = self._soon_at = self._next_at = -math.inf
        self._changes = 0  # a reading that began before a change of ours is out of date
        self._reading: asyncio.Task[Known] | None = None

    @property
    def users(self) -> Users:
        """The users of the store. May open it, so call off the event loop."""
        return Users(self._recorder.store())

    @property
    def keys(self) -> Keys:
        """The keys of the store, with the same caution."""
        return Keys(self._recorder.store())

    def changed(self) -> None:
        """This process has changed users, keys or sessions: ask anew, whatever is being read now."""
        self._changes += 1
        self._read_at = self._soon_at = self._next_at = -math.inf
        self._reading = None

    async def known(self) -> Known:
        """Who there is. Raises `StoreDown`, or what opening the store raises."""
        if self._known is not None and time.monotonic() < self._next_at:
            if time.monotonic() >= self._soon_at and self._reading is None:
                self._begin_reading().add_done_callback(_noticed)
            return self._known
        reading = self._begin_reading()
        await asyncio.wait({reading}, timeout=None if self._too_old() else PATIENCE_S)
        if not reading.done() and self._known is not None:
            return self._known  # a database that does not even refuse must not hold up everybody
        return await asyncio.shield(reading)

    def _begin_reading(self) -> "asyncio.Task[Known]":
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(self._changes))
        return self._reading

    async def session(self, token: str) -> User | None:
        """Whom a session's token stands for, none if it is unknown or at its end."""
        known, key = await self.known(), digest(token)
        if key not in known.sessions:
            user = await asyncio.to_thread(lambda: self.users.by_token(token))
            if len(known.sessions) >= SESSIONS:
                known.sessions.clear()
            known.sessions[key] = user
        return known.sessions[key]

    async def _read(self, changes: int) -> Known:
        began = time.monotonic()
        try:
            known = await asyncio.to_thread(self._ask)
        except StoreDown:
            if self._known is None or self._too_old():
                raise
            self._soon_at = self._next_at = time.monotonic() + PATIENCE_S
            return self._known
        finally:
            if changes == self._changes:
                self._reading = None
        if changes != self._changes:
            return await self.known()
        self._known, self._read_at = known, began
        self._soon_at, self._next_at = began + EARLY * self.fresh_s, began + self.fresh_s
        return known

    def _too_old(self) -> bool:
        return self._known is None or time.monotonic() - self._read_at > LEFT_S

    def _ask(self) -> Known:
        return Known({user.name: user for user in self.users.all()}, self.keys.by_digest())


def _noticed(reading: "asyncio.Task[Known]") -> None:
    """What went wrong while nobody waited; who has to wait for the next one is told."""
    if not reading.cancelled():
        reading.exception()
