"""What a key may use: requests and tokens by the minute and by the day, and how many answers at the same time.

A minute's limits are buckets that fill evenly, kept here: with several gateways each has its own. A day (UTC) is kept
in the store, together with the other gateways, and written every `GATHER_S`: as late as that a day's limit may be
noticed elsewhere. Tokens are known at an answer's end; it is begun if any are left, and what it takes too much is
waited off before the next.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from data.errors import BrogueError
from data.judgements import now
from data.keys import Key, Usage
from data.store_keys import Keys, day
from serve.openai_errors import ApiError

_LOG = logging.getLogger("brogue.limits")
GATHER_S = 2.0
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
class _Used:
    """One key's use as this gateway knows it."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    stored: Usage = Usage()  # of the day, all gateways, as last read
    more: dict[str, int] = field(default_factory=lambda: {REQUESTS: 0, TOKENS: 0})  # since then, of this one
    at_once: int = 0

    def today(self, what: str) -> int:
        return int(getattr(self.stored, what)) + self.more[what]


class Usages:
    """What the keys have used. For one event loop; `run` it with the gateway."""

    def __init__(
        self, keys: Callable[[], Keys], clock: Callable[[], float] = time.monotonic,
        date: Callable[[], datetime] = now,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._clock = clock
        self._date = date
        self._used: defaultdict[str, _Used] = defaultdict(_Used)
        self._day: str | None = None  # whose figures are held; none: not read yet
        self._ask_again = -math.inf
        self._syncing = asyncio.Lock()

    async def begin(self, key: Key) -> None:
        """Count a request and its answer, until `end`. Raises 429."""
        if self._day != day(self._date()) and self._clock() >= self._ask_again:
            try:
                await self._read_today()
            except BrogueError:  # told in _exchange; a store that is away costs nobody an answer
                self._ask_again = self._clock() + GATHER_S
        used, at = self._used[key.name], self._clock()
        self._check(key, used, at)
        if (bucket := used.buckets.get(REQUESTS)) is not None:
            bucket.level -= 1
        used.more[REQUESTS] += 1
        used.at_once += 1

    def end(self, key: Key, tokens: int) -> None:
        """The answer has ended, and took so many tokens."""
        used = self._used[key.name]
        used.at_once -= 1
        used.more[TOKENS] += tokens
        if (bucket := used.buckets.get(TOKENS)) is not None:
            bucket.left(self._clock())
            bucket.level -= tokens

    def headers(self, key: Key) -> dict[str, str]:
        """OpenAI's headers: of requests and of tokens the limit, what is left, and when all of it is there again.

        Of a minute's and a day's limit, the minute's; without it, the day's.
        """
        used = self._used[key.name]
        found: dict[str, str] = {}
        for what, minute, daily in _limits(key):
            limit, left, reset = minute, 0.0, 0.0
            if limit is not None:
                bucket = self._bucket(used, what, limit, self._clock())
                left, reset = bucket.level, bucket.wait_s(limit)
            elif daily is not None:
                limit, left, reset = daily, daily - used.today(what), self._to_midnight()
            if limit is not None:
                found |= {f"x-ratelimit-limit-{what}": str(limit),
                          f"x-ratelimit-remaining-{what}": str(max(0, math.floor(left))),
                          f"x-ratelimit-reset-{what}": span(reset)}  # fmt: skip
        return found

    async def run(self) -> None:
        """Write and read again, until cancelled."""
        while True:
            await asyncio.sleep(GATHER_S)
            with suppress(BrogueError):  # what is not written stays, and is told in sync
                await self.sync()

    async def sync(self) -> None:
        """Write what is new, and read what other gateways wrote."""
        async with self._syncing:
            today = day(self._date())
            if self._day is None or (self._day == today and not any(map(_is_new, self._used.values()))):
                return  # nobody has used anything; what others did counts with the next request's writing
            await self._exchange(self._day, today)

    async def _read_today(self) -> None:
        if self._day != day(self._date()):
            async with self._syncing:
                if self._day != (today := day(self._date())):
                    await self._exchange(self._day or today, today)

    async def _exchange(self, written: str, read: str) -> None:
        new = {name: Usage(**used.more) for name, used in self._used.items() if _is_new(used)}
        try:
            found = await asyncio.to_thread(self._write_and_read, new, written, read)
        except BrogueError as error:
            _LOG.error("what keys have used is not written: %s", error)
            raise
        self._day = read
        for name, used in self._used.items():
            used.stored = found.get(name, Usage())
            if name in new:
                used.more[REQUESTS] -= new[name].requests
                used.more[TOKENS] -= new[name].tokens
        for name in found.keys() - self._used.keys():
            self._used[name].stored = found[name]

    def _write_and_read(self, new: dict[str, Usage], written: str, read: str) -> dict[str, Usage]:
        keys = self._keys()
        keys.add_usage(written, new)
        return keys.used(read)

    def _check(self, key: Key, used: _Used, at: float) -> None:
        most = key.rules.concurrency
        if most is not None and used.at_once >= most:
            raise _refused(key, f"{most:,} answers at the same time", f"{used.at_once:,} are being written", 1)
        for what, minute, daily in _limits(key):
            if daily is not None and used.today(what) >= daily:
                raise _refused(key, f"{daily:,} {what} a day", f"used {used.today(what):,}", self._to_midnight())
            if minute is None:
                continue
            bucket = self._bucket(used, what, minute, at)
            if bucket.level < 1:
                raise _refused(key, f"{minute:,} {what} a minute", "they are used up", bucket.wait_s(1))

    def _bucket(self, used: _Used, what: str, size: int, at: float) -> Bucket:
        bucket = used.buckets.get(what)
        if bucket is None or bucket.size != size:
            bucket = used.buckets[what] = Bucket(size, size, at)
        bucket.left(at)
        return bucket

    def _to_midnight(self) -> float:
        at = self._date()
        return (at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1) - at).total_seconds()


def span(seconds: float) -> str:
    """A time as OpenAI writes it in these headers: '0s', '340ms', '1s', '6m0s', '2h3m4s'."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, left = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s" if minutes else f"{left}s"


def _limits(key: Key) -> Iterator[tuple[str, int | None, int | None]]:
    yield REQUESTS, key.rules.rpm, key.rules.rpd
    yield TOKENS, key.rules.tpm, key.rules.tpd


def _is_new(used: _Used) -> bool:
    return any(used.more.values())


def _refused(key: Key, limit: str, found: str, wait_s: float) -> ApiError:
    wait = max(1, math.ceil(wait_s))
    message = f"rate limit of the key '{key.name}': at most {limit}; {found}; try again in {span(wait)}"
    return ApiError(429, message, code="rate_limit_exceeded", retry_after_s=wait)
