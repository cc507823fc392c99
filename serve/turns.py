"""Whose request goes to the engine next: while it is busy, everybody who asks has a queue, and they take turns.

So a key with a thousand requests waiting delays another key's first one by one answer, not by a thousand.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.openai_errors import ApiError

RETRY_S = 5


class Turns:
    """At most `at_once` at the same time (none: no limit), at most `most_waiting` wait, each at most `max_wait_s`.

    When too many wait, the last of the longest queue has to go: nobody fills up the room of others. For one event loop.
    """

    def __init__(self, at_once: int | None, most_waiting: int, max_wait_s: float) -> None:
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._max_wait_s = max_wait_s
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the next one's first
        self.running = self.waiting = 0

    @property
    def is_free(self) -> bool:
        """Whether the next request need not wait."""
        return self._at_once is None or (self.running < self._at_once and not self.waiting)

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Wait until it is the turn of `who`, and hold it. Raises 503."""
        if self.is_free:
            self.running += 1
        else:
            await self._wait(who)
        try:
            yield
        finally:
            self.running -= 1
            self._next()

    async def _wait(self, who: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(who, deque()).append(turn)
        self.waiting += 1
        if self.waiting > self._most_waiting:
            self._drop_last(max(self._queues, key=lambda name: (len(self._queues[name]), name == who)))
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.running -= 1  # its turn came in the moment in which it gave up
                self._next()
            if isinstance(error, TimeoutError):
                message = f"waited {time.monotonic() - began:.0f} s for a turn at the engine, which is busy; try again"
                raise ApiError(503, message, code="engine_busy", retry_after_s=RETRY_S) from error
            raise
        finally:
            self._leave(who, turn)

    def _drop_last(self, who: str) -> None:
        message = f"{self._most_waiting:,} requests are waiting for the engine already; try again in {RETRY_S} s"
        turn = self._queues[who][-1]
        self._leave(who, turn)
        turn.set_exception(ApiError(503, message, code="engine_busy", retry_after_s=RETRY_S))

    def _leave(self, who: str, turn: "asyncio.Future[None]") -> None:
        queue = self._queues.get(who)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[who]

    def _next(self) -> None:
        """Give the turns that are free to the first of the queues, one after another."""
        while self._queues and (self._at_once is None or self.running < self._at_once):
            who, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues.move_to_end(who)
            else:
                del self._queues[who]
            if not turn.done():
                self.running += 1
                turn.set_result(None)
