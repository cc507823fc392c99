"""The adapters' life in the gateway: which version is live, how one takes the place of another, who may ask the engine.

A version goes live by check → load → probe → flip; the one before drains: its running answers end in its own voice,
then it is unloaded (unless a roll back would want it). `serve/reconciler.py` keeps this true while the engine
restarts and files change.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.registry import AdapterCard, AdapterState, CanaryPlan, Registry
from data.errors import BrogueError
from serve.canary import Trials
from serve.engine_api import EngineLink, Lease, Unavailable
from serve.live import LiveMap
from serve.loader import Limits, Loader
from serve.metrics import Metrics
from serve.own_engine import Maker
from serve.own_engines import OwnEngines
from serve.refusals import Refusals
from serve.replicas import Replicas
from serve.router import Router
from serve.soft_prompt import SoftPrompts
from serve.ways import InFlight, Way

_LOG = logging.getLogger("brogue.pool")


@dataclass(frozen=True)
class Moved:
    """A finished move of an alias."""

    before: int | None
    after: int | None
    seconds: dict[str, float]


class AdapterPool:
    """The adapters of the base model's engines (`engines`).

    `maker` makes the engines of versions that cannot share this one. `router` is a link to a vllm-router before them.
    `templates` are the base model's chat templates by name: soft prompts go before what these write.
    """

    def __init__(
        self, engines: Sequence[EngineLink], base_name: str, registry: Registry, check: Callable[[AdapterCard], None],
        trials: Trials, metrics: Metrics, limits: Limits, templates: Mapping[str, str], maker: Maker,
        router: EngineLink | None = None,
    ) -> None:  # fmt: skip
        self.base_name = base_name
        self.registry = registry
        self.trials = trials
        self.metrics = metrics
        self.limits = limits
        self.live = LiveMap(registry)
        self.refusals, self.in_flight = Refusals(check), InFlight(metrics)
        self.replicas = Replicas(
            engines, base_name, limits,
            lambda client, is_ours: Loader(
                client, registry, self.refusals, metrics, self.in_flight, limits, is_ours
            ),
            Router(router, self.in_flight) if router is not None else None,
        )  # fmt: skip
        self._soft_prompts = SoftPrompts(self.replicas.base, templates, registry, self.refusals, self.in_flight)
        self.own = OwnEngines(maker, self.refusals, metrics, self.in_flight, limits)
        self._moves: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by adapter: one move at a time
        self._opened = asyncio.Event()

    def why_closed(self) -> str | None:
        """Why no request can be answered now, or none."""
        return self.replicas.why_closed()

    async def wait_open(self, deadline: float) -> None:
        """Returns when requests can be answered; raises `Unavailable` at the deadline, at once if they never will."""
        while (reason := self.why_closed()) is not None:
            if self.replicas.are_dead:
                raise Unavailable(reason, retry_after_s=None)
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable(reason)
            self._opened.clear()
            try:
                await asyncio.wait_for(self._opened.wait(), min(left, 0.5))
            except TimeoutError:
                pass  # look again: the engine may be dead by now

    def way(self, card: AdapterCard) -> Way:
        """How a version is served."""
        if card.served == "merged":
            return self.own
        return self._soft_prompts if card.served == "soft-prompt" else self.replicas

    @asynccontextmanager
    async def lease(self, card: AdapterCard | None, deadline: float, by_router: bool = False) -> AsyncIterator[Lease]:
        """A version (none: the base model) as its engine knows it, usable until the block ends.

        With `by_router` at an engine that the router chooses, if there is one and it may choose.
        """
        if card is None or not self._answers_alone(card):
            await self.wait_open(deadline)
        if card is None:
            with self.replicas.base(by_router) as lease:
                yield lease
            return
        way = self.way(card)
        held = self.replicas.holding(card, deadline, by_router) if way is self.replicas else way.holding(card, deadline)
        async with held as lease:
            yield lease

    def _answers_alone(self, card: AdapterCard) -> bool:
        return card.served == "merged" and self.own.is_proven(card)

    async def restore(self) -> None:
        """Bring engines up to date that are new, or back: load what is to stay loaded, then let requests in."""
        await self.replicas.look()
        if self.replicas.are_behind:
            self._keep()
        others = await self.replicas.restore()
        if self.replicas.open:
            self._opened.set()
            if others:
                await self.load_kept()

    async def load_kept(self) -> None:
        """Load what is to stay loaded and is not; engines of versions' own start later (`OwnEngines.tidy`)."""
        self._keep()
        await self.replicas.load_kept()
        for card in self._kept_cards():
            if card.served == "soft-prompt":
                await self._prove_if_possible(card)

    async def promote(
        self, adapter: str, alias: str, version: int, who: str = "", why: str = "", plan: CanaryPlan | None = None,
        force: bool = False,
    ) -> Moved:  # fmt: skip
        """Let an alias mean another version, once that is loaded and has answered; till then the old one goes on.

        One that failed its exam is not loaded at all, unless it is forced.
        """
        card = self.registry.card(adapter, version)
        self.registry.refuse_failed(adapter, alias, version, force)
        await self.wait_open(time.monotonic() + self.limits.max_wait_s)
        self.refusals.try_again(card)
        started: dict[str, float] = {}
        if card.served == "merged":  # this may take minutes, in which other moves must not wait
            self._refuse_too_many(adapter, alias, card)
            started = await self.own.prove(card)
        async with self._moves[adapter]:
            before = self.live.alias(adapter, alias)
            await self.wait_open(time.monotonic() + self.limits.max_wait_s)
            seconds = await self.way(card).prove(card) | started
            began = time.monotonic()
            # In a thread: where gateways share their state, it goes to the others first.
            wanted = await asyncio.to_thread(self.registry.move, adapter, alias, version, who, why, plan, force)
            self._flip(adapter, wanted)
            return Moved(before, version, seconds | {"flip": time.monotonic() - began})

    async def remove_alias(self, adapter: str, alias: str, who: str = "", why: str = "") -> Moved:
        """Let an alias mean nothing any more."""
        async with self._moves[adapter]:
            began, before = time.monotonic(), self.live.alias(adapter, alias)
            self._flip(adapter, await asyncio.to_thread(self.registry.move, adapter, alias, None, who, why))
            return Moved(before, None, {"load": 0.0, "probe": 0.0, "flip": time.monotonic() - began})

    async def retire(self, adapter: str, version: int) -> None:
        """Hide a version for ever; it leaves the engine when its last answer has ended."""
        async with self._moves[adapter]:
            card = self.registry.card(adapter, version)
            await asyncio.to_thread(self.registry.retire, adapter, version)
            self._flip(adapter, self.registry.state(adapter))
            self.way(card).drop(card)

    async def follow_disk(self) -> None:
        """Make live what the registry's files say; a refused version leaves its alias where it was."""
        states = self.registry.states()
        for adapter in set(self.live.states) - set(states):
            self.live.put(adapter, None)
        for adapter, state in states.items():
            if state != self.live.states.get(adapter):
                async with self._moves[adapter]:
                    await self._follow(adapter)

    async def _follow(self, adapter: str) -> None:
        wanted = self.registry.state(adapter)  # anew: it may have been moved while we waited for our turn
        for alias, version in wanted.aliases.items():
            if self.live.alias(adapter, alias) != version:
                try:
                    card = self.registry.card(adapter, version)
                except BrogueError as error:
                    _LOG.warning("%s@%s cannot follow: %s", adapter, alias, error)
                    continue
                if card.served == "merged" and not self.own.is_proven(card):
                    await self._begin(adapter, alias, card)
                else:
                    await self._prove_if_possible(card)
        self._flip(adapter, wanted)

    async def _begin(self, adapter: str, alias: str, card: AdapterCard) -> None:
        """Let its own engine come up meanwhile: that takes minutes. The reconciler comes back when it has ended."""
        try:
            self._refuse_too_many(adapter, alias, card)
            await self.own.begin(card, replacing=True)
        except BrogueError as error:
            self.refusals.refuse(card, error)

    def _refuse_too_many(self, adapter: str, alias: str, card: AdapterCard) -> None:
        """Raises `Refused` if there would be more versions with engines of their own than may be."""
        if card.served == "merged":
            meant = {(name, a): n for name, state in self.live.states.items() for a, n in state.aliases.items()}
            meant[adapter, alias] = card.version
            versions = dict.fromkeys((name, n) for (name, _), n in meant.items())
            self.own.refuse_too_many(card, [c for c in self._cards(versions) if c.served == "merged"])

    async def _prove_if_possible(self, card: AdapterCard) -> None:
        """Without an error for a version that is refused: the loader has noted and logged it. The engine must be up."""
        try:
            await self.way(card).prove(card)
        except Unavailable:
            raise
        except BrogueError:
            pass

    def _flip(self, adapter: str, wanted: AdapterState) -> None:
        """Make a state live in one assignment. An alias whose version has not proven itself keeps its old meaning."""
        old = self.live.states.get(adapter) or AdapterState()
        aliases = {}
        for alias, version in wanted.aliases.items():
            # An adapter's very first stable goes live in any case: its clients are told why it is refused.
            if self._is_proven(adapter, version) or (alias == "stable" and alias not in old.aliases):
                aliases[alias] = version
            elif alias in old.aliases:
                aliases[alias] = old.aliases[alias]
        canary_moved = aliases.get("canary") == wanted.aliases.get("canary")
        plan = wanted.canary if canary_moved else old.canary
        self.live.put(adapter, wanted.model_copy(update={"aliases": aliases, "canary": plan}))
        self._keep()
        self._after_flip(adapter, old.aliases, aliases)

    def _is_proven(self, adapter: str, version: int) -> bool:
        try:
            card = self.live.card(adapter, version)
            return self.way(card).is_proven(card)
        except BrogueError:
            return False

    def _after_flip(self, adapter: str, before: dict[str, int], after: dict[str, int]) -> None:
        for alias in {*before, *after}:
            if before.get(alias) != after.get(alias):
                self.metrics.swap(adapter, alias)
        pair = after.get("stable"), after.get("canary")
        if None not in pair and pair != (before.get("stable"), before.get("canary")):
            self.trials.start(adapter, after["stable"], after["canary"])
        for version in set(before.values()) - set(after.values()):
            self.in_flight.drain(self.live.card(adapter, version))

    def _kept_cards(self) -> list[AdapterCard]:
        return self._cards(self.live.kept())

    def _cards(self, versions: Iterable[tuple[str, int]]) -> list[AdapterCard]:
        cards = []
        for adapter, version in versions:
            try:
                cards.append(self.live.card(adapter, version))
            except BrogueError as error:  # one broken card must not hold up the other versions
                self.refusals.reasons[f"{adapter}@{version}"] = (str(error), time.monotonic())
        return cards

    def _keep(self) -> None:
        # A soft prompt takes no room in an engine, and a merged version has its own.
        self.replicas.keep([card for card in self._kept_cards() if card.served in ("native", "converted")])
        # Not those to roll back to: a whole engine is too much for that.
        self.own.keep([card for card in self._cards(self.live.aliased()) if card.served == "merged"])
