"""Versions with engines of their own: started when they are wanted, watched, started again, stopped.

At most `Limits.own_engines` at a time, and one more while it takes another's place; one starts after the other. The
kept ones (those with an alias) run always; others run on demand, where there is room, until nobody asks for them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from adapters.registry import AdapterCard
from data.errors import BrogueError
from serve.engine_api import Lease, Refused, Unavailable
from serve.hardware import refuse_too_many
from serve.loader import Limits
from serve.metrics import Metrics
from serve.own_engine import Maker, NoRoom, OwnEngine
from serve.refusals import Refusals
from serve.ways import InFlight

_LOG = logging.getLogger("brogue.own_engines")
STEADY_S = 300  # an engine that lived for so long did not die of what it serves
GRACE_S = 5  # an engine that has just come up is about to get its alias
RETRY_S = 30


class OwnEngines:
    """The engines that `maker` makes, by version."""

    def __init__(
        self, maker: Maker, refusals: Refusals, metrics: Metrics, in_flight: InFlight, limits: Limits
    ) -> None:  # fmt: skip
        self.memory_bytes = maker.memory_bytes  # of each
        self.changes = 0  # grows whenever a start has ended, well or not
        self._maker = maker
        self._refusals = refusals
        self._metrics = metrics
        self._in_flight = in_flight
        self._limits = limits
        self._kept: dict[str, AdapterCard] = {}
        self._there: dict[str, OwnEngine] = {}  # by engine name
        self._alive: set[OwnEngine] = set()  # also those that are being stopped
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._retired: dict[str, AdapterCard] = {}
        self._choosing = asyncio.Lock()
        self._turn = asyncio.Lock()  # two that start at once take each other's memory and processor

    def status(self, card: AdapterCard) -> str:
        engine = self._there.get(card.engine_name)
        return "idle" if engine is None else "loaded" if engine.lease else "starting"

    def phase(self, card: AdapterCard) -> str:
        """What its engine is doing while it starts."""
        engine = self._there.get(card.engine_name)
        return f"its own engine: {engine.phase}" if engine is not None and engine.lease is None else ""

    def is_proven(self, card: AdapterCard) -> bool:
        return self.status(card) == "loaded"

    def keep(self, cards: Sequence[AdapterCard]) -> None:
        """These are to run, the most important first; `tidy` starts them."""
        self._kept = {card.engine_name: card for card in cards[: self._limits.own_engines]}

    def refuse_too_many(self, card: AdapterCard, others: Iterable[AdapterCard]) -> None:
        """Raises `Refused` if `card` and the `others` cannot all be kept."""
        taken = [other.name for other in others if other.name != card.name]
        try:
            refuse_too_many(card.name, taken, self._limits.own_engines, self.memory_bytes)
        except BrogueError as error:
            raise Refused(str(error)) from error

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float) -> AsyncIterator[Lease]:
        lease = await self._ready(await self.begin(card), deadline)
        with self._in_flight.counted(card):
            yield lease

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        """As long as it takes: minutes, where nothing runs yet. The version may take the place of a kept one."""
        if self.is_proven(card) and not self._there[card.engine_name].has_died:
            return {"load": 0.0, "probe": 0.0}
        engine = await self.begin(card, replacing=True)
        await self._ready(engine, None)
        return engine.seconds

    async def begin(self, card: AdapterCard, replacing: bool = False) -> OwnEngine:
        """The version's engine, started if it is not there; raises `Refused` if it must not be."""
        name = card.engine_name
        if (engine := self._there.get(name)) is not None and engine.has_died:
            await self._bury(engine)
        if name not in self._there:
            await self._refusals.require_fit(card)
            async with self._choosing:
                if name not in self._there:
                    await self._make_room(card, replacing)
                    self._launch(card)
        return self._there[name]

    def drop(self, card: AdapterCard) -> None:
        self._refusals.reasons.pop(card.name, None)
        self._retired[card.engine_name] = card

    async def tidy(self) -> None:
        """Bury what died, stop what nobody needs, start what is to run."""
        for engine in [engine for engine in self._there.values() if engine.has_died]:
            await self._bury(engine)
        for engine in [engine for engine in self._there.values() if self._is_surplus(engine)]:
            await self._stop(engine)
        for name, card in list(self._retired.items()):
            if name not in self._there:
                await asyncio.to_thread(self._maker.remove_weights, card)
                del self._retired[name]
        for card in list(self._kept.values()):
            with suppress(BrogueError):  # noted and logged
                await self.begin(card)

    async def stop(self) -> None:
        """End all of them."""
        self._kept = {}
        await asyncio.gather(*(self._stop(engine) for engine in list(self._there.values())))

    def _is_surplus(self, engine: OwnEngine) -> bool:
        name = engine.card.engine_name
        if self._in_flight(engine.card):
            return False
        if name in self._retired:
            return True
        if name in self._kept or engine.lease is None:
            return False
        crowded = len(self._there) > self._limits.own_engines and _is_settled(engine)
        return crowded or self._idle_s(engine) >= self._limits.own_idle_s

    async def _make_room(self, card: AdapterCard, replacing: bool) -> None:
        most = self._limits.own_engines
        if most == 0:
            self.refuse_too_many(card, ())
        while len(self._there) >= most + replacing:
            idle = [e for e in self._there.values() if self._may_go(e)]
            if not idle:
                self.refuse_too_many(card, [engine.card for engine in self._there.values()][:most])
            await self._stop(max(idle, key=self._idle_s))
        try:
            await asyncio.to_thread(self._maker.refuse_lack, card)
        except BrogueError:  # it is raised again where the engine starts, if this does not help
            for engine in [e for e in self._there.values() if self._may_go(e) and _is_settled(e)]:
                await self._stop(engine)

    def _idle_s(self, engine: OwnEngine) -> float:
        return self._in_flight.idle_s(engine.card.engine_name)

    def _may_go(self, engine: OwnEngine) -> bool:
        kept = engine.card.engine_name in self._kept
        return not kept and engine.lease is not None and not self._in_flight(engine.card)

    def _launch(self, card: AdapterCard) -> None:
        engine = self._there[card.engine_name] = OwnEngine(card, self._maker, self._tell)
        self._alive.add(engine)
        start = self._starts[card.engine_name] = asyncio.create_task(self._start(engine))
        start.add_done_callback(lambda task: task.cancelled() or task.exception())  # it need not be waited for

    async def _start(self, engine: OwnEngine) -> None:
        card = engine.card
        try:
            async with self._turn:
                await engine.come_up()
        except BaseException as error:
            await self._end(engine)
            if isinstance(error, Exception):
                raise self._blamed(card, error) from error
            raise
        finally:
            self.changes += 1
        self._in_flight.touch(card.engine_name)
        self._metrics.load(card.name, sum(engine.seconds.values()))
        _LOG.info("%s answers from an engine of its own", card.name)

    async def _ready(self, engine: OwnEngine, deadline: float | None) -> Lease:
        card = engine.card
        start = self._starts[card.engine_name]
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(start)
        except TimeoutError:
            raise Unavailable(f"{card.name} is starting, {engine.phase}; it takes a minute or two", RETRY_S) from None
        except asyncio.CancelledError:
            if not start.cancelled():
                raise
        if engine.lease is None:
            raise Unavailable(f"the engine of {card.name} was stopped")
        return engine.lease

    async def _stop(self, engine: OwnEngine) -> None:
        start = self._starts[engine.card.engine_name]
        self._there.pop(engine.card.engine_name, None)
        start.cancel()
        await asyncio.wait([start])
        await self._end(engine)

    async def _end(self, engine: OwnEngine) -> None:
        if self._there.get(engine.card.engine_name) is engine:
            del self._there[engine.card.engine_name]
        await engine.stop()
        self._alive.discard(engine)
        self._tell()

    def _blamed(self, card: AdapterCard, error: Exception) -> Exception:
        """What a start that failed means for its version."""
        if isinstance(error, OSError):
            error = BrogueError(f"the engine of {card.name} cannot be started ({error.strerror or error})")
        if not isinstance(error, NoRoom):
            self._refusals.broke_down(card, str(error))
        return self._refusals.refuse(card, error) if isinstance(error, BrogueError) else error

    async def _bury(self, engine: OwnEngine) -> None:
        card, reason = engine.card, engine.why_dead()
        if self._there.get(card.engine_name) is not engine:
            return
        self._there.pop(card.engine_name)
        _LOG.error("%s: %s", card.name, reason)
        if time.monotonic() - engine.ready_at > STEADY_S:
            self._refusals.works(card)
        self._refusals.broke_down(card, reason)
        self._metrics.restart()
        await self._end(engine)  # what is left of its processes

    def _tell(self) -> None:
        self._maker.report([pid for engine in self._alive for pid in engine.pids])


def _is_settled(engine: OwnEngine) -> bool:
    return time.monotonic() - engine.ready_at >= GRACE_S
