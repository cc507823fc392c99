"""Tallies of several gateways: each writes what it counted into the store, and reads what the others did.

Only where the store is PostgreSQL: a SQLite store is one home's own. A store that is away costs nobody an answer; what
is counted here goes on, in the home's files too, and what was heard of the others last is believed until it is back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from data.errors import BrogueError, one_line
from data.gateway_id import FILE, gateway_id
from data.home import Home
from data.store import Store
from data.store_tallies import Tallies
from data.tallies import Tally
from serve.background import beside
from serve.canary import Trials, Which

_LOG = logging.getLogger("brogue.tallies")
EXCHANGE_S = 2.0  # while anything is counted here, or a canary runs
ALL_S = 10.0  # how often the tallies of all adapters are read, for whoever looks at them
STOP_S = 5.0


class SharedTallies:
    """Let it be `running` with the gateway. For one event loop.

    `canaries` gives by adapter the versions that are being compared.
    """

    def __init__(
        self, trials: Trials, canaries: Callable[[], Mapping[str, tuple[int, int]]], store: Callable[[], Store],
        home: Home, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._trials, self._canaries = trials, canaries
        self._store, self._home, self._clock = store, home, clock
        self._gateway: str | None = None  # our id; none: not known yet, empty: nobody shares the store
        self._mine: dict[Which, Tally] = {}  # our rows, as last seen in the store
        self._all_at = 0.0
        self._failed = self._told_of_copy = False
        self._exchanging = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchange while the block runs, and once more at its end, so that the others have everything."""
        try:
            async with beside(self._run()):
                yield
        finally:
            if self._gateway or self._trials.untold:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.exchange(), STOP_S)

    async def _run(self) -> None:
        while self._gateway != "":
            await asyncio.sleep(EXCHANGE_S)
            await self.exchange()

    async def exchange(self) -> None:
        """Write what is new and read what matters now. What goes wrong is told once, and tried again the next time."""
        async with self._exchanging:
            try:
                await self._exchange()
            except Exception as error:  # whatever it is: without the exchange this gateway would count for itself
                if not self._failed:
                    is_bug = not isinstance(error, BrogueError)
                    _LOG.error("tallies are not exchanged with other gateways: %s", one_line(error), exc_info=is_bug)
                self._failed = True
                return
            if self._failed:
                _LOG.info("tallies are exchanged with other gateways again")
            self._failed = False

    async def _exchange(self) -> None:
        if self._gateway is None:
            self._gateway = await asyncio.to_thread(self._find_id)
        if not self._gateway:
            self._trials.untold.clear()
            return
        canaries, every = self._canaries(), self._clock() >= self._all_at
        # A canary's rows are there before its first answer: from then on the others count what they say.
        compared = {(adapter, version) for adapter, pair in canaries.items() for version in pair} - self._mine.keys()
        new = {which: self._trials.own(*which) for which in self._trials.untold | compared}
        if not new and not canaries and not every:
            return
        adapters = None if every else {*canaries, *(adapter for adapter, _ in new)}
        rows = await asyncio.to_thread(self._write_and_read, self._gateway, new, adapters)
        self._trials.untold -= {which for which, tally in new.items() if tally == self._trials.own(*which)}
        self._look_at_mine({which: found for which, by in rows.items() if (found := by.pop(self._gateway, None))}, new)
        self._trials.hear(rows)
        if every:
            self._all_at = self._clock() + ALL_S

    def _find_id(self) -> str:
        return gateway_id(self._home) if self._store().is_shared else ""

    def _write_and_read(
        self, gateway: str, new: Mapping[Which, Tally], adapters: set[str] | None
    ) -> dict[Which, dict[str, Tally]]:  # fmt: skip
        tallies = Tallies(self._store())
        tallies.write(gateway, new)
        return tallies.read(adapters)

    def _look_at_mine(self, rows: dict[Which, Tally], new: Mapping[Which, Tally]) -> None:
        """Nobody but us writes our rows: one that says something else is written again, and told of once."""
        changed = {which for which, row in rows.items() if row not in (new.get(which), self._mine.get(which, row))}
        self._trials.untold |= changed
        self._mine |= rows
        if changed and not self._told_of_copy:
            self._told_of_copy = True
            _LOG.error("another gateway counts under this one's id; stop the one whose home is a copy, remove its %s, "
                       "and start it again", FILE)  # fmt: skip
