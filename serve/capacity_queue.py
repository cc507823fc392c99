"""Queueing formulas: how many requests are at a server whose speed depends on how many it has, and how long they wait.

The server is an engine that computes up to `len(rates) - 1` requests at once and lets the others queue. Arrivals are
Poisson. With a speed in proportion to the number served this is the M/M/c queue.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID = 1000  # steps of the distributions that are added up
SPAN = 25.0  # so many means long


class Queue(NamedTuple):
    """A queue that has settled. With `load` of 1 or more it never does: the times are infinite."""

    load: float  # arrivals, as a share of what can be served at full batch
    in_service: float
    waiting_probability: float
    mean_wait_s: float  # over all requests, those that do not wait too
    residence_s: float  # from the beginning of service to its end, mean


def erlang_c(servers: int, offered: float) -> float:
    """The probability to wait in an M/M/c queue with `offered` = arrival rate · mean service time (Erlang, 1917)."""
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang's B, by its recursion
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def settle(arrivals: float, rates: Floats, length_variation: float = 1.0) -> Queue:
    """The queue for `arrivals` per second and `rates[n]` completions per second with n in service.

    `length_variation` is the coefficient of variation of the work of a request: waits are those of exponential work
    times (1 + its square) / 2, as Allen and Cunneen approximate.
    """
    full = len(rates) - 1
    load = arrivals / float(rates[full])
    if load >= 1:
        return Queue(load, full, 1.0, math.inf, math.inf)
    logs = np.concatenate(([0.0], np.cumsum(np.log(arrivals) - np.log(rates[1:]))))
    weights = np.exp(logs - logs.max())
    tail = weights[full] / (1 - load)  # `full` and all longer queues
    states = np.append(weights[:full], tail) / (weights[:full].sum() + tail)
    waiting = float(states[full])
    in_service = float(states @ np.arange(full + 1))
    wait = waiting / (float(rates[full]) - arrivals) * (1 + length_variation**2) / 2
    return Queue(load, in_service, waiting, wait, in_service / arrivals)


class Spread:
    """A distribution of seconds on a grid: what is added to each other has to have the same `step`."""

    def __init__(self, step: float, mass: Floats, begins: float = 0.0) -> None:
        self.step = step
        self.begins = begins
        self._mass = mass
        self._below = np.cumsum(mass)

    @classmethod
    def exponential(cls, step: float, mean: float, probability: float = 1.0) -> "Spread":
        """Zero, or with `probability` exponential with `mean`."""
        if mean <= 0:
            return cls.fixed(step, 0.0)
        below = np.asarray(-np.expm1(-np.arange(GRID + 1) * step / mean), dtype=np.float64)
        mass = (below[1:] - below[:-1]) * probability
        mass[0] += 1 - probability
        return cls(step, mass)

    @classmethod
    def fixed(cls, step: float, value: float) -> "Spread":
        """Always the same."""
        mass = np.zeros(GRID)
        mass[min(GRID - 1, int(value / step))] = 1
        return cls(step, mass)

    def plus(self, other: "Spread") -> "Spread":
        """The sum of two independent ones."""
        mass = np.asarray(np.convolve(self._mass, other._mass)[:GRID], dtype=np.float64)
        return Spread(self.step, mass, self.begins + other.begins)

    def later(self, seconds: float) -> "Spread":
        """The same, all by so much later."""
        return Spread(self.step, self._mass, self.begins + seconds)

    def below(self, seconds: float) -> float:
        """The share of those that take at most so long."""
        place = (seconds - self.begins) / self.step
        if place < 1:  # in the first step are those that take no time at all
            return float(self._below[0]) if place >= 0 else 0.0
        return float(np.interp(place, np.arange(1, GRID + 1), self._below))

    @property
    def longest(self) -> float:
        """Where the grid ends."""
        return self.begins + self.step * GRID


def mixed_quantile(parts: Sequence[tuple[Spread, float]], share: float) -> float:
    """So long takes at most `share` of what has these distributions with these weights, which add up to 1."""
    low, high = 0.0, max(spread.longest for spread, _ in parts)
    if sum(weight * spread.below(0.0) for spread, weight in parts) >= share:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        enough = sum(weight * spread.below(middle) for spread, weight in parts) >= share
        low, high = (low, middle) if enough else (middle, high)
    return high
