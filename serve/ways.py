"""The ways in which versions are served: what the pool asks of each.

`Loader` (adapters in the base model's engine), `SoftPrompts` (the base model itself, with vectors before the prompt)
and `OwnEngines` (an engine for each version). Which of them a version takes stands in its card.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

from adapters.registry import AdapterCard
from serve.engine_api import Lease
from serve.metrics import Metrics


class Way(Protocol):
    """How versions of a kind come to answer."""

    def status(self, card: AdapterCard) -> str:
        """ "loaded", "starting" or "idle"."""

    def is_proven(self, card: AdapterCard) -> bool:
        """It is there and has answered."""

    def holding(self, card: AdapterCard, deadline: float) -> AbstractAsyncContextManager[Lease]:
        """A version that answers and stays until the block ends; `deadline` as time.monotonic counts."""

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        """Check, load and probe; raises `Refused` with the reason. Gives the seconds that each took."""

    def drop(self, card: AdapterCard) -> None:
        """A version was retired: it goes as soon as its last answer has ended."""


class InFlight:
    """How many answers of each version are on their way, and how long the last ones of a replaced version take."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._answers: Counter[str] = Counter()  # by engine name
        self._draining: dict[str, float] = {}  # engine name → since when
        self._left: dict[str, float] = {}  # engine name → when the last answer ended

    def __call__(self, card: AdapterCard) -> int:
        return self._answers[card.engine_name]

    def idle_s(self, name: str) -> float:
        """Seconds since the last answer; 0 while there is one, for ever if there was none."""
        return 0 if self._answers[name] else time.monotonic() - self._left.get(name, -float("inf"))

    def touch(self, name: str) -> None:
        """As if an answer had just ended."""
        self._left[name] = time.monotonic()

    def forget(self, name: str) -> None:
        """As if there had been no answer."""
        self._left.pop(name, None)

    @contextmanager
    def counted(self, card: AdapterCard) -> Iterator[None]:
        """One answer."""
        name = card.engine_name
        self._answers[name] += 1
        try:
            yield
        finally:
            self._answers[name] -= 1
            self.touch(name)
            if not self._answers[name] and name in self._draining:
                self._metrics.drain(card.name, time.monotonic() - self._draining.pop(name))

    def drain(self, card: AdapterCard) -> None:
        """A version is live no more: measure how long the answers take that are on their way now."""
        if self(card):
            self._draining[card.engine_name] = time.monotonic()
        else:
            self._metrics.drain(card.name, 0)
