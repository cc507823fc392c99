"""Versions go live, back and away under load, while the engine restarts and files change; no answer is mixed."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from adapters.registry import CanaryPlan, Registry
from data.home import Home
from serve.slots import Slots
from tests.fakes import FakeEngine, FakeGateway, add_version
from tests.swapping import CLIENTS, Answer, ask, load, put, run, until
from tests.swapping import voices as voices

FLIPS = 200


@pytest.mark.slow
def test_hundreds_of_flips_under_load_lose_no_answer_and_mix_no_versions(voices: Home) -> None:
    gateway = FakeGateway(voices, FakeEngine(words=6, pause_s=0.001), idle_s=0)

    async def story(client: httpx.AsyncClient) -> None:
        async with load(client, "reed") as answers:
            for number in range(FLIPS):
                version = number % 3 + 1
                reply = await put(client, "reed-voice", "stable", version)
                assert reply.status_code == 200, reply.text
                answer = await ask(client)
                assert answer.version == f"reed-voice@{version}", "the first request after a flip meets the new version"
                assert answer.is_right
        assert len(answers) > FLIPS
        assert [a for a in answers if not a.is_right] == []
        assert {a.version for a in answers} == {f"reed-voice@{n}" for n in (1, 2, 3)}

    run(gateway, story)
    assert gateway.engine.unloads, "what was neither live nor to be rolled back to went away"
    assert gateway.engine.pulled_away == [], "but never while it answered"
    assert gateway.engine.most_at_once <= 4


def test_an_engine_that_restarts_under_load_has_its_adapters_back_before_any_request(voices: Home) -> None:
    gateway = FakeGateway(voices, FakeEngine(words=6, pause_s=0.001))
    engine = gateway.engine

    async def kill(answers: list[Answer]) -> None:
        got = len(answers)
        engine.kill()
        await asyncio.sleep(0.2)
        assert len(answers) - got <= CLIENTS, "the answers that were running end, the next requests wait"
        got = len(answers)
        engine.state = "ready"
        await until(lambda: any(a.is_right for a in answers[got:]))
        assert len(engine.loaded) == 2, "the live version and the one to roll back to"

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "stable", 2)
        async with load(client, "reed") as answers:
            for _ in range(5):
                await asyncio.sleep(0.1)
                await kill(answers)
        wrong = [a for a in answers if not (a.is_right or (a.status == 200 and a.error and not a.whole))]
        assert wrong == []
        assert {a.version for a in answers} == {"reed-voice@2"}
        assert (await client.get("/ready")).json()["status"] == "ready"

    run(gateway, story)
    assert engine.unknown == 0, "no request met an engine without its adapter"


def test_twelve_versions_on_four_slots_all_answer_and_never_more_than_four_at_once(home: Home) -> None:
    names = [f"voice-{number}" for number in range(12)]
    for name in names:
        add_version(home, name)
    gateway = FakeGateway(home, FakeEngine(words=5, pause_s=0.002))
    most_wanted = 0

    async def story(client: httpx.AsyncClient) -> None:
        nonlocal most_wanted
        asked = [asyncio.create_task(ask(client, name)) for name in names * 10]
        while not all(task.done() for task in asked):
            slots = (await client.get("/ready")).json().get("slots", {"wanted": 0})
            most_wanted = max(most_wanted, slots["wanted"])
            await asyncio.sleep(0.005)
        answers = [task.result() for task in asked]
        assert all(a.is_right for a in answers)
        assert {a.version for a in answers} == {f"{name}@1" for name in names}

    run(gateway, story)
    assert gateway.engine.most_at_once == 4
    assert most_wanted == 12, "the queue can be seen"


def test_a_version_that_waits_gets_its_turn_although_others_never_pause(home: Home) -> None:
    for name in ("a", "b", "c"):
        add_version(home, name)
    gateway = FakeGateway(home, FakeEngine(words=5, pause_s=0.002), slots=2, patience_s=0.05)

    async def story(client: httpx.AsyncClient) -> None:
        async with load(client, "a", "b") as answers:
            await until(lambda: len(answers) > 10)
            for _ in range(3):
                began = time.monotonic()
                assert (await ask(client, "c")).is_right
                assert time.monotonic() - began < 20, "the others never pause, so that it would wait for ever"
        assert all(a.is_right for a in answers)

    run(gateway, story)
    assert gateway.engine.most_at_once == 2


def test_who_waits_for_a_slot_for_too_long_is_told_when_to_come_back(home: Home) -> None:
    for name in ("a", "b"):
        add_version(home, name)
    gateway = FakeGateway(home, FakeEngine(words=50, pause_s=0.02), slots=1, max_wait_s=0.4)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: gateway.pool.why_closed() is None)
        long = asyncio.create_task(ask(client, "a"))
        await until(lambda: len(gateway.engine.bodies) == 1)
        body = {"model": "b", "messages": [{"role": "user", "content": "Hi"}]}
        reply = await client.post("/v1/chat/completions", json=body)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
        assert "engine.max_loras" in reply.json()["error"]["message"]
        assert gateway.pool.replicas.slots().waiting == 0
        assert (await long).is_right

    run(gateway, story)


def test_a_version_is_unloaded_only_when_its_last_answer_has_ended(voices: Home) -> None:
    gateway = FakeGateway(voices, FakeEngine(words=40, pause_s=0.01), idle_s=0)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: gateway.pool.why_closed() is None)
        long = asyncio.create_task(ask(client))
        await until(lambda: gateway.engine.running.total() == 1)
        for version in (2, 3):
            await put(client, "reed-voice", "stable", version)
        assert "reed-voice@1" not in gateway.engine.unloads
        assert (await long).is_right
        await until(lambda: "reed-voice@1" in gateway.engine.unloads)
        assert "reed-voice@2" not in gateway.engine.unloads, "a roll back is to be instant"
        assert 'brogue_adapter_drains_total{version="reed-voice@1"} 1.0' in (await client.get("/metrics")).text

    run(gateway, story)
    assert gateway.engine.pulled_away == []


@pytest.mark.parametrize(
    ("how", "words"),
    [("unfit", "has rank 64"), ("refuse", "add_lora method failed"), ("mute", "could not answer a first question")],
)
def test_a_refused_promotion_leaves_the_old_version_live(voices: Home, how: str, words: str) -> None:
    gateway = FakeGateway(voices)
    gateway.unfit |= {"reed-voice@2": "reed-voice@2 has rank 64"} if how == "unfit" else {}
    if how != "unfit":
        getattr(gateway.engine, how).add("reed-voice@2")

    async def story(client: httpx.AsyncClient) -> None:
        reply = await put(client, "reed-voice", "stable", 2)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (409, "version_refused")
        assert words in error["message"]
        assert (await ask(client)).version == "reed-voice@1"
        adapter = (await client.get("/v1/adapters/reed-voice")).json()
        assert adapter["aliases"] == {"stable": 1}
        assert [v["status"] for v in adapter["versions"]] == ["loaded", "refused", "idle"]
        assert words in adapter["versions"][1]["detail"]

    run(gateway, story)
    assert Registry(voices).aliases("reed-voice") == {"stable": 1}


def test_a_version_that_kills_the_engine_is_left_alone_after_the_second_time(voices: Home) -> None:
    Registry(voices).move("reed-voice", "candidate", 2)
    gateway = FakeGateway(voices, max_wait_s=5)
    gateway.engine.deadly.add("reed-voice@2")

    async def story(client: httpx.AsyncClient) -> None:
        async def keep_alive() -> None:
            while True:
                gateway.engine.state = "ready"
                await asyncio.sleep(0.05)

        keeper = asyncio.create_task(keep_alive())
        assert (await ask(client)).is_right
        reason = (await client.get("/ready")).json()["refused"]["reed-voice@2"]
        assert "broke down 2 times" in reason
        keeper.cancel()

    run(gateway, story)
    assert gateway.engine.starts == 3


def test_what_changes_on_disk_goes_live_by_itself_and_what_is_refused_there_does_not(voices: Home) -> None:
    gateway = FakeGateway(voices)
    gateway.engine.refuse.add("reed-voice@3")
    registry = Registry(voices)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await ask(client)).version == "reed-voice@1"
        registry.move("reed-voice", "stable", 2)
        await until(lambda: gateway.pool.live.alias("reed-voice", "stable") == 2)
        assert (await ask(client)).version == "reed-voice@2"
        registry.move("reed-voice", "stable", 3)
        await until(lambda: "reed-voice@3" in gateway.pool.refusals.reasons)
        assert (await ask(client)).version == "reed-voice@2"
        assert "add_lora" in (await client.get("/ready")).json()["refused"]["reed-voice@3"]

    run(gateway, story)


def test_what_the_engine_lost_or_kept_too_much_of_is_repaired(voices: Home) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await ask(client)).is_right
        gateway.engine.loaded = {"stray@1-abc": "stray"}
        gateway.reconciler._compare_every_s = 0
        await until(lambda: [n.partition("-")[0] for n in gateway.engine.loaded] == ["reed"])

    run(gateway, story)


def test_loaded_versions_stay_within_the_engines_memory(home: Home) -> None:
    for number in range(6):
        add_version(home, f"voice-{number}")
    gateway = FakeGateway(home, slots=2, memory=3)

    async def story(client: httpx.AsyncClient) -> None:
        for number in (*range(6), *range(6)):
            assert (await ask(client, f"voice-{number}")).is_right
            assert len(gateway.engine.loaded) <= 3

    run(gateway, story)


def test_a_roll_back_goes_to_the_version_before_and_its_history_says_who_and_why(voices: Home) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        reply = await client.post("/v1/adapters/reed-voice/rollback", json={})
        assert (reply.status_code, "no version to roll back to" in reply.text) == (409, True)
        await put(client, "reed-voice", "stable", 3)
        body = {"who": "ann", "why": "too chatty"}
        done = (await client.post("/v1/adapters/reed-voice/rollback", json=body)).json()
        assert (done["before"], done["after"], set(done["seconds"])) == (3, 1, {"load", "probe", "flip"})
        assert (await ask(client)).version == "reed-voice@1"
        last = done["adapter"]["history"][0]
        assert (last["before"], last["after"], last["who"], last["why"]) == (3, 1, "ann", "too chatty")

    run(gateway, story)


def test_a_retired_version_leaves_the_engine_and_answers_no_more(voices: Home) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await ask(client, "reed-voice@2")).is_right
        reply = await client.delete("/v1/adapters/reed-voice/versions/1")
        assert (reply.status_code, "is stable" in reply.text) == (409, True)
        left = (await client.delete("/v1/adapters/reed-voice/versions/2")).json()
        assert [v["version"] for v in left["versions"]] == [1, 3]
        await until(lambda: "reed-voice@2" in gateway.engine.unloads)
        answer = await ask(client, "reed-voice@2")
        assert (answer.status, "was retired" in answer.error) == (404, True)

    run(gateway, story)


def test_a_canary_answers_its_share_of_conversations_and_each_conversation_stays_with_one_version(
    voices: Home,
) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await put(client, "reed-voice", "canary", 2, share=30)).status_code == 200
        keys = [{"x-brogue-conversation": str(number)} for number in range(200)]
        first = [(await ask(client, headers=key)).version for key in keys]
        assert first == [(await ask(client, headers=key)).version for key in keys]
        # 200 draws with p = 0.3: 60 ± 6.5; five standard deviations to each side
        assert 28 <= first.count("reed-voice@2") <= 92
        assert {(await ask(client, "reed-voice", key)).version for key in keys} == {"reed-voice@1"}, "asked by its name"
        done = (await client.delete("/v1/adapters/reed-voice/aliases/canary?who=ann")).json()
        assert (done["adapter"]["aliases"], done["adapter"]["canary"]) == ({"stable": 1}, None)
        assert {(await ask(client, headers=key)).version for key in keys} == {"reed-voice@1"}

    run(gateway, story)


def test_a_canary_that_fails_is_stopped_by_itself(voices: Home) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "canary", 2, share=50)
        gateway.engine.mute.add("reed-voice@2")
        for number in range(400):
            await ask(client, headers={"x-brogue-conversation": str(number)})
            if "canary" not in gateway.pool.live.states["reed-voice"].aliases:
                break
            await asyncio.sleep(0.002)
        adapter = (await client.get("/v1/adapters/reed-voice")).json()
        assert adapter["aliases"] == {"stable": 1}
        assert adapter["history"][0]["who"] == "brogue"
        assert "reed-voice@2 failed in" in adapter["history"][0]["why"]

    run(gateway, story)


@pytest.mark.parametrize("stream", [True, False])
def test_a_shadow_answers_in_the_background_and_is_never_shown(voices: Home, stream: bool) -> None:
    gateway = FakeGateway(voices)
    file = voices.logs / "shadow.jsonl"
    body = {"model": "reed", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "canary", 2, shadow=True)
        replies = [await client.post("/v1/chat/completions", json=body) for _ in range(3)]
        assert {r.headers["x-brogue-version"] for r in replies} == {"reed-voice@1"}
        await until(lambda: file.exists() and gateway.trials.tally("reed-voice", 2).answers > 0)

    run(gateway, story)
    pair = json.loads(file.read_text().splitlines()[0])
    assert pair["messages"] == body["messages"]
    assert "".join(pair["stable"]["text"].split()) == "reed-voice@1reed-voice@1"
    assert pair["canary"] == {"version": 2, "text": "reed-voice@2 reed-voice@2"}


def test_only_two_shadow_answers_are_written_at_once_and_the_others_are_counted(voices: Home) -> None:
    gateway = FakeGateway(voices, FakeEngine(words=5, pause_s=0.02))
    Registry(voices).move("reed-voice", "canary", 2, canary=CanaryPlan(share=0, shadow=True))

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: gateway.pool.live.alias("reed-voice", "canary") == 2)
        assert all(a.is_right for a in await asyncio.gather(*(ask(client) for _ in range(6))))
        assert "brogue_shadow_dropped_total 4.0" in (await client.get("/metrics")).text

    run(gateway, story)


@pytest.mark.parametrize("key", [None, "Bearer wrong", "Bearer ünlike", "the admin key"])
def test_moving_aliases_wants_the_admin_key(voices: Home, key: str | None) -> None:
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        headers = {"Authorization": (key or "").encode()}
        replies = [
            await client.get("/v1/adapters", headers=headers),
            await client.put("/v1/adapters/reed-voice/aliases/stable", json={"version": 2}, headers=headers),
            await client.delete("/v1/adapters/reed-voice/versions/2", headers=headers),
        ]
        assert [(r.status_code, r.json()["error"]["code"]) for r in replies] == [(401, "invalid_api_key")] * 3
        assert (await ask(client)).version == "reed-voice@1"

    run(gateway, story)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("nobody/aliases/stable", {"version": 1}, 404, "no adapter 'nobody'; have: reed-voice"),
        ("reed-voice/aliases/best", {"version": 1}, 404, "no alias 'best'; have: stable"),
        ("reed-voice/aliases/stable", {"version": 9}, 404, "no version 'reed-voice@9'"),
        ("reed-voice/aliases/stable", {"version": 0}, 400, "version: "),
        ("reed-voice/aliases/canary", {"version": 2, "share": 101}, 400, "share: "),
        ("reed-voice/aliases/canary", {"version": 1}, 409, "is stable already"),
    ],
)
def test_a_wrong_admin_request_says_what_is_wrong(
    voices: Home, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        reply = await client.put(f"/v1/adapters/{path}", json=body)
        assert (reply.status_code, words in reply.json()["error"]["message"]) == (status, True), reply.text

    run(FakeGateway(voices), story)


@pytest.mark.parametrize("leaves_after", [0, 2])
def test_a_client_that_leaves_gives_back_its_slot_and_ends_its_answer(voices: Home, leaves_after: int) -> None:
    gateway = FakeGateway(voices, FakeEngine(words=1000, pause_s=0.01))
    body = {"model": "reed", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    async def story(_: httpx.AsyncClient) -> None:
        await until(lambda: gateway.pool.why_closed() is None)
        left, sent = asyncio.Event(), 0
        request = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if request:
                return request.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += message["type"] == "http.response.body"
            if sent >= leaves_after:
                left.set()
                await asyncio.sleep(0)

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b"",
                 "raw_path": b"", "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip
        await asyncio.wait_for(gateway.app(scope, receive, send), 60)
        assert gateway.pool.replicas.slots().in_use == 0
        assert gateway.engine.running.total() == 0

    run(gateway, story)


def test_slots_are_given_in_the_order_of_asking_and_to_all_requests_of_a_version_at_once() -> None:
    async def story() -> None:
        slots, order = Slots(1, patience_s=60), []

        async def use(name: str) -> None:
            await slots.enter(name, time.monotonic() + 60)
            order.append(name)
            await asyncio.sleep(0.01)
            slots.leave(name)

        await asyncio.gather(*(use(name) for name in ("a", "b", "c", "b", "a")))
        assert order == ["a", "a", "b", "b", "c"], "the second a passes, since nobody has waited for long"

    asyncio.run(story())


def test_nobody_who_gives_up_keeps_a_slot() -> None:
    async def story() -> None:
        slots = Slots(1)
        await slots.enter("a", time.monotonic() + 60)
        waiting = [asyncio.create_task(slots.enter("b", time.monotonic() + wait)) for wait in (0.01, 60)]
        await asyncio.sleep(0.05)
        waiting[1].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(r) for r in results] == [TimeoutError, asyncio.CancelledError]
        slots.leave("a")
        assert (slots.in_use, slots.waiting(), slots.wanted) == (0, 0, 0)

    asyncio.run(story())
