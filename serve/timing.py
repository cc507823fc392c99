"""When what happened to one request, by the clock time.perf_counter. Noting costs nearly nothing: it is done for every
piece of every stream."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_HERE = "timing"  # in the ASGI scope's state


@dataclass
class Timing:
    """Filled while the request is on its way, read at its end."""

    arrived: float = field(default_factory=time.perf_counter)
    queued_s: float = 0.0  # until it was the caller's turn (serve/turns.py)
    ours_s: float | None = None  # what we ourselves took until the engine had the request; none: it was not sent
    waited_s: float = 0.0  # for the engine, or for one of its slots
    first: float | None = None  # when the first piece of a stream went to the client
    last: float = 0.0  # when the latest one did
    gap_s: float = 0.0  # the longest time between two of them

    def piece(self) -> None:
        """A piece of the stream goes to the client."""
        now = time.perf_counter()
        if self.first is None:
            self.first = now
        elif now - self.last > self.gap_s:
            self.gap_s = now - self.last
        self.last = now

    @property
    def first_s(self) -> float | None:
        """From the request's arrival to its first piece; none without a stream."""
        return None if self.first is None else self.first - self.arrived

    def per_token_s(self, tokens: int) -> float | None:
        """The mean time between a stream's tokens, from its first piece on; none for too few."""
        return None if self.first is None or tokens < 2 else (self.last - self.first) / (tokens - 1)


def timing_of(scope: Mapping[str, Any]) -> Timing:
    """The timing of the request with this ASGI scope, which begins when it is first asked for."""
    state: dict[str, Any] = scope["state"]
    found = state.get(_HERE)
    if not isinstance(found, Timing):
        found = state[_HERE] = Timing()
    return found
