"""What a key may use: requests and tokens by the minute and by the day, and how many answers at the same time.

A day (UTC) is kept in the store, together with the other gateways, and written every `GATHER_S`: as late as that a
day's limit may be noticed elsewhere. A minute's limits are buckets that fill evenly, kept here; what other gateways
have written since the last time is taken off. So all gateways together keep to a minute's limit in the long run, and
what a burst may take beyond it is what each lets through until it hears of the others: one writes within `GATHER_S`,
and the other reads within as long again. Answers at the same time are limited by each gateway for itself.

Tokens are known at an answer's end; it is begun if any are left, and what it takes too much is waited off before the
next.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from data.errors import BrogueError
from data.judgements import now
from data.keys import Key, Usage
from data.store_keys import Keys, day
from serve.limits_used import MINUTE_S, REQUESTS, TOKENS, Bucket, Used
from serve.openai_errors import ApiError

_LOG = logging.getLogger("brogue.limits")
GATHER_S = 2.0


class Usages:
    """What the keys have used. For one event loop; `run` it with the gateway."""

    def __init__(
        self, keys: Callable[[], Keys], clock: Callable[[], float] = time.monotonic,
        date: Callable[[], datetime] = now,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._clock = clock
        self._date = date
        self._used: defaultdict[str, Used] = defaultdict(Used)
        self._day: str | None = None  # whose figures are held; none: not read yet
        self._read_at = self._clear_at = clock()  # the last reading; when all that had been used was written
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
        used.last = at

    def end(self, key: Key, tokens: int) -> None:
        """The answer has ended, and took so many tokens."""
        used, at = self._used[key.name], self._clock()
        used.at_once -= 1
        used.more[TOKENS] += tokens
        used.last = at
        if (bucket := used.buckets.get(TOKENS)) is not None:
            bucket.left(at)
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
            today, at = day(self._date()), self._clock()
            if not (is_new := any(used.is_new for used in self._used.values())):
                self._clear_at = at
            matters = is_new or any(used.heeds_others(at) for used in self._used.values())
            if self._day is None or (self._day == today and not matters):
                return  # nobody has used anything; what others did counts with the next request's writing
            await self._exchange(self._day, today)

    async def _read_today(self) -> None:
        if self._day != day(self._date()):
            async with self._syncing:
                if self._day != (today := day(self._date())):
                    await self._exchange(self._day or today, today)

    async def _exchange(self, written: str, read: str) -> None:
        try:
            await self._write(written)
            at = self._clock()
            found, fresh = await asyncio.to_thread(self._read, read)
        except BrogueError as error:
            _LOG.error("what keys have used is not written: %s", error)
            raise
        if self._day == read:  # else it is a first reading, or another day's: what stands there is no news
            self._take_off(fresh)
        self._day, self._read_at = read, at
        for name in self._used.keys() | found.keys():
            self._used[name].stored = found.get(name, Usage())
            self._used[name].fresh = fresh.get(name, Usage())

    async def _write(self, window: str) -> None:
        """What was used more than a minute ago, since the store was away, is written as late: no other gateway is to
        wait it off."""
        at = self._clock()
        part = MINUTE_S / max(MINUTE_S, at - self._clear_at)
        new = {name: used.unwritten(part) for name, used in self._used.items() if used.is_new}
        fresh, late = ({name: both[one] for name, both in new.items()} for one in (0, 1))
        await asyncio.to_thread(lambda: self._keys().add_usage(window, fresh, late))
        self._clear_at = at
        for name, both in new.items():
            self._used[name].is_written(*both)

    def _read(self, window: str) -> tuple[dict[str, Usage], dict[str, Usage]]:
        keys = self._keys()
        return keys.used(window), keys.used(window, with_late=False)

    def _take_off(self, fresh: dict[str, Usage]) -> None:
        """What others have used since the last time. Of a longer time than a minute it is the share of a minute: while
        a key was not used here nobody read, and its bucket was full all the same."""
        at = self._clock()
        part = MINUTE_S / max(MINUTE_S, at - self._read_at)
        for name, used in self._used.items():
            used.take_off(fresh.get(name, Usage()), part, at)

    def _check(self, key: Key, used: Used, at: float) -> None:
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

    def _bucket(self, used: Used, what: str, size: int, at: float) -> Bucket:
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


def _refused(key: Key, limit: str, found: str, wait_s: float) -> ApiError:
    wait = max(1, math.ceil(wait_s))
    message = f"rate limit of the key '{key.name}': at most {limit}; {found}; try again in {span(wait)}"
    return ApiError(429, message, code="rate_limit_exceeded", retry_after_s=wait)
