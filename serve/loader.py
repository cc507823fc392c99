"""Which adapter versions the engine holds: checked, loaded, probed and unloaded here, and held while they answer.

Every version is loaded under a name that is never used twice, from a folder that never changes.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from adapters.registry import AdapterCard, Registry
from data.errors import BrogueError
from serve.engine_api import EngineApi, Lease, Refused, Unavailable
from serve.metrics import Metrics
from serve.slots import PATIENCE_S, Slots

_LOG = logging.getLogger("brogue.loader")
REFUSED_FOR_S = 30  # so long a refused version is not tried again, unless somebody asks for it
BREAKDOWNS, BREAKDOWN_FOR_S = 2, 600  # a version with which the engine broke down so often is left alone for so long


@dataclass(frozen=True)
class Limits:
    """How much the engine holds, and how long things may take."""

    slots: int = 4  # versions in one batch: vLLM's max_loras
    memory: int = 16  # versions kept loaded: vLLM's max_cpu_loras
    patience_s: float = PATIENCE_S  # see Slots
    max_wait_s: float = 120  # a request waits so long for a slot or for the engine
    idle_s: float = 60  # a version without an alias is unloaded when nobody has asked for it for so long


class Loader:
    """The engine's adapters. `check` refuses (BrogueError) what this engine could not serve, before it sees it."""

    def __init__(
        self, client: httpx.AsyncClient, registry: Registry, check: Callable[[AdapterCard], None], metrics: Metrics,
        limits: Limits,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.slots = Slots(limits.slots, limits.patience_s)
        self.kept: frozenset[str] = frozenset()  # engine names that are not unloaded just because nobody asks for them
        self.refused: dict[str, tuple[str, float]] = {}  # version → reason, when
        self._client = client
        self._api = EngineApi(client)
        self._registry = registry
        self._check = check
        self._metrics = metrics
        self._loaded: set[str] = set()  # engine names
        self._proven: set[str] = set()  # those that have answered a probe
        self._breakdowns: dict[str, tuple[int, float]] = {}  # version → how often, when last
        self._used: dict[str, float] = {}  # engine name → when it was last needed
        self._draining: dict[str, tuple[str, float]] = {}  # engine name → version, since when
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by engine name: one load or unload at a time

    def is_loaded(self, card: AdapterCard) -> bool:
        return card.engine_name in self._loaded

    def is_proven(self, card: AdapterCard) -> bool:
        return card.engine_name in self._proven

    def forget_all(self) -> None:
        """Another engine process has begun and knows nothing. New sets: a late answer of the old one goes nowhere."""
        self._loaded, self._proven = set(), set()
        self.refused.clear()

    def forget(self, card: AdapterCard) -> None:
        """The engine says that it does not know this version; it is loaded anew when it is needed next."""
        self._loaded.discard(card.engine_name)

    def try_again(self, card: AdapterCard) -> None:
        """Somebody asks for a version that may have been refused: do not answer from memory."""
        self.refused.pop(card.name, None)
        self._breakdowns.pop(card.name, None)

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float) -> AsyncIterator[Lease]:
        """A version that has a slot and stays loaded until the block ends."""
        name = card.engine_name
        await self._take_slot(name, deadline)
        try:
            await self._ensure_loaded(card, name)
            yield Lease(name, self._client)
        finally:
            self._used[name] = time.monotonic()
            self.slots.leave(name)
            if name in self._draining and not self.slots.holding(name):
                version, since = self._draining.pop(name)
                self._metrics.drain(version, time.monotonic() - since)

    def drain(self, card: AdapterCard) -> None:
        """A version is live no more: measure how long its last answers take."""
        if self.slots.holding(card.engine_name):
            self._draining[card.engine_name] = (card.name, time.monotonic())
        else:
            self._metrics.drain(card.name, 0)

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        """Check, load and probe; raises `Refused` with the reason. Gives the seconds that each took."""
        began = time.monotonic()
        await self._checked(card)  # before it queues for a slot
        async with self.holding(card, began + self.limits.max_wait_s) as lease:
            loaded_at, proven = time.monotonic(), self._proven
            if lease.name not in proven:
                with self._blamed(card):
                    await self._api.probe(lease.name)
                proven.add(lease.name)
                self._breakdowns.pop(card.name, None)
        return {"load": loaded_at - began, "probe": time.monotonic() - loaded_at}

    async def tidy(self) -> None:
        """Unload what nobody needs any more."""
        now = time.monotonic()
        for name in list(self._loaded - self.kept):
            if now - self._used.get(name, 0) >= self.limits.idle_s:
                await self._unload(name)

    def drop(self, card: AdapterCard) -> None:
        """A retired version: the next `tidy` unloads it, as soon as its last answer has ended."""
        self._used.pop(card.engine_name, None)
        self.refused.pop(card.name, None)

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
            if not self._locks[name].locked():
                await self._api.unload(name)
        return not missing

    async def _take_slot(self, name: str, deadline: float) -> None:
        try:
            waited = await self.slots.enter(name, deadline)
        except TimeoutError:
            raise Unavailable(
                f"{self.slots.wanted} adapter versions are wanted, the engine has {self.slots.total} slots and none "
                "became free in time; ask again later, or raise engine.max_loras in brogue.toml"
            ) from None
        if waited:
            self._metrics.wait(waited)

    async def _ensure_loaded(self, card: AdapterCard, name: str) -> None:
        """For those who hold a slot of this version, so that nobody unloads it meanwhile."""
        if name in self._loaded:
            return
        async with self._locks[name]:
            loaded = self._loaded
            if name in loaded:
                return
            await self._checked(card)
            await self._make_room()
            began = time.monotonic()
            with self._blamed(card):
                await self._api.load(name, str(self._registry.folder(card.adapter, card.version)))
            loaded.add(name)
            self._used[name] = time.monotonic()
            self._metrics.load(card.name, time.monotonic() - began)

    async def _checked(self, card: AdapterCard) -> None:
        reason, when = self.refused.get(card.name, ("", -REFUSED_FOR_S))
        if time.monotonic() - when < REFUSED_FOR_S:
            raise Refused(reason)
        times, when = self._breakdowns.get(card.name, (0, 0))
        if times >= BREAKDOWNS and time.monotonic() - when < BREAKDOWN_FOR_S:
            raise self._refuse(
                card, BrogueError(f"the engine broke down {times} times when it was to load {card.name}")
            )
        try:
            await asyncio.to_thread(self._check, card)  # it may read all of the weights
        except BrogueError as error:
            raise self._refuse(card, error) from error
        self.refused.pop(card.name, None)

    @contextmanager
    def _blamed(self, card: AdapterCard) -> Iterator[None]:
        """Note what becomes of a version in the engine, so that one that kills it does not do so for ever."""
        try:
            yield
        except Refused as error:
            raise self._refuse(card, error) from error
        except Unavailable:
            times, _ = self._breakdowns.get(card.name, (0, 0))
            self._breakdowns[card.name] = (times + 1, time.monotonic())
            raise

    def _refuse(self, card: AdapterCard, error: BrogueError) -> Refused:
        if self.refused.get(card.name, ("", 0))[0] != str(error):
            _LOG.warning("%s is refused: %s", card.name, error)
        self.refused[card.name] = (str(error), time.monotonic())
        return Refused(str(error))

    async def _make_room(self) -> None:
        while len(self._loaded) >= self.limits.memory:
            idle = [name for name in self._loaded if not self.slots.holding(name)]
            if not idle:
                return  # all of them answer right now; the engine copes, from disk
            await self._unload(min(idle, key=lambda name: (name in self.kept, self._used.get(name, 0))))

    async def _unload(self, name: str) -> None:
        async with self._locks[name]:
            if not self.slots.holding(name) and name in self._loaded:
                self._loaded.discard(name)
                self._proven.discard(name)
                await self._api.unload(name)
