"""Keeps the engine and the live map as the registry wants them: after a restart, a change on disk, a loss."""

import asyncio
import logging
import time
from contextlib import suppress

from data.errors import BrogueError
from serve.pool import AdapterPool
from serve.refusals import REFUSED_FOR_S

_LOG = logging.getLogger("brogue.reconciler")
PERIOD_S = 1.0
STARTING_PERIOD_S = 0.1  # while requests wait for the engine
COMPARE_EVERY_S = 10.0


class Reconciler:
    """`run` it as a task beside the gateway; one `tick` does what is due."""

    def __init__(self, pool: AdapterPool, period_s: float = PERIOD_S, compare_every_s: float = COMPARE_EVERY_S) -> None:
        self._pool = pool
        self._period_s = period_s
        self._compare_every_s = compare_every_s
        self._seen: object = None  # the registry's signature that the live map follows
        self._followed_at = self._compared_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something has changed on the disk: look now. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Until it is cancelled. What goes wrong is logged and tried again: without this task nothing is repaired."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            try:
                await self.tick()
            except BrogueError as error:
                _LOG.warning("%s", error)
            except Exception:  # a bug in here must not end the repairs
                _LOG.exception("could not reconcile")
            closed = self._pool.why_closed() is not None
            with suppress(TimeoutError):
                period = min(STARTING_PERIOD_S, self._period_s) if closed else self._period_s
                await asyncio.wait_for(self._woken.wait(), period)

    async def tick(self) -> None:
        """One round."""
        pool = self._pool
        await pool.restore()
        if not pool.replicas.open:
            return
        await self._follow()
        if time.monotonic() - self._compared_at >= self._compare_every_s:
            self._compared_at = time.monotonic()
            if not await pool.replicas.compare():
                await pool.load_kept()
        await pool.replicas.tidy()
        await pool.own.tidy()
        await self._stop_bad_canaries()
        pool.trials.flush()

    async def _follow(self) -> None:
        signature = self._pool.registry.signature(), self._pool.own.changes
        again = self._pool.refusals.reasons and time.monotonic() - self._followed_at >= REFUSED_FOR_S
        if signature != self._seen or again:
            self._followed_at = time.monotonic()
            await self._pool.follow_disk()
            self._seen = signature

    async def _stop_bad_canaries(self) -> None:
        for adapter, (stable, canary) in self._pool.live.canaries().items():
            reason = self._pool.trials.why_stop(adapter, stable, canary)
            if reason is not None:
                _LOG.warning("canary stopped: %s", reason)
                await self._pool.remove_alias(adapter, "canary", who="brogue", why=reason)
