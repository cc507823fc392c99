"""One of the base model's engines: whether requests may go to it, and what it is to hold before they may."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from adapters.registry import AdapterCard
from data.errors import BrogueError
from serve.engine_api import EngineLink, Unavailable, Unreachable
from serve.loader import Loader

_LOG = logging.getLogger("brogue.replica")
LOOK_S = 2  # an engine that takes longer to say that it is well is not well
Wanted = Callable[["Replica"], Iterable[AdapterCard]]  # what a replica is to hold


@dataclass(frozen=True)
class _Start:
    """Tells one process of the engine from the next."""

    process: int  # as its keeper counts them
    comeback: int  # how often it came back after it could not be reached


class Replica:
    """An engine with its adapters. It is open while its process is well and holds what it is to hold."""

    def __init__(self, link: EngineLink, loader: Loader) -> None:
        self.name, self.address, self.client, self.loader = link.name, link.address, link.client, loader
        self.busy = 0  # answers that it is writing
        self.restoring: asyncio.Task[None] | None = None
        self._link = link
        self._trouble = "not looked at yet" if link.is_elsewhere else ""
        self._comebacks = 0
        self._restored: _Start | None = None

    @property
    def is_ready(self) -> bool:
        """Its process is well."""
        return not self._trouble and self._link.now().state == "ready"

    @property
    def is_open(self) -> bool:
        return self.is_ready and self._restored == self._start

    @property
    def is_elsewhere(self) -> bool:
        return self._link.is_elsewhere

    @property
    def is_dead(self) -> bool:
        """It will not come back by itself."""
        return self._link.now().state == "dead"

    @property
    def is_behind(self) -> bool:
        """Its process is well, but it does not hold what it is to hold, and nobody is at work on that."""
        return self.is_ready and not self.is_open and self.restoring is None

    @property
    def why_closed(self) -> str | None:
        """Why no request may go to it, or none."""
        now = self._link.now()
        if now.state != "ready":
            return f"{now.state}: {now.detail}"
        if self._trouble:
            return f"away: {self._trouble}"
        return None if self.is_open else "starting: its adapters are being loaded"

    @property
    def _start(self) -> _Start:
        return _Start(self._link.now().starts, self._comebacks)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One answer."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    def suspect(self, why: str) -> None:
        """A connection to it broke: no request goes there until it says that it is well, and was brought up to date."""
        if not self._trouble:
            _LOG.warning("engine %s is out of rotation: %s", self.name, why)
            self._trouble = why

    def leave_behind(self, why: str) -> None:
        """It does not hold what the others hold: no request goes there before it does."""
        self.suspect(why)
        self._restored = None

    async def look(self, base_name: str) -> None:
        """Ask it whether it is well, if nobody else knows that."""
        if not (self._link.is_elsewhere or self._trouble):
            return
        trouble = await self._ask(base_name)
        if self._trouble and not trouble and self._link.is_elsewhere:
            self._comebacks += 1  # it may have been started anew meanwhile, and know nothing
        if trouble and trouble != self._trouble:
            _LOG.warning("engine %s is out of rotation: %s", self.name, trouble)
        self._trouble = trouble

    async def _ask(self, base_name: str) -> str:
        try:
            reply = await self.client.get("/v1/models", timeout=LOOK_S)
        except httpx.HTTPError as error:
            return f"it cannot be reached ({type(error).__name__})"
        if reply.status_code != 200:
            return f"it answers {reply.status_code} when asked for its models"
        try:
            names = [model["id"] for model in reply.json()["data"]]
        except (ValueError, KeyError, TypeError):
            return "what it says of its models is not what vLLM says"
        served = ", ".join(names[:3]) or "nothing"
        return "" if base_name in names else f"it serves {served}, not '{base_name}'; start it with that name"

    async def restore(self, wanted: Wanted) -> None:
        """Load what it is to hold, into a process that knows nothing; then requests may come."""
        start = self._start
        self.loader.forget_all()
        tried: set[str] = set()
        while missing := [card for card in wanted(self) if card.engine_name not in tried]:
            for card in missing:  # a version may go live meanwhile: then once more
                tried.add(card.engine_name)
                await self.prove_if_possible(card)
        self._restored = start

    async def prove_if_possible(self, card: AdapterCard) -> None:
        """Without an error for a version that is refused: that is noted and logged. Raises `Unavailable`."""
        try:
            await self.loader.prove(card)
        except Unreachable as error:
            self.suspect(str(error))
            raise
        except Unavailable:
            raise
        except BrogueError:
            pass
