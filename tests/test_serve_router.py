"""A router before the engines: it gets what any of them can answer, and what becomes of it costs nobody an answer."""

import asyncio
from typing import Any

import httpx
import pytest

from adapters.base_model import BaseModel
from adapters.registry import Registry
from assistant.engines import engines_of
from data.home import Home
from data.settings import EngineSettings
from serve.router import is_passed_whole
from tests.fake_router import FakeRouter
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version
from tests.swapping import CLIENTS, ask, assert_only_streams_that_had_begun_broke, load, put, run, until
from tests.swapping import voices as voices

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]


class Routed(FakeGateway):
    """A gateway before three engines that somebody else has started, and a router before these.

    `beside`: another gateway, which has the same engines and the same router.
    """

    def __init__(
        self, home: Home, words: int = 6, pause_s: float = 0.001, beside: "Routed | None" = None, **more: Any
    ) -> None:
        engines = beside.engines if beside is not None else [FakeEngine(words, pause_s) for _ in range(3)]
        for engine in engines:
            engine.is_elsewhere = True
        self.fake = beside.fake if beside is not None else FakeRouter(engines)
        super().__init__(home, engines=engines, router=self.fake.link(), **more)

    async def opened(self, count: int = 3) -> None:
        """Until so many engines are open, and the router has these."""
        await until(lambda: len(self.pool.replicas.open) == len(self.fake.has) == count and self.is_used)

    @property
    def is_used(self) -> bool:
        """Whether requests go through the router."""
        assert self.pool.replicas.router is not None
        return self.pool.replicas.router.is_well


def test_requests_go_through_the_router_and_hold_a_slot_on_every_engine_since_any_may_answer(voices: Home) -> None:
    gateway = Routed(voices, words=3, pause_s=0.05)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        asked = [asyncio.create_task(ask(client)) for _ in range(2)]
        await until(lambda: len(gateway.fake.bodies) == 2)
        card = gateway.registry.card("reed-voice", 1)
        assert gateway.pool.replicas.slots().in_use == 3
        assert gateway.pool.in_flight(card) == 2, "each answer is counted once"
        told = (await client.get("/ready")).json()
        assert told["router"] == {"name": "router", "state": "ready", "detail": "", "answers_now": 2}
        metrics = (await client.get("/metrics")).text
        assert 'brogue_router_ready{router="router"} 1.0' in metrics
        assert 'brogue_router_answers{router="router"} 2.0' in metrics
        assert all(answer.is_right for answer in await asyncio.gather(*asked))
        assert gateway.pool.replicas.slots().in_use == gateway.pool.in_flight(card) == 0
        assert (await ask(client, "base")).words == ("base",) * 3
        assert len(gateway.fake.bodies) == 3

    run(gateway, story)


def test_flips_under_load_through_the_router_lose_no_answer_and_mix_no_versions(voices: Home) -> None:
    gateway = Routed(voices, idle_s=0)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        async with load(client, "reed") as answers:
            for number in range(30):
                version = number % 3 + 1
                assert (await put(client, "reed-voice", "stable", version)).status_code == 200
                assert (await ask(client)).version == f"reed-voice@{version}"
        assert [answer for answer in answers if not answer.is_right] == []
        assert len(gateway.fake.bodies) > len(answers) / 2

    run(gateway, story)
    assert all(engine.pulled_away == [] and engine.unloads for engine in gateway.engines)


def test_what_not_every_engine_is_to_hold_or_has_answered_with_is_asked_of_an_engine_directly(voices: Home) -> None:
    gateway, sharded = Routed(voices), Routed(voices, copies=1)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        assert (await ask(client, "reed-voice@3")).version == "reed-voice@3", "loaded when it is asked for"
        assert gateway.fake.bodies == []

    async def story_of_shards(client: httpx.AsyncClient) -> None:
        await sharded.opened()
        assert (await ask(client)).is_right
        assert sharded.fake.bodies == []
        assert (await ask(client, "base")).whole
        assert len(sharded.fake.bodies) == 1, "the base model is everywhere"

    run(gateway, story)
    run(sharded, story_of_shards)


def test_nobody_notices_that_the_router_is_away_and_it_is_asked_again_when_it_is_back(voices: Home) -> None:
    gateway = Routed(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        async with load(client, "reed") as answers:
            await until(lambda: len(answers) >= CLIENTS)
            gateway.fake.is_there = False
            got = len(answers)
            await until(lambda: len(answers) >= got + 2 * CLIENTS and not gateway.is_used)
            told = (await client.get("/ready")).json()["router"]
            assert told["state"] == "away" and "cannot be reached" in told["detail"]
            assert 'brogue_router_ready{router="router"} 0.0' in (await client.get("/metrics")).text
            gateway.fake.is_there = True
            asked = len(gateway.fake.bodies)
            await until(lambda: len(gateway.fake.bodies) > asked + CLIENTS)
        assert [answer for answer in answers if not answer.is_right] == []

    run(gateway, story)


@pytest.mark.parametrize(
    "says", [(404, "The model does not exist."), (422, "Failed to deserialize"), (500, "Request failed"), (503, "None")]
)
def test_what_the_router_does_not_answer_is_asked_of_an_engine(voices: Home, says: tuple[int, str]) -> None:
    gateway = Routed(voices)
    gateway.fake.answers = says

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        answer = await ask(client)
        assert answer.is_right and len(gateway.fake.bodies) == 1
        whole = await client.post("/v1/chat/completions", json={"model": "reed", "messages": HELLO})
        assert whole.status_code == 200

    run(gateway, story)


def test_an_error_that_every_engine_gives_is_told_as_the_engine_says_it(voices: Home) -> None:
    gateway = Routed(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        for engine in gateway.engines:
            engine.error = (400, "too long")
        reply = await client.post("/v1/chat/completions", json={"model": "reed", "messages": HELLO})
        assert reply.status_code == 400 and "too long" in reply.json()["error"]["message"]
        assert sum(len(engine.bodies) for engine in gateway.engines) == 2, "once through the router, once directly"

    run(gateway, story)


def test_an_engine_that_dies_behind_the_router_gets_its_adapters_before_the_router_gets_it_back(voices: Home) -> None:
    gateway = Routed(voices, words=20)
    victim = gateway.engines[1]

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        async with load(client, "reed") as answers:
            await until(lambda: len(answers) >= 2 * CLIENTS)
            victim.kill()
            await gateway.opened(2)
            assert gateway.fake.told[-1] == "remove engine-2"
            assert (await put(client, "reed-voice", "stable", 2)).status_code == 200, "the others go on without it"
            victim.state = "ready"
            await gateway.opened()
            assert "reed-voice@2" in gateway.fake.held["http://engine-2"]
            asked = len(victim.bodies)
            await until(lambda: len(victim.bodies) > asked)
        assert_only_streams_that_had_begun_broke(answers)

    run(gateway, story)
    assert victim.unknown == 0


def test_a_connection_that_breaks_in_a_stream_ends_it_with_an_error_and_the_router_is_used_again(voices: Home) -> None:
    gateway = Routed(voices, words=4)

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        for engine in gateway.engines:
            engine.break_after = 2
        answer = await ask(client)
        assert answer.words == ("reed-voice@1", "reed-voice@1") and "ReadError" in answer.error
        for engine in gateway.engines:
            engine.break_after = None
        await until(lambda: gateway.is_used)
        asked = len(gateway.fake.bodies)
        assert (await ask(client)).is_right and len(gateway.fake.bodies) == asked + 1

    run(gateway, story)


def test_a_gateway_that_starts_takes_no_engine_away_from_the_others(voices: Home) -> None:
    gateway = Routed(voices, pause_s=0.1)  # loading takes a while
    gateway.fake.has = list(gateway.fake.reachable)

    async def story(_client: httpx.AsyncClient) -> None:
        await gateway.opened()

    run(gateway, story)
    assert gateway.fake.told == []


def test_an_engine_that_cannot_be_reached_is_taken_from_the_router_and_added_when_it_is_ready(voices: Home) -> None:
    gateway = Routed(voices)
    gateway.fake.has = list(gateway.fake.reachable)
    gateway.engines[2].kill()

    async def story(_client: httpx.AsyncClient) -> None:
        await gateway.opened(2)
        gateway.engines[2].state = "ready"
        await gateway.opened()

    run(gateway, story)
    assert gateway.fake.told == ["remove engine-3", "add engine-3"]
    assert gateway.fake.held["http://engine-3"] == {"reed-voice@1"}


def test_two_gateways_agree_on_the_engines_of_one_router(voices: Home) -> None:
    one = Routed(voices)
    other = Routed(voices, beside=one)

    async def story(client: httpx.AsyncClient) -> None:
        async with other.running() as other_client:
            for _ in range(3):
                await asyncio.gather(one.opened(), other.opened())
                one.engines[1].kill()
                await asyncio.gather(one.opened(2), other.opened(2))
                one.engines[1].state = "ready"
            await asyncio.gather(one.opened(), other.opened())
            told = len(one.fake.told)
            answers = await asyncio.gather(*(ask(each) for each in (client, other_client) for _ in range(6)))
            assert all(answer.is_right for answer in answers) and len(one.fake.bodies) == 12
            await asyncio.sleep(0.2)
            assert len(one.fake.told) == told, "they leave it alone then"

    run(one, story)


def test_a_router_that_cannot_be_told_of_engines_is_used_all_the_same_and_says_what_is_wrong(
    voices: Home, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Routed(voices)
    gateway.fake.has = ["http://engine-1", "http://engine-2"]
    gateway.fake.reachable["http://other"] = gateway.engines[2]
    gateway.fake.has.append("http://other")
    gateway.fake.refuses = True

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(gateway.pool.replicas.open) == 3 and gateway.is_used)
        gateway.fake.has.pop()
        assert (await ask(client)).is_right and len(gateway.fake.bodies) == 1

    run(gateway, story)
    lines = [line for line in caplog.messages if line.startswith("router router")]
    assert any("add_worker http://engine-3: not here" in line for line in lines)
    assert any("engine.urls does not name: http://other" in line for line in lines)
    assert len(lines) == len(set(lines)), "each is said once"


def test_while_slots_are_short_versions_spread_over_the_engines_instead(home: Home) -> None:
    for name in ("one", "two", "three"):
        add_version(home, f"{name}-voice")
        add_assistant(home, name, f"adapter: {name}-voice\n")
    gateway = Routed(home, words=3, pause_s=0.05, slots=1)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(gateway.pool.replicas.open) == 3 and gateway.is_used)
        await until(lambda: all(len(engine.loaded) == 3 for engine in gateway.engines))
        first = asyncio.create_task(ask(client, "one"))
        await until(lambda: gateway.pool.replicas.slots().in_use == 3)
        others = [asyncio.create_task(ask(client, name)) for name in ("two", "three")]
        assert all(answer.is_right for answer in await asyncio.gather(first, *others))

    run(gateway, story)
    assert len(gateway.fake.bodies) == 1
    assert max(engine.most_at_once for engine in gateway.engines) == 1


def test_the_router_of_the_settings_is_asked_with_the_engines_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROGUE_ENGINE_KEY", "secret")
    settings = EngineSettings(urls=("http://gpu-1:8000", "http://gpu-2:8000/"), router="http://router:30000/")
    base = BaseModel(
        name="base", path="", sha256="", architectures=(), supports_system=True, has_eyes=False, context_length=64,
        kv_bytes_per_token=0, weight_bytes=0, modules={}, embeddings=(), files={},
    )  # fmt: skip
    engines = engines_of(home, settings, base, Registry(home), lambda *_: None, lambda: None)
    assert engines.router is not None and engines.router.name == "router:30000"
    assert engines.router.client.headers["authorization"] == "Bearer secret"
    assert [link.address for link in engines.links] == ["http://gpu-1:8000", "http://gpu-2:8000"]


FUNCTION = {"name": "f", "description": "d", "parameters": {"strict": "a name of its own"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("more", "is_whole"),
    [
        ({}, True),
        ({"stream": True, "stream_options": {"include_usage": True}, "top_k": 3, "anything": {"deep": 1}}, True),
        ({"stream_options": {"include_usage": True, "continuous_usage_stats": True}}, False),
        ({"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto"}, True),
        ({"tools": [{"type": "function", "function": FUNCTION | {"strict": True}}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]}, True),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL], "content": None}]}, True),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL | {"function": {"arguments": {}}}]}]}, False),
        ({"messages": [{"role": "assistant", "content": "a", "prefix": True}]}, False),
        ({"messages": [{"role": "tool", "name": "f", "content": "x", "tool_call_id": "c"}]}, False),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"own": 1}}}}, True),
        ({"messages": None, "prompt": [1, 2, 3]}, True),
    ],
)
def test_what_the_router_would_drop_of_a_request_does_not_go_through_it(more: dict[str, Any], is_whole: bool) -> None:
    assert is_passed_whole({"model": "reed", "messages": HELLO} | more) is is_whole


def test_a_request_that_the_router_would_change_reaches_an_engine_as_it_is(voices: Home) -> None:
    gateway = Routed(voices)
    tools = [{"type": "function", "function": FUNCTION | {"strict": True}}]

    async def story(client: httpx.AsyncClient) -> None:
        await gateway.opened()
        reply = await client.post("/v1/chat/completions", json={"model": "reed", "messages": HELLO, "tools": tools})
        assert reply.status_code == 200

    run(gateway, story)
    assert gateway.fake.bodies == []
    assert [body["tools"] for engine in gateway.engines for body in engine.bodies] == [tools]
