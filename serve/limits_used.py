"""What one key has used, as one gateway knows it: the minute's buckets, and the day. Pure Python."""

import math
from dataclasses import dataclass, field

from data.keys import Usage

MINUTE_S = 60.0
REQUESTS, TOKENS = "requests", "tokens"


@dataclass
class Bucket:
    """So much a minute, filling evenly; may be overdrawn."""

    size: int
    level: float
    at: float  # seconds, as the clock goes

    def left(self, at: float) -> float:
        """What may be taken now."""
        self.level = min(self.size, self.level + (at - self.at) * self.size / MINUTE_S)
        self.at = at
        return self.level

    def wait_s(self, level: float) -> float:
        """Until it holds so much."""
        return max(0.0, (level - self.level) * MINUTE_S / self.size)


@dataclass
class Used:
    """One key's use as this gateway knows it."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    stored: Usage = Usage()  # of the day, all gateways, as last read
    fresh: Usage = Usage()  # of that, what was written soon after it was used
    more: dict[str, int] = field(default_factory=lambda: {REQUESTS: 0, TOKENS: 0})  # since then, of this gateway
    at_once: int = 0
    last: float = -math.inf  # when it was used here

    @property
    def is_new(self) -> bool:
        """Whether there is anything to write."""
        return any(self.more.values())

    def today(self, what: str) -> int:
        """All that was used, as far as it is known here."""
        return int(getattr(self.stored, what)) + self.more[what]

    def unwritten(self, part: float) -> tuple[Usage, Usage]:
        """What is to be written: as much of it as was used only now, and what is late."""
        fresh = {what: math.ceil(count * part) for what, count in self.more.items()}
        late = {what: count - fresh[what] for what, count in self.more.items()}
        return Usage(**fresh), Usage(**late)

    def is_written(self, fresh: Usage, late: Usage) -> None:
        """So much of it is in the store."""
        both = plus(fresh, late)
        self.stored, self.fresh = plus(self.stored, both), plus(self.fresh, fresh)
        self.more[REQUESTS] -= both.requests
        self.more[TOKENS] -= both.tokens

    def take_off(self, fresh: Usage, part: float, at: float) -> None:
        """Let the buckets lack what others have written meanwhile; they may be overdrawn by it."""
        for what, bucket in self.buckets.items():
            theirs = getattr(fresh, what) - getattr(self.fresh, what)
            bucket.left(at)
            bucket.level -= max(0, theirs) * part

    def heeds_others(self, at: float) -> bool:
        """Whether what others use makes a difference to what may be used here soon."""
        if not self.buckets:
            return False
        return at - self.last < MINUTE_S or any(bucket.left(at) < bucket.size for bucket in self.buckets.values())


def plus(one: Usage, other: Usage) -> Usage:
    """Both together."""
    return Usage(requests=one.requests + other.requests, tokens=one.tokens + other.tokens)
