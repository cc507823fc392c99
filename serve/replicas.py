"""The base model's engines as one: which of them a request goes to, and what a version is before it may go live.

Every engine holds what the aliases ask for, or with `Limits.copies` only its share of it (serve/placement.py). A
version is proven when all open engines that are to hold it have answered with it, or `Limits.quorum` of them: the
others are taken out of rotation. An engine that comes (back) gets its adapters first, and requests then.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from adapters.registry import AdapterCard
from data.errors import BrogueError
from serve.engine_api import EngineLink, Lease, Unavailable, Unreachable
from serve.loader import Limits, Loader
from serve.placement import Popularity, engines_for, replicas_for
from serve.replica import Replica
from serve.rotation import Rotation
from serve.router import Router

_LOG = logging.getLogger("brogue.replicas")


class Replicas(Rotation):
    """A `Way`, for versions that share the base model's engines, and for the base model itself.

    `make_loader` makes the loader of an engine, which is ours or elsewhere. `router` stands before all of them.
    """

    def __init__(
        self, links: Sequence[EngineLink], base_name: str, limits: Limits,
        make_loader: Callable[[httpx.AsyncClient, bool], Loader], router: Router | None = None,
    ) -> None:  # fmt: skip
        self._base_name = base_name
        self._limits = limits
        super().__init__([Replica(link, make_loader(link.client, not link.is_elsewhere)) for link in links])
        self.router = router
        self._cards: list[AdapterCard] = []  # that are to stay loaded, the most important first
        self._proven: set[str] = set()  # by engine name: versions that all that had to have answered with
        self._popularity = Popularity()
        self._there: frozenset[str] = frozenset()  # engines that were open when this was last brought about

    def status(self, card: AdapterCard) -> str:
        return "loaded" if any(one.loader.status(card) == "loaded" for one in self._all) else "idle"

    def is_proven(self, card: AdapterCard) -> bool:
        return card.engine_name in self._proven and any(one.loader.is_proven(card) for one in self._all)

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float, by_router: bool = False) -> AsyncIterator[Lease]:
        self._popularity.note(card.adapter)
        if by_router and self.router is not None and (engines := self._any_of(card)):
            async with self.router.holding(card, engines, deadline) as lease:
                yield lease
            return
        replica = self._least_busy(self._homes(card), card.engine_name)
        with replica.counted():
            async with replica.loader.holding(card, deadline) as lease:
                yield lease

    @contextmanager
    def base(self, by_router: bool = False) -> Iterator[Lease]:
        """The base model, at the engine that has least to do."""
        if by_router and self.router is not None and self.router.is_well and self.open:
            with self.router.base(self._base_name) as lease:
                yield lease
            return
        ready = self.open or [one for one in self._all if one.is_ready]  # while versions are being loaded, to try one
        replica = self._least_busy(ready or self._all)
        with replica.counted():
            yield Lease(self._base_name, replica.client)

    @asynccontextmanager
    async def lent(self, name: str, folder: Path, deadline: float) -> AsyncIterator[Lease]:
        """Weights that are no version, loaded into one engine until the block ends."""
        replica = self._least_busy(self.open, name)
        with replica.counted():
            async with replica.loader.lent(name, folder, deadline) as lease:
                yield lease

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        """Check, load and probe on every engine that is to hold it; the seconds that each took, at the slowest one."""
        homes = self._homes(card)
        if not homes:
            raise Unavailable(self.why_closed() or "no engine can answer now")
        for replica in homes:  # until the next `keep`: it must not be tidied away before it goes live
            replica.loader.kept |= {card.engine_name}
        found = await asyncio.gather(*(one.loader.prove(card) for one in homes), return_exceptions=True)
        proven, failed = [], []
        for replica, result in zip(homes, found, strict=True):
            if not isinstance(result, BaseException):
                proven.append(result)
            elif isinstance(result, Unavailable):
                failed.append((replica, result))
            else:
                self.keep(self._cards)
                raise result  # the version is at fault, or we are
        self._leave_behind(card, failed, len(proven))
        self._proven.add(card.engine_name)
        return {what: max(one[what] for one in proven) for what in ("load", "probe")}

    def drop(self, card: AdapterCard) -> None:
        self._proven.discard(card.engine_name)
        for replica in self._all:
            replica.loader.drop(card)

    def keep(self, cards: Iterable[AdapterCard]) -> None:
        """These are to stay loaded, as far as there is room: the most important first."""
        self._cards = list(cards)
        for replica in self._all:
            replica.loader.kept = frozenset(card.engine_name for card in self._wanted(replica))

    async def load_kept(self) -> None:
        """Load what is to stay loaded and is not, on all open engines."""
        self.keep(self._cards)
        there = self.open
        for replica in there:
            for card in self._wanted(replica):
                if not replica.loader.is_proven(card):
                    await replica.prove_if_possible(card)
        self._there = frozenset(replica.name for replica in there)

    async def look(self) -> None:
        """Ask those about whose process nobody here knows."""
        await asyncio.gather(*(replica.look(self._base_name) for replica in self._all))
        if self.router is not None:
            await self.router.look(self._all)

    async def restore(self) -> bool:
        """Bring engines up to date that have come (back); whether the open ones are others than before.

        While others answer it goes on in the background. Raises what went wrong where none does.
        """
        for replica in self._all:
            if replica.is_behind:
                replica.restoring = asyncio.create_task(replica.restore(self._wanted))
        tasks = [one.restoring for one in self._all if one.restoring is not None]
        if tasks and not self.open:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for replica in self._all:
            if replica.restoring is not None and replica.restoring.done():
                task, replica.restoring = replica.restoring, None
                self._tell(replica, task.exception())
        return frozenset(replica.name for replica in self.open) != self._there

    def _tell(self, replica: Replica, error: BaseException | None) -> None:
        if error is None:
            return
        if not isinstance(error, BrogueError) or not self.open:
            raise error
        _LOG.warning("engine %s is not brought up to date yet: %s", replica.name, error)

    async def compare(self) -> bool:
        """Compare with the engines' own lists; false if one lacked something."""
        same = True
        for replica in self.open:
            with self._reaching(replica):
                same = await replica.loader.compare() and same
        return same

    async def tidy(self) -> None:
        """Unload what nobody needs any more."""
        for replica in self.open:
            with self._reaching(replica):
                await replica.loader.tidy()

    async def stop(self) -> None:
        """End what is going on, and the connections."""
        for replica in self._all:
            if replica.restoring is not None:
                replica.restoring.cancel()
            await replica.client.aclose()
        if self.router is not None:
            await self.router.client.aclose()

    def forget(self, card: AdapterCard, client: httpx.AsyncClient) -> None:
        """An engine says that it does not know this version."""
        for replica in self._all:
            if replica.client is client:
                replica.loader.forget(card)

    def lost(self, client: httpx.AsyncClient, error: httpx.HTTPError) -> bool:
        """A connection to an engine broke: it is out of rotation until it is well; whether others can answer."""
        if self.router is not None and client is self.router.client:
            self.router.suspect(f"a connection broke ({type(error).__name__})")
            return bool(self.open)
        found = [replica for replica in self._all if replica.client is client]
        for replica in found:
            self._suspect(replica, f"a connection broke ({type(error).__name__})")
        return bool(found) and any(replica not in found for replica in self.open)

    def _suspect(self, replica: Replica, why: str) -> bool:
        if len(self._all) == 1 and not replica.is_elsewhere:
            return False  # of a single one of ours its keeper knows more
        replica.suspect(why)
        return True

    @contextmanager
    def _reaching(self, replica: Replica) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            if not self._suspect(replica, str(error)):
                raise

    def _leave_behind(self, card: AdapterCard, failed: Sequence[tuple[Replica, Unavailable]], proven: int) -> None:
        """Go on without the engines that broke down, and with a quorum without those that did not manage in time."""
        for replica, error in failed:
            if isinstance(error, Unreachable):
                self._suspect(replica, str(error))
        quorum = self._limits.quorum
        if not proven or (quorum is None and any(replica.is_open for replica, _ in failed)):
            raise failed[0][1]
        if proven < (quorum or 1):
            raise Unavailable(
                f"{card.name} has answered on {proven} engines and engine.quorum wants {quorum}; "
                f"{self.why_missing() or 'raise engine.copies in brogue.toml'}"
            )
        for replica, error in failed:
            replica.leave_behind(f"it lacks {card.name}: {error}")

    def _homes(self, card: AdapterCard, soon: bool = False) -> list[Replica]:
        """The open engines that are to hold a version; with `soon` those count as well that will be open soon."""
        there = {one.name: one for one in self._all if one.is_open or (soon and one.is_ready)}
        least = self._limits.copies
        if least is None or least >= len(there):
            return list(there.values())
        copies = replicas_for(self._popularity.share(card.adapter), len(there), least)
        return [there[name] for name in engines_for(card.adapter, list(there), copies)]

    def _any_of(self, card: AdapterCard) -> list[Replica]:
        """All open engines, if the router may choose: each is to hold the version, has proven it and has a slot for it.

        While slots are short versions are apart, each on engines of its own: more of them answer at a time.
        """
        there, name = self.open, card.engine_name
        if self.router is None or not self.router.is_well or len(self._homes(card)) < len(there):
            return []
        can = all(one.loader.is_proven(card) and one.loader.slots.is_free_for(name) for one in there)
        return there if can else []

    def _wanted(self, replica: Replica) -> list[AdapterCard]:
        """What a replica is to hold, or will be when it is open."""
        mine = [card for card in self._cards if replica in self._homes(card, soon=True)]
        return mine[: self._limits.memory]
