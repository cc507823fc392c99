"""Who may use the engine's adapter slots: at most so many distinct versions at a time, in fair turns.

The engine itself would swap adapters in and out of its slots with every batch, which makes all of them slow and shows
nowhere. Here requests of a version that has no slot queue, first come, first served, and the queue can be seen.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

PATIENCE_S = 2.0


@dataclass(eq=False)
class _Waiter:
    name: str
    since: float
    entry: asyncio.Future[None]


class Slots:
    """`enter`, use the engine, `leave`; any number of requests of one version share its slot.

    Requests of a version that holds a slot pass those that wait for one, until the first of these has waited
    `patience_s`: then they queue behind it, so the slots' holders run dry and nobody waits for ever. A version that
    gets a slot brings along all its requests that wait by then.
    """

    def __init__(self, total: int, patience_s: float = PATIENCE_S) -> None:
        self.total = total
        self._patience_s = patience_s
        self._holders: Counter[str] = Counter()
        self._queue: list[_Waiter] = []

    @property
    def in_use(self) -> int:
        return len(self._holders)

    @property
    def wanted(self) -> int:
        """Distinct versions that hold a slot or wait for one."""
        return len(self.wanted_names)

    @property
    def wanted_names(self) -> set[str]:
        return {*self._holders, *(waiter.name for waiter in self._queue)}

    def holding(self, name: str) -> int:
        """Requests of this version that are at the engine."""
        return self._holders.get(name, 0)

    def waiting(self, name: str | None = None) -> int:
        """Requests that wait: of this version, or of all."""
        return sum(name is None or waiter.name == name for waiter in self._queue)

    async def enter(self, name: str, deadline: float) -> float:
        """Returns when the version has a slot: the seconds that took. TimeoutError at `deadline` (time.monotonic)."""
        if self.is_free_for(name):
            self._holders[name] += 1
            return 0.0
        waiter = _Waiter(name, time.monotonic(), asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.entry
        except BaseException:  # too late, or the client has gone
            if waiter in self._queue:
                self._queue.remove(waiter)
                self._admit()  # it may have held up others
            else:
                self.leave(name)
            raise
        return time.monotonic() - waiter.since

    def leave(self, name: str) -> None:
        """One request of the version has ended."""
        self._holders[name] -= 1
        if not self._holders[name]:
            del self._holders[name]
        if self._queue:
            self._admit()

    def is_free_for(self, name: str) -> bool:
        """Whether a request of this version would not have to wait now."""
        if name not in self._holders:
            return len(self._holders) < self.total
        return not any(self._is_impatient(waiter) for waiter in self._queue)

    def _is_impatient(self, waiter: _Waiter) -> bool:
        return waiter.name not in self._holders and time.monotonic() - waiter.since > self._patience_s

    def _admit(self) -> None:
        """Let in all who may enter now, in the order of their coming."""
        for waiter in self._queue:
            if waiter.name not in self._holders and len(self._holders) < self.total:
                for companion in [w for w in self._queue if w.name == waiter.name]:
                    self._let_in(companion)
                return self._admit()
            if self._is_impatient(waiter):
                return None
            if waiter.name in self._holders:
                self._let_in(waiter)
                return self._admit()
        return None

    def _let_in(self, waiter: _Waiter) -> None:
        self._queue.remove(waiter)
        self._holders[waiter.name] += 1
        waiter.entry.set_result(None)
