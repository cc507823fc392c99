"""Which LoRA versions the base model's engine holds: checked, loaded, probed, unloaded, and held while they answer.

Every version is loaded under a name that is never used twice, from a folder that never changes.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from adapters.registry import AdapterCard, Registry
from serve.engine_api import EngineApi, Lease, Unavailable, probe
from serve.metrics import Metrics
from serve.refusals import Refusals
from serve.slots import PATIENCE_S, Slots
from serve.ways import InFlight

_LOG = logging.getLogger("brogue.loader")
ON_ITS_WAY_S = 10.0  # so long an engine elsewhere may take to get a version's files


@dataclass(frozen=True)
class Limits:
    """How much the engine holds, and how long things may take."""

    slots: int = 4  # versions in one batch: vLLM's max_loras
    memory: int = 16  # versions kept loaded: vLLM's max_cpu_loras
    patience_s: float = PATIENCE_S  # see Slots
    max_wait_s: float = 120  # a request waits so long for a slot or for the engine
    idle_s: float = 60  # a version without an alias is unloaded when nobody has asked for it for so long
    copies: int | None = None  # engines that hold an adapter; none: all
    quorum: int | None = None  # engines that must have answered with a version before it goes live; none: all that can
    own_engines: int = 1  # versions with an engine of their own; one more while it takes another's place
    own_idle_s: float = 300  # such a version without an alias is stopped when nobody has asked for it for so long


class Loader:
    """One engine's adapters; `client` speaks to it with its key. `is_ours`: nobody else loads adapters into it."""

    def __init__(
        self, client: httpx.AsyncClient, registry: Registry, refusals: Refusals, metrics: Metrics, in_flight: InFlight,
        limits: Limits, is_ours: bool = True,
    ) -> None:  # fmt: skip
        self.limits = limits
        self._is_ours = is_ours
        self.slots = Slots(limits.slots, limits.patience_s)
        self.kept: frozenset[str] = frozenset()  # engine names that are not unloaded just because nobody asks for them
        self.refusals = refusals
        self._in_flight = in_flight
        self._client = client
        self._api = EngineApi(client)
        self._registry = registry
        self._metrics = metrics
        self._loaded: set[str] = set()  # engine names
        self._proven: set[str] = set()  # those that have answered a probe
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by engine name: one load or unload at a time

    @property
    def loaded(self) -> frozenset[str]:
        """Engine names of the versions that it holds."""
        return frozenset(self._loaded)

    def status(self, card: AdapterCard) -> str:
        return "loaded" if card.engine_name in self._loaded else "idle"

    def is_proven(self, card: AdapterCard) -> bool:
        return card.engine_name in self._proven

    def forget_all(self) -> None:
        """Another engine process has begun and knows nothing. New sets: a late answer of the old one goes nowhere."""
        self._loaded, self._proven = set(), set()
        self.refusals.reasons.clear()

    def forget(self, card: AdapterCard) -> None:
        """The engine says that it does not know this version; it is loaded anew when it is needed next."""
        self._loaded.discard(card.engine_name)

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float) -> AsyncIterator[Lease]:
        """A version that has a slot and stays loaded until the block ends."""
        name = card.engine_name
        await self.take_slot(name, deadline)
        try:
            with self._in_flight.counted(card):
                await self.ensure_loaded(card)
                yield Lease(name, self._client)
        finally:
            self.slots.leave(name)

    @asynccontextmanager
    async def lent(self, name: str, folder: Path, deadline: float) -> AsyncIterator[Lease]:
        """Weights that are no version (a policy in training): loaded, with a slot, until the block ends."""
        await self.take_slot(name, deadline)
        try:
            async with self._locks[name]:  # held all the while, so that `compare` leaves it alone
                await self._api.load(name, str(folder))
                try:
                    yield Lease(name, self._client)
                finally:
                    await self._api.unload(name)
        finally:
            self._locks.pop(name, None)
            self.slots.leave(name)

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        """Check, load and probe; raises `Refused` with the reason. Gives the seconds that each took."""
        began = time.monotonic()
        await self.refusals.require_fit(card)  # before it queues for a slot
        async with self.holding(card, began + self.limits.max_wait_s) as lease:
            loaded_at, proven = time.monotonic(), self._proven
            if lease.name not in proven:
                with self.refusals.blamed(card):
                    await probe(card.name, lease)
                proven.add(lease.name)
                self.refusals.works(card)
        return {"load": loaded_at - began, "probe": time.monotonic() - loaded_at}

    async def tidy(self) -> None:
        """Unload what nobody needs any more."""
        for name in list(self._loaded - self.kept):
            if self._in_flight.idle_s(name) >= self.limits.idle_s:
                await self._unload(name)

    def drop(self, card: AdapterCard) -> None:
        """A retired version: the next `tidy` unloads it, as soon as its last answer has ended."""
        self._in_flight.forget(card.engine_name)
        self.refusals.reasons.pop(card.name, None)

    async def compare(self) -> bool:
        """Compare with the engine's own list; false if it lacked something, which is then loaded anew when needed."""
        before = set(self._loaded)
        there = await self._api.loaded()
        missing = (before - there) & self._loaded
        if missing:
            _LOG.warning("the engine has lost %s", ", ".join(sorted(missing)))
        self._loaded -= missing
        self._proven -= missing
        for name in there - before - self._loaded:
            if self._is_ours and not self._locks[name].locked():  # elsewhere others may have put it there
                await self._api.unload(name)
        return not missing

    async def take_slot(self, name: str, deadline: float) -> None:
        """Raises `Unavailable` at the deadline. Whoever has one gives it back: `slots.leave`."""
        try:
            waited = await self.slots.enter(name, deadline)
        except TimeoutError:
            raise Unavailable(
                f"{self.slots.wanted} adapter versions are wanted, the engine has {self.slots.total} slots and none "
                "became free in time; ask again later, or raise engine.max_loras in brogue.toml"
            ) from None
        if waited:
            self._metrics.wait(waited)

    async def ensure_loaded(self, card: AdapterCard) -> None:
        """For those who hold a slot of this version, so that nobody unloads it meanwhile."""
        name = card.engine_name
        if name in self._loaded:
            return
        async with self._locks[name]:
            loaded = self._loaded
            if name in loaded:
                return
            await self.refusals.require_fit(card)
            await self._make_room()
            began = time.monotonic()
            with self.refusals.blamed(card):
                folder = self._registry.folder(card.adapter, card.version)
                await self._api.load(name, str(folder), 0 if self._is_ours else ON_ITS_WAY_S)
            loaded.add(name)
            self._metrics.load(card.name, time.monotonic() - began)

    async def _make_room(self) -> None:
        while len(self._loaded) >= self.limits.memory:
            idle = [name for name in self._loaded if not self.slots.holding(name)]
            if not idle:
                return  # all of them answer right now; the engine copes, from disk
            await self._unload(min(idle, key=lambda name: (name in self.kept, -self._in_flight.idle_s(name))))

    async def _unload(self, name: str) -> None:
        async with self._locks[name]:
            if not self.slots.holding(name) and name in self._loaded:
                self._loaded.discard(name)
                self._proven.discard(name)
                await self._api.unload(name)
