"""Limits of keys, by a clock that the test turns, over HTTP with OpenAI's headers; and turns at a busy engine."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from data.home import Home
from data.keys import Key, KeyRules, NewKey, Usage
from data.settings import GatewaySettings
from data.store import Store
from data.store_home import open_store
from data.store_keys import Keys, day
from serve.limits import Usages, span
from serve.openai_errors import ApiError
from serve.turns import Turns
from tests.fakes import ADMIN_KEY, FakeEngine, FakeGateway
from tests.key_gateway import chat_scope, error_of, in_a_loop, key_gateway

BEGAN = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s

    def date(self) -> datetime:
        return BEGAN + timedelta(seconds=self.s)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    home.create()
    store = open_store(home)
    yield store
    store.close()


def made(store: Store, **rules: Any) -> Key:
    return Keys(store).create(NewKey(name="shop", rules=KeyRules(**rules)))[0]


def usages(store: Store, clock: Clock) -> Usages:
    return Usages(lambda: Keys(store), clock, clock.date)


async def refused(usages: Usages, key: Key) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        await usages.begin(key)
    assert (refusal.value.status, refusal.value.code) == (429, "rate_limit_exceeded")
    return refusal.value


@in_a_loop
async def test_requests_a_minute_fill_up_evenly(store: Store) -> None:
    key, clock = made(store, rpm=6), Clock()
    books = usages(store, clock)
    for _ in range(6):
        await books.begin(key)
        books.end(key, 0)
    assert (await refused(books, key)).retry_after_s == 10
    clock.s = 10.0
    await books.begin(key)
    error = await refused(books, key)
    assert str(error) == "rate limit of the key 'shop': at most 6 requests a minute; they are used up; try again in 10s"
    clock.s = 10_000.0
    headers = books.headers(key)
    assert headers["x-ratelimit-remaining-requests"] == headers["x-ratelimit-limit-requests"] == "6"
    assert headers["x-ratelimit-reset-requests"] == "0s"


@in_a_loop
async def test_tokens_are_counted_at_the_end_and_what_was_too_much_is_waited_off(store: Store) -> None:
    key, clock = made(store, tpm=60), Clock()
    books = usages(store, clock)
    await books.begin(key)
    books.end(key, 90)
    assert books.headers(key)["x-ratelimit-remaining-tokens"] == "0"
    assert (await refused(books, key)).retry_after_s == 31
    clock.s = 31.0
    await books.begin(key)
    assert books.headers(key)["x-ratelimit-remaining-tokens"] == "1"


@in_a_loop
async def test_a_days_limits_outlive_a_restart_and_end_at_midnight(store: Store) -> None:
    key, clock = made(store, rpd=3, tpd=100), Clock()
    books = usages(store, clock)
    for _ in range(2):
        await books.begin(key)
        books.end(key, 20)
    await books.sync()
    assert Keys(store).used(day(BEGAN)) == {"shop": Usage(requests=2, tokens=40)}
    again = usages(store, clock)
    await again.begin(key)
    again.end(key, 60)
    error = await refused(again, key)
    assert "at most 3 requests a day; used 3; try again in 2h0m0s" in str(error) and error.retry_after_s == 7200
    assert again.headers(key)["x-ratelimit-reset-tokens"] == "2h0m0s"
    await again.sync()
    clock.s = 7201.0
    await again.begin(key)
    again.end(key, 5)
    await again.sync()
    assert Keys(store).used("2026-03-01")["shop"] == Usage(requests=3, tokens=100)
    assert Keys(store).used("2026-03-02")["shop"] == Usage(requests=1, tokens=5)


@in_a_loop
async def test_two_gateways_share_a_days_limit(store: Store) -> None:
    key, clock = made(store, rpd=4), Clock()
    one, two = usages(store, clock), usages(store, clock)
    for books in (one, two, one):
        await books.begin(key)
        books.end(key, 1)
    await asyncio.gather(one.sync(), two.sync())
    await two.sync()
    await two.begin(key)
    two.end(key, 1)
    await two.sync()
    await one.begin(key)  # it has not heard of the last one yet: late by one round of writing
    one.end(key, 1)
    await one.sync()
    await refused(one, key)
    assert Keys(store).used(day(BEGAN)) == {"shop": Usage(requests=5, tokens=5)}


@in_a_loop
async def test_a_store_that_is_away_costs_nobody_an_answer_and_no_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data.store import StoreDown

    key, clock = made(store, rpd=10), Clock()
    books = usages(store, clock)
    with monkeypatch.context() as patch:

        def away(*_: Any) -> None:
            raise StoreDown("the store cannot be written: away")

        patch.setattr(Keys, "used", away)
        patch.setattr(Keys, "add_usage", away)
        await books.begin(key)
        books.end(key, 7)
    clock.s = 10.0
    await books.begin(key)
    books.end(key, 7)
    await books.sync()
    assert Keys(store).used(day(BEGAN)) == {"shop": Usage(requests=2, tokens=14)}


@in_a_loop
async def test_answers_at_the_same_time_are_limited(store: Store) -> None:
    key = made(store, concurrency=2)
    books = usages(store, Clock())
    await books.begin(key)
    await books.begin(key)
    assert "at most 2 answers at the same time; 2 are being written" in str(await refused(books, key))
    books.end(key, 0)
    await books.begin(key)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.34, "340ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (7384, "2h3m4s"), (1e-9, "1ms")],
)
def test_times_are_written_as_openai_does(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_a_key_gets_openais_headers_and_its_429_is_the_clients_rate_limit_error(home: Home) -> None:
    with key_gateway(home) as setup:
        secret = setup.key("shop", rpm=2, tpd=1000)
        first = setup.chat(secret)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-limit-tokens"] == "1000"
        assert first.headers["x-ratelimit-remaining-tokens"] == "1000", "they are known when the answer has ended"
        second = setup.chat(secret)
        assert second.headers["x-ratelimit-remaining-tokens"] == "991"
        third = setup.chat(secret)
        assert error_of(third)[:2] == (429, "rate_limit_exceeded")
        assert third.json()["error"]["type"] == "rate_limit_error" and int(third.headers["retry-after"]) in (29, 30)
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert setup.ask(secret, "GET", "/v1/models").status_code == 200, "only answers are counted"
        assert not any(name.startswith("x-ratelimit") for name in setup.chat("admin").headers)
        client = openai.OpenAI(api_key=secret, base_url="http://testserver/v1", http_client=setup.client, max_retries=0)
        with pytest.raises(openai.RateLimitError, match="at most 2 requests a minute"):
            client.chat.completions.create(model="reed", messages=[{"role": "user", "content": "Hi"}])


def test_a_streams_tokens_count_also_when_its_client_leaves(home: Home) -> None:
    with key_gateway(home) as setup:
        secret = setup.key("shop", tpd=1000)
        assert setup.chat(secret, stream=True).status_code == 200
        assert setup.chat(secret).headers["x-ratelimit-remaining-tokens"] == "991"

    async def leave() -> None:
        gateway = FakeGateway(home, FakeEngine(words=1000, pause_s=0.002), max_wait_s=1)
        secret = Keys(gateway.recorder.store()).create(NewKey(name="leaver", rules=KeyRules(tpd=1000)))[1]
        async with gateway.running() as client:
            body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
            await _read_some(gateway, secret, body, events=5)
            reply = await client.post(
                "/v1/chat/completions", json=body | {"stream": False, "max_tokens": 1},
                headers={"Authorization": f"Bearer {secret}"},
            )  # fmt: skip
            assert int(reply.headers["x-ratelimit-remaining-tokens"]) < 1000

    asyncio.run(leave())


async def _read_some(gateway: FakeGateway, secret: str, body: dict[str, Any], events: int) -> None:
    """A client that goes after some events."""
    request = json.dumps(body).encode()
    sent = [{"type": "http.request", "body": request, "more_body": False}]
    gone = asyncio.Event()
    seen = 0

    async def receive() -> dict[str, Any]:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal seen
        seen += message.get("body", b"").count(b"data: ")
        if seen >= events:
            gone.set()

    await gateway.app(chat_scope(secret), receive, send)


@in_a_loop
async def test_at_a_busy_engine_keys_take_turns() -> None:
    turns, order = Turns(1, 100, 10), []

    async def ask(who: str) -> None:
        async with turns.turn(who):
            order.append(who)
            await asyncio.sleep(0)

    async with turns.turn("first"):
        waiting = [asyncio.create_task(ask(who)) for who in ["greedy"] * 5 + ["modest"] * 2]
        await asyncio.sleep(0.01)
        assert (turns.running, turns.waiting) == (1, 7)
    await asyncio.gather(*waiting)
    assert order == ["greedy", "modest", "greedy", "modest", "greedy", "greedy", "greedy"]
    assert (turns.running, turns.waiting, turns.is_free) == (0, 0, True)


@in_a_loop
async def test_when_too_many_wait_the_last_of_the_longest_queue_has_to_go() -> None:
    turns = Turns(1, 3, 10)

    async def ask(who: str) -> str:
        try:
            async with turns.turn(who):
                return "answered"
        except ApiError as error:
            assert (error.status, error.code) == (503, "engine_busy")
            return "refused"

    async with turns.turn("first"):
        greedy = [asyncio.create_task(ask("greedy")) for _ in range(4)]
        await asyncio.sleep(0.01)
        modest = asyncio.create_task(ask("modest"))
        await asyncio.sleep(0.01)
        assert turns.waiting == 3
    found = await asyncio.gather(*greedy, modest)
    assert found == ["answered", "answered", "refused", "refused", "answered"]


@in_a_loop
async def test_who_waits_too_long_or_leaves_holds_no_turn() -> None:
    turns = Turns(1, 10, 0.05)
    async with turns.turn("first"):
        with pytest.raises(ApiError, match="waited 0 s for a turn"):
            async with turns.turn("late"):
                pass
        leaver = asyncio.create_task(AsyncExitStack().enter_async_context(turns.turn("leaver")))
        await asyncio.sleep(0.01)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        assert turns.waiting == 0
    assert turns.running == 0
    async with turns.turn("next"):
        assert turns.running == 1


@in_a_loop
async def test_a_client_that_leaves_while_it_waits_never_reaches_the_engine(home: Home) -> None:
    engine = FakeEngine(words=30, pause_s=0.01)
    gateway = FakeGateway(home, engine, settings=GatewaySettings(port=8000, max_at_once=1), max_wait_s=1)
    body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway.running() as client:
        first = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        while not engine.bodies:
            await asyncio.sleep(0.01)
        await _leave_at_once(gateway, body)
        assert (await first).status_code == 200
        assert len(engine.bodies) == 1
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def _leave_at_once(gateway: FakeGateway, body: dict[str, Any]) -> None:
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nobody is there for {message['type']}")

    await gateway.app(chat_scope(ADMIN_KEY), receive, send)


@in_a_loop
async def test_one_keys_crowd_delays_anothers_request_by_one_answer(home: Home) -> None:
    engine = FakeEngine(words=3, pause_s=0.005)
    gateway = FakeGateway(home, engine, settings=GatewaySettings(port=8000, max_at_once=1), max_wait_s=30)
    keys = Keys(gateway.recorder.store())
    greedy, modest = (keys.create(NewKey(name=name))[1] for name in ("greedy", "modest"))
    ended: list[str] = []

    async def ask(client: httpx.AsyncClient, who: str, secret: str) -> None:
        body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}]}
        reply = await client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {secret}"})
        assert reply.status_code == 200
        ended.append(who)

    async with gateway.running() as client:
        crowd = [asyncio.create_task(ask(client, "greedy", greedy)) for _ in range(15)]
        while len(engine.bodies) < 2:
            await asyncio.sleep(0.001)
        await ask(client, "modest", modest)
        assert len(ended) <= 6, ended
        await asyncio.gather(*crowd)
    assert len(ended) == 16
