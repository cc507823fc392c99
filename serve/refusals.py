"""Versions that are left alone for a while, and why: what the check refuses, what an engine refuses or dies of."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.registry import AdapterCard
from data.errors import BrogueError
from serve.engine_api import Refused, Unavailable

_LOG = logging.getLogger("brogue.loader")
REFUSED_FOR_S = 30  # so long a refused version is not tried again, unless somebody asks for it
BREAKDOWNS, BREAKDOWN_FOR_S = 2, 600  # a version with which the engine broke down so often is left alone for so long


class Refusals:
    """`check` refuses (BrogueError) what this engine could not serve, before it sees it."""

    def __init__(self, check: Callable[[AdapterCard], None]) -> None:
        self.reasons: dict[str, tuple[str, float]] = {}  # version → reason, when
        self._check = check
        self._breakdowns: dict[str, tuple[int, float, str]] = {}  # version → how often, when last, why

    async def require_fit(self, card: AdapterCard) -> None:
        """Raises `Refused` for a version that is not to be tried now."""
        reason, when = self.reasons.get(card.name, ("", -REFUSED_FOR_S))
        if time.monotonic() - when < REFUSED_FOR_S:
            raise Refused(reason)
        times, when, why = self._breakdowns.get(card.name, (0, 0, ""))
        if times >= BREAKDOWNS and time.monotonic() - when < BREAKDOWN_FOR_S:
            last = f"; the last time: {why}" if why else ""
            raise self.refuse(
                card, BrogueError(f"the engine broke down {times} times when it was to load {card.name}{last}")
            )
        try:
            await asyncio.to_thread(self._check, card)  # it may read all of the weights
        except BrogueError as error:
            raise self.refuse(card, error) from error
        self.reasons.pop(card.name, None)

    @contextmanager
    def blamed(self, card: AdapterCard) -> Iterator[None]:
        """Note what becomes of a version in the engine, so that one that kills it does not do so for ever."""
        try:
            yield
        except Refused as error:
            raise self.refuse(card, error) from error
        except Unavailable:
            self.broke_down(card)
            raise

    def refuse(self, card: AdapterCard, error: BrogueError) -> Refused:
        """Note and log the reason; the error to raise."""
        if self.reasons.get(card.name, ("", 0))[0] != str(error):
            _LOG.warning("%s is refused: %s", card.name, error)
        self.reasons[card.name] = (str(error), time.monotonic())
        return Refused(str(error))

    def broke_down(self, card: AdapterCard, why: str = "") -> None:
        """An engine broke down with this version."""
        times, *_ = self._breakdowns.get(card.name, (0, 0, ""))
        self._breakdowns[card.name] = (times + 1, time.monotonic(), why)

    def works(self, card: AdapterCard) -> None:
        """The version has answered."""
        self._breakdowns.pop(card.name, None)

    def try_again(self, card: AdapterCard) -> None:
        """Somebody asks for a version that may have been refused: do not answer from memory."""
        self.reasons.pop(card.name, None)
        self.works(card)
