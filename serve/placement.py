"""Which engines hold an adapter: rendezvous hashing, so that an engine that comes or goes moves only its own share.

Each pair of adapter and engine has a score from a hash of both names; an adapter is on the engines with its highest
scores (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6:1, 1998).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

FEW, MANY = 200, 10_000  # requests: fewer say nothing of popularity; when there are so many the old ones count half
ROOM = 2.0  # a popular adapter gets so many engines that each serves at most 1/ROOM of an even share for it


def engines_for(adapter: str, engines: Sequence[str], replicas: int) -> list[str]:
    """The `replicas` engines that hold `adapter`, the first choice first; all of them if there are fewer."""
    return sorted(engines, key=lambda engine: _score(adapter, engine), reverse=True)[: max(1, replicas)]


def replicas_for(share: float, engines: int, at_least: int) -> int:
    """On how many of `engines` an adapter is to be that gets `share` (0 to 1) of all requests: popular ones on more."""
    return min(engines, max(at_least, math.ceil(ROOM * share * engines)))


def place(shares: Mapping[str, float], engines: Sequence[str], at_least: int) -> dict[str, list[str]]:
    """For each adapter with its share of the requests the engines that hold it."""
    return {name: engines_for(name, engines, replicas_for(share, len(engines), at_least))
            for name, share in shares.items()}  # fmt: skip


class Popularity:
    """Which share of the requests goes to each adapter, as far as the last ones tell."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._total = 0

    def note(self, adapter: str) -> None:
        """It was asked for."""
        self._asked[adapter] += 1
        self._total += 1
        if self._total >= MANY:
            self._asked = Counter({name: count // 2 for name, count in self._asked.items() if count > 1})
            self._total = self._asked.total()

    def share(self, adapter: str) -> float:
        """From 0 to 1; 0 as long as little is known."""
        return self._asked[adapter] / self._total if self._total >= FEW else 0.0


def _score(adapter: str, engine: str) -> bytes:
    return hashlib.blake2b(f"{adapter}\0{engine}".encode(), digest_size=16).digest()
