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
from typing import NamedTuple

import httpx

from adapters.registry import AdapterCard
from data.errors import BrogueError
from serve.engine_api import EngineLink, Lease, Unavailable, Unreachable
from serve.loader import Limits, Loader
from serve.placement import Popularity, engines_for, replicas_for
from serve.replica import Replica

_LOG = logging.getLogger("brogue.replicas")


class SlotUse(NamedTuple):
    """Of adapter slots."""

    total: int
    in_use: int
    wanted: int  # distinct versions that hold one or wait for one
    waiting: int  # requests


class Replicas:
    """A `Way`, for versions that share the base model's engines, and for the base model itself.

    `make_loader` makes the loader of an engine, which is ours or elsewhere.
    """

    def __init__(
        self, links: Sequence[EngineLink], base_name: str, limits: Limits,
        make_loader: Callable[[httpx.AsyncClient, bool], Loader],
    ) -> None:  # fmt: skip
        self._base_name = base_name
        self._limits = limits
        self._all = [Replica(link, make_loader(link.client, not link.is_elsewhere)) for link in links]
        self._cards: list[AdapterCard] = []  # that are to stay loaded, the most important first
        self._proven: set[str] = set()  # by engine name: versions that all that had to have answered with
        self._popularity = Popularity()
        self._there: frozenset[str] = frozenset()  # engines that were open when this was last brought about

    @property
    def clients(self) -> list[httpx.AsyncClient]:
        """To each engine, also to those that are away."""
        return [replica.client for replica in self._all]

    @property
    def are_behind(self) -> bool:
        """Is there any to be brought up to date?"""
        return any(replica.is_behind for replica in self._all)

    @property
    def open(self) -> list[Replica]:
        """Those that requests may go to."""
        return [replica for replica in self._all if replica.is_open]

    @property
    def are_dead(self) -> bool:
        """None of them will come back by itself."""
        return all(replica.is_dead for replica in self._all)

    def why_closed(self) -> str | None:
        """Why no request can be answered now, or none."""
        if self.open:
            return None
        reasons = {replica.name: replica.why_closed or "" for replica in self._all}
        if len(reasons) == 1:
            return next(iter(reasons.values()))
        return f"none of {len(reasons)} engines can answer: {'; '.join(f'{n}: {why}' for n, why in reasons.items())}"

    def states(self) -> list[dict[str, str | int]]:
        """Each engine, for whoever runs them."""
        return [
            {"name": one.name, "state": "ready" if one.is_open else "out of rotation", "detail": one.why_closed or "",
             "answers_now": one.busy, "adapters": len(one.loader.loaded)}
            for one in self._all
        ]  # fmt: skip

    def status(self, card: AdapterCard) -> str:
        return "loaded" if any(one.loader.status(card) == "loaded" for one in self._all) else "idle"

    def is_proven(self, card: AdapterCard) -> bool:
        return card.engine_name in self._proven and any(one.loader.is_proven(card) for one in self._all)

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float) -> AsyncIterator[Lease]:
        self._popularity.note(card.adapter)
        replica = self._least_busy(self._homes(card), card.engine_name)
        with replica.counted():
            async with replica.loader.holding(card, deadline) as lease:
                yield lease

    @contextmanager
    def base(self) -> Iterator[Lease]:
        """The base model, at the engine that has least to do."""
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

    def forget(self, card: AdapterCard, client: httpx.AsyncClient) -> None:
        """An engine says that it does not know this version."""
        for replica in self._all:
            if replica.client is client:
                replica.loader.forget(card)

    def lost(self, client: httpx.AsyncClient, error: httpx.HTTPError) -> bool:
        """A connection to an engine broke: it is out of rotation until it is well; whether others can answer."""
        found = [replica for replica in self._all if replica.client is client]
        for replica in found:
            self._suspect(replica, f"a connection broke ({type(error).__name__})")
        return bool(found) and any(replica not in found for replica in self.open)

    def slots(self) -> SlotUse:
        """Of all engines that are open."""
        each = [one.loader.slots for one in self.open or self._all]
        wanted = {name for slots in each for name in slots.wanted_names}
        in_use, waiting = sum(slots.in_use for slots in each), sum(slots.waiting() for slots in each)
        return SlotUse(sum(slots.total for slots in each), in_use, len(wanted), waiting)

    def waiting(self, name: str) -> int:
        """Requests of a version, by its engine name, that wait for a slot."""
        return sum(replica.loader.slots.waiting(name) for replica in self._all)

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

    def why_missing(self) -> str:
        """Why fewer engines than there are can answer, in one line."""
        away = [f"{one.name} is {one.why_closed}" for one in self._all if not one.is_open]
        return "; ".join(away)

    def _homes(self, card: AdapterCard, soon: bool = False) -> list[Replica]:
        """The open engines that are to hold a version; with `soon` those count as well that will be open soon."""
        there = {one.name: one for one in self._all if one.is_open or (soon and one.is_ready)}
        least = self._limits.copies
        if least is None or least >= len(there):
            return list(there.values())
        copies = replicas_for(self._popularity.share(card.adapter), len(there), least)
        return [there[name] for name in engines_for(card.adapter, list(there), copies)]

    def _wanted(self, replica: Replica) -> list[AdapterCard]:
        """What a replica is to hold, or will be when it is open."""
        mine = [card for card in self._cards if replica in self._homes(card, soon=True)]
        return mine[: self._limits.memory]

    def _least_busy(self, among: Sequence[Replica], name: str | None = None) -> Replica:
        """Where a request waits least: first of all where the version has a slot or finds one."""
        if not among:
            raise Unavailable(self.why_closed() or "no engine can answer now")
        return min(among, key=lambda one: (name is not None and not one.loader.slots.is_free_for(name), one.busy))
