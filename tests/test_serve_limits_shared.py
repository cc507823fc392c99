"""A minute's limit that several gateways keep together, by a clock that the test turns."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data.keys import Key, KeyRules, NewKey, Usage
from data.store import Store, StoreDown
from data.store_keys import Keys, day
from serve.limits import GATHER_S, Usages
from serve.openai_errors import ApiError
from tests.key_gateway import in_a_loop

pytest_plugins = ["tests.databases"]

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEP_S = 0.5


class Gateways:
    """Several gateways' books on one store, which write and read every `GATHER_S`, each at a time of its own."""

    def __init__(self, store: Store, count: int, began: datetime = NOON, **rules: Any) -> None:
        self.s, self.began, self._store = 0.0, began, store
        self.key = made(store, **rules)
        self.books = [self.book(number) for number in range(count)]
        self.away: set[int] = set()  # these gateways do not reach the store
        self._next = [GATHER_S * (number + 1) / count for number in range(count)]

    def book(self, number: int = 0) -> Usages:
        """A new gateway's."""

        def keys() -> Keys:
            if number in self.away:
                raise StoreDown("the store cannot be written: away")
            return Keys(self._store)

        return Usages(keys, lambda: self.s, lambda: self.began + timedelta(seconds=self.s))

    async def ask(self, number: int, tokens: int = 0) -> bool:
        """One request; whether it was let through."""
        return await asked(self.books[number], self.key, tokens)

    async def burst(self, number: int, most: int = 1000) -> int:
        """As many requests as are let through at once."""
        taken = 0
        while taken < most and await self.ask(number):
            taken += 1
        return taken

    async def turn(self, seconds: float, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """Let time pass; `meanwhile` is called every half second."""
        until = self.s + seconds
        while self.s < until:
            self.s += STEP_S
            if meanwhile is not None:
                await meanwhile()
            for number, book in enumerate(self.books):
                if self.s >= self._next[number]:
                    self._next[number] += GATHER_S
                    with suppress(StoreDown):
                        await book.sync()


def made(store: Store, **rules: Any) -> Key:
    return Keys(store).create(NewKey(name="shop", rules=KeyRules(**rules)))[0]


async def asked(book: Usages, key: Key, tokens: int = 0) -> bool:
    try:
        await book.begin(key)
    except ApiError:
        return False
    book.end(key, tokens)
    return True


def most(limit: int, minutes: float, gateways: int) -> float:
    """What may be let through: a full bucket, what it fills by, and what the others take until one hears of them."""
    unheard = limit + limit * 2 * GATHER_S / 60
    return limit + limit * minutes + (gateways - 1) * unheard


@pytest.mark.parametrize("gateways", [2, 3])
@in_a_loop
async def test_gateways_that_are_asked_all_the_time_let_through_what_one_would(store: Store, gateways: int) -> None:
    fleet, limit, minutes, taken = Gateways(store, gateways, rpm=60), 60, 8, 0

    async def all_of_them() -> None:
        nonlocal taken
        for number in range(gateways):
            taken += await fleet.burst(number)

    await fleet.turn(minutes * 60, all_of_them)
    assert limit * minutes * 0.9 <= taken <= most(limit, minutes, gateways)
    before = taken
    await fleet.turn(120, all_of_them)
    assert abs(taken - before - 2 * limit) <= 0.15 * limit, "the bursts of the beginning are paid for"


@pytest.mark.parametrize("seed", range(4))
@in_a_loop
async def test_whatever_the_traffic_two_gateways_never_let_through_more_than_the_limit_and_one_burst(
    store: Store, seed: int
) -> None:
    rng, limit, minutes, taken = random.Random(seed), 30, 10, 0
    fleet = Gateways(store, 2, rpm=limit)
    busy = [0, 0]  # how many requests come in a step, for a while

    async def some() -> None:
        nonlocal taken
        for number in (0, 1):
            if rng.random() < 0.02:
                busy[number] = rng.choice([0, 0, 0, 1, 3, 50])
            taken += await fleet.burst(number, busy[number])
        assert taken <= most(limit, fleet.s / 60, 2)

    await fleet.turn(minutes * 60, some)
    assert taken > limit


@in_a_loop
async def test_bursts_that_go_from_one_gateway_to_the_other_are_all_paid_for(store: Store) -> None:
    # Each time the next one has been idle for so long that its bucket is full and it reads nothing.
    fleet, limit, taken = Gateways(store, 2, rpm=60), 60, 0
    for number in range(12):
        taken += await fleet.burst(number % 2)
        await fleet.turn(61 if number % 3 else 3)
        assert taken <= most(limit, fleet.s / 60, 2)


@in_a_loop
async def test_tokens_are_shared_too_and_one_answer_may_overdraw_them(store: Store) -> None:
    fleet, limit, minutes, answer, taken = Gateways(store, 2, tpm=600), 600, 8, 100, 0

    async def both() -> None:
        nonlocal taken
        for number in (0, 1):
            taken += answer * await fleet.ask(number, answer)

    await fleet.turn(minutes * 60, both)
    assert limit * minutes * 0.9 <= taken <= most(limit, minutes, 2) + 2 * answer


@in_a_loop
async def test_what_one_gateway_let_through_the_other_lacks_within_four_seconds(store: Store) -> None:
    fleet = Gateways(store, 2, rpm=60)
    assert await fleet.ask(1)
    await fleet.turn(2)
    assert await fleet.burst(0) == 60
    await fleet.turn(2 * GATHER_S)
    assert await fleet.burst(1) <= 2 * GATHER_S, "what has filled since"
    assert fleet.books[1].headers(fleet.key)["x-ratelimit-remaining-requests"] == "0"
    await fleet.turn(10)
    assert await fleet.ask(1), "it fills again"


@in_a_loop
async def test_what_was_used_before_a_gateway_began_is_not_taken_off(store: Store) -> None:
    fleet = Gateways(store, 1, rpm=60)
    Keys(store).add_usage(day(NOON), {"shop": Usage(requests=5000, tokens=10**6)})
    assert await fleet.burst(0, 30) == 30
    await fleet.turn(4)
    again = fleet.book()
    assert await asked(again, fleet.key)
    await again.sync()
    assert again.headers(fleet.key)["x-ratelimit-remaining-requests"] == "59", "nor what it used itself before"


@in_a_loop
async def test_a_gateway_that_began_without_the_store_takes_nothing_off_when_it_first_reads(store: Store) -> None:
    fleet = Gateways(store, 2, rpm=60)
    assert await fleet.burst(1, 30) == 30
    await fleet.turn(4)
    fleet.away = {0}
    assert await fleet.burst(0, 10) == 10
    fleet.away = set()
    await fleet.turn(4)
    assert await fleet.ask(0)
    assert fleet.books[0].headers(fleet.key)["x-ratelimit-remaining-requests"] == "53"


@in_a_loop
async def test_midnight_takes_nothing_off_and_gives_away_no_more_than_one_round(store: Store) -> None:
    limit, minutes, taken = 60, 6, 0
    fleet = Gateways(store, 2, datetime(2026, 3, 1, 23, 57, tzinfo=UTC), rpm=limit)

    async def both() -> None:
        nonlocal taken
        taken += await fleet.burst(0) + await fleet.burst(1)

    await fleet.turn(minutes * 60, both)
    unheard_at_midnight = 2 * (limit * 2 * GATHER_S / 60)
    assert limit * minutes * 0.9 <= taken <= most(limit, minutes, 2) + unheard_at_midnight
    used = [Keys(store).used(date)["shop"].requests for date in ("2026-03-01", "2026-03-02")]
    await asyncio.gather(*(book.sync() for book in fleet.books))
    assert min(used) > 2 * limit


@in_a_loop
async def test_a_clock_that_is_set_back_over_midnight_takes_nothing_off(store: Store) -> None:
    fleet = Gateways(store, 1, datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), rpm=60)
    Keys(store).add_usage("2026-03-01", {"shop": Usage(requests=5000, tokens=0)})
    assert await fleet.ask(0)
    await fleet.turn(4)
    fleet.began -= timedelta(seconds=4)
    assert await fleet.ask(0)
    await fleet.turn(1)
    assert await fleet.burst(0) > 50


@pytest.mark.parametrize("cut_off", [{0, 1}, {0}])
@in_a_loop
async def test_after_an_outage_of_the_store_no_more_than_a_minute_is_waited_off_and_the_day_has_all(
    store: Store, cut_off: set[int]
) -> None:
    fleet, taken = Gateways(store, 2, rpm=60), 0

    async def both() -> None:
        nonlocal taken
        for number in (0, 1):
            taken += await fleet.ask(number)

    await fleet.turn(4, both)
    fleet.away = cut_off
    await fleet.turn(20 * 60, both)
    assert taken > 20 * 60 * 1.9, "it costs nobody an answer"
    fleet.away = set()
    await fleet.turn(2 * GATHER_S + 75)
    assert [await fleet.ask(number) for number in (0, 1)] == [True, True]
    await fleet.turn(4)
    assert Keys(store).used(day(NOON))["shop"].requests == taken + 2


@in_a_loop
async def test_what_was_written_counts_once_when_the_reading_after_it_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Gateways(store, 1, rpm=60)
    assert await fleet.burst(0, 10) == 10
    with monkeypatch.context() as patch:

        def away(*_: Any) -> None:
            raise StoreDown("the store cannot be read: away")

        patch.setattr(Keys, "used", away)
        with pytest.raises(StoreDown):
            await fleet.books[0].sync()
    await fleet.turn(4)
    assert Keys(store).used(day(NOON))["shop"].requests == 10
    assert fleet.books[0].headers(fleet.key)["x-ratelimit-remaining-requests"] == "54"


@in_a_loop
async def test_who_has_no_minutes_limit_or_was_not_here_for_a_minute_asks_the_store_for_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    used = Keys.used

    def counted(keys: Keys, window: str, with_late: bool = True) -> dict[str, Usage]:
        reads.extend([window] * with_late)
        return used(keys, window, with_late)

    monkeypatch.setattr(Keys, "used", counted)
    fleet = Gateways(store, 1, rpm=60)
    await fleet.ask(0)
    await fleet.turn(60)
    assert 25 <= len(reads) <= 32, "every two seconds for a minute"
    reads.clear()
    await fleet.turn(60)
    assert len(reads) <= 1
    other = Keys(store).create(NewKey(name="daily", rules=KeyRules(rpd=100)))[0]
    await asked(fleet.books[0], other)
    await fleet.turn(60)
    assert len(reads) <= 2
