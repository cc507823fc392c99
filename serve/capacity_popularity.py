"""How requests spread over adapters, and how often the one that is asked for is found in a cache of a given size."""

import numpy as np
from numpy.typing import NDArray

from serve.placement import place

Floats = NDArray[np.float64]
POINTS = 64  # of a curve


def zipf(adapters: int, exponent: float) -> Floats:
    """Shares of requests, most popular first: the k-th gets a share in proportion to k ** -exponent."""
    weights = np.arange(1, adapters + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def hit_rate(shares: Floats, capacity: int) -> float:
    """How often an LRU cache with room for `capacity` has what is asked for, for independent requests.

    Che's approximation (Che, Tung and Wang, IEEE JSAC 20:7, 2002): what was asked for within the last T requests is
    there, with the T at which that many are expected.
    """
    if capacity >= np.count_nonzero(shares):
        return 1.0
    present = -np.expm1(-shares * _characteristic_time(shares, capacity))
    return float(shares @ present)


def _characteristic_time(shares: Floats, capacity: int) -> float:
    low, high = 0.0, 1.0
    while -np.expm1(-shares * high).sum() < capacity:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-shares * middle).sum() < capacity else (low, middle)
    return high


def distinct(shares: Floats, requests: int) -> Floats:
    """How many different adapters to expect among 0, 1, … `requests` requests."""
    some = np.unique(np.geomspace(1, requests + 1, POINTS).astype(int) - 1)  # a smooth curve: the rest lies between
    logs = np.log1p(-np.minimum(shares, 1 - 1e-12))
    expected = len(shares) - np.exp(np.outer(some, logs)).sum(axis=1)
    return np.asarray(np.interp(np.arange(requests + 1), some, expected), dtype=np.float64)


def everywhere(adapters: int, engines: int) -> Floats:
    """`[engine, adapter]`: which part of an adapter's requests an engine gets if each engine serves all of them.

    All rows are one row in memory.
    """
    return np.broadcast_to(np.full(adapters, 1 / engines), (engines, adapters))


def different_rows(routed: Floats) -> Floats:
    """The same for engines that differ; one row if none does."""
    return routed[:1] if routed.strides[0] == 0 or len(routed) == 1 else routed


def sharded(shares: Floats, engines: int, replicas: int) -> Floats:
    """`[engine, adapter]`: the same if each adapter is on `replicas` engines, popular ones on more."""
    names = [f"engine-{number}" for number in range(engines)]
    placed = place({f"adapter-{rank}": float(share) for rank, share in enumerate(shares)}, names, replicas)
    routed = np.zeros((engines, len(shares)))
    for rank, held in enumerate(placed.values()):
        routed[[names.index(name) for name in held], rank] = 1 / len(held)
    return routed
