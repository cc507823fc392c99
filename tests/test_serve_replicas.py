"""Several engines behind one gateway: a version is live on all or on none, and an engine's death costs no answer."""

import asyncio
from collections import Counter

import httpx
import pytest

from data.home import Home
from serve.placement import engines_for
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version
from tests.swapping import CLIENTS, ask, assert_only_streams_that_had_begun_broke, load, put, run, until
from tests.swapping import voices as voices

NAMES = ["engine-1", "engine-2", "engine-3"]


def three(words: int = 6, pause_s: float = 0.001, elsewhere: bool = False) -> list[FakeEngine]:
    engines = [FakeEngine(words, pause_s) for _ in range(3)]
    for engine in engines:
        engine.is_elsewhere = elsewhere
    return engines


def open_ones(gateway: FakeGateway) -> list[str]:
    return [replica.name for replica in gateway.pool.replicas.open]


def says(engine: FakeEngine) -> set[str]:
    """The versions that an engine holds."""
    return set(engine.loaded.values())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_flips_over_three_engines_under_load_lose_no_answer_and_mix_no_versions(voices: Home, elsewhere: bool) -> None:
    gateway = FakeGateway(voices, engines=three(elsewhere=elsewhere), idle_s=0)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        async with load(client, "reed") as answers:
            for number in range(40):
                version = number % 3 + 1
                reply = await put(client, "reed-voice", "stable", version)
                assert reply.status_code == 200, reply.text
                assert all(f"reed-voice@{version}" in says(engine) for engine in gateway.engines)
                answer = await ask(client)
                assert answer.is_right and answer.version == f"reed-voice@{version}"
        assert [answer for answer in answers if not answer.is_right] == []

    run(gateway, story)
    shares = [len(engine.bodies) for engine in gateway.engines]
    assert min(shares) > sum(shares) / 6, f"each has its share of the work: {shares}"
    assert all(engine.pulled_away == [] and engine.unloads for engine in gateway.engines)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_engine_that_dies_costs_its_running_streams_and_comes_back_with_its_adapters(
    voices: Home, elsewhere: bool
) -> None:
    gateway = FakeGateway(voices, engines=three(words=20, elsewhere=elsewhere))
    victim = gateway.engines[1]

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        async with load(client, "reed") as answers:
            await until(lambda: len(answers) >= 2 * CLIENTS)
            victim.kill()
            await until(lambda: "engine-2" not in open_ones(gateway))
            got = len(answers)
            assert (await put(client, "reed-voice", "stable", 2)).status_code == 200, "the others go on without it"
            await until(lambda: len(answers) >= got + 2 * CLIENTS)
            victim.state = "ready"
            await until(lambda: len(open_ones(gateway)) == 3)
            assert "reed-voice@2" in says(victim), "it has what went live meanwhile before any request"
            asked = len(victim.bodies)
            await until(lambda: len(victim.bodies) > asked)
        assert_only_streams_that_had_begun_broke(answers)

    run(gateway, story)
    assert victim.unknown == 0


def test_an_answer_of_which_nothing_was_said_yet_comes_from_another_engine(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three(words=3, pause_s=0.05))

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        whole = {"model": "reed", "messages": [{"role": "user", "content": "Hi"}]}
        asked = [asyncio.create_task(client.post("/v1/chat/completions", json=whole)) for _ in range(6)]
        await until(lambda: len(gateway.engines[0].bodies) == 2)
        gateway.engines[0].kill()
        replies = await asyncio.gather(*asked)
        assert [reply.status_code for reply in replies] == [200] * 6

    run(gateway, story)


def test_a_version_that_one_engine_refuses_goes_live_nowhere(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three())
    gateway.engines[2].refuse = {"reed-voice@2"}

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        reply = await put(client, "reed-voice", "stable", 2)
        assert reply.status_code == 409 and "refused" in reply.json()["error"]["message"]
        assert {(await ask(client)).version for _ in range(6)} == {"reed-voice@1"}

    run(gateway, story)


def test_with_a_quorum_the_engine_that_cannot_follow_is_out_of_rotation_until_it_has_caught_up(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three(), quorum=2)
    gateway.engines[2].deadly = {"reed-voice@2"}

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        assert (await put(client, "reed-voice", "stable", 2)).status_code == 200
        assert open_ones(gateway) == NAMES[:2]
        assert {(await ask(client)).version for _ in range(6)} == {"reed-voice@2"}
        gateway.engines[2].deadly = set()
        gateway.engines[2].state = "ready"
        await until(lambda: len(open_ones(gateway)) == 3)
        assert "reed-voice@2" in says(gateway.engines[2])

    run(gateway, story)


def test_too_few_engines_for_the_quorum_leave_the_alias_where_it_was(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three(), quorum=3, max_wait_s=0.5)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        gateway.engines[0].kill()
        reply = await put(client, "reed-voice", "stable", 2)
        assert reply.status_code == 503
        assert "engine.quorum wants 3" in reply.json()["error"]["message"]
        assert "engine-1" in reply.json()["error"]["message"]
        assert (await ask(client)).version == "reed-voice@1"

    run(gateway, story)


def test_with_copies_each_adapter_is_on_so_many_engines_and_moves_when_one_dies(home: Home) -> None:
    adapters = [f"voice-{number}" for number in range(12)]
    for name in adapters:
        add_version(home, name)
        add_assistant(home, f"{name}-assistant", f"adapter: {name}\n")
    gateway = FakeGateway(home, engines=three(), copies=1, idle_s=0)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        await until(lambda: sum(len(engine.loaded) for engine in gateway.engines) == 12)
        for name in adapters:
            assert (await ask(client, f"{name}-assistant")).is_right
        homes = {name: engines_for(name, NAMES, 1)[0] for name in adapters}
        assert [len(engine.loaded) for engine in gateway.engines] == [Counter(homes.values())[name] for name in NAMES]
        gateway.engines[0].kill()
        for name in adapters:
            assert (await ask(client, f"{name}-assistant")).is_right, "the next engine in its order takes it over"
        await until(lambda: sum(len(engine.loaded) for engine in gateway.engines[1:]) == 12)
        moved = {name: engines_for(name, NAMES[1:], 1)[0] for name in adapters}
        assert all(moved[name] == homes[name] for name in adapters if homes[name] != "engine-1"), "no other one moves"

    run(gateway, story)


def test_with_copies_a_popular_adapter_is_on_more_engines_than_the_others(home: Home) -> None:
    for name in ("rare", "popular"):
        add_version(home, f"{name}-voice")
        add_assistant(home, name, f"adapter: {name}-voice\n")
    gateway = FakeGateway(home, engines=three(words=1, pause_s=0), copies=1)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        for _ in range(5):
            await ask(client, "rare")
        for _ in range(30):
            await asyncio.gather(*(ask(client, "popular") for _ in range(10)))

    run(gateway, story)
    held = Counter(says for engine in gateway.engines for says in engine.loaded.values())
    assert held == {"popular-voice@1": 3, "rare-voice@1": 1}


def test_an_engine_elsewhere_that_serves_another_model_gets_no_requests_and_says_why(voices: Home) -> None:
    engines = three(elsewhere=True)
    gateway = FakeGateway(voices, engines=engines)

    async def other(_body: dict[str, object]) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"id": "another-model", "parent": None}]})

    engines[0]._models = other  # type: ignore[method-assign]

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 2)
        told = (await client.get("/ready")).json()
        states = {one["name"]: one for one in told["engines"]}
        assert states["engine-1"]["state"] == "out of rotation"
        assert "another-model" in states["engine-1"]["detail"] and "'base'" in states["engine-1"]["detail"]
        assert told["slots"]["total"] == 8, "of the two that are open"
        for _ in range(6):
            assert (await ask(client)).is_right
        metrics = (await client.get("/metrics")).text
        assert 'brogue_engine_ready{engine="engine-1"} 0.0' in metrics
        assert 'brogue_engine_ready{engine="engine-2"} 1.0' in metrics

    run(gateway, story)
    assert engines[0].bodies == []


def test_what_others_have_loaded_into_an_engine_elsewhere_is_left_alone(voices: Home) -> None:
    engines = three()
    engines[0].is_elsewhere = True
    gateway = FakeGateway(voices, engines=engines)

    async def story(_client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        for engine in engines:
            engine.loaded["somebody@1-abc"] = "somebody"
        await gateway.pool.replicas.compare()
        assert "somebody" in says(engines[0])
        assert "somebody" not in says(engines[1]) | says(engines[2])

    run(gateway, story)


def test_files_that_are_on_their_way_to_an_engine_elsewhere_are_waited_for(voices: Home) -> None:
    async def story(elsewhere: bool) -> int:
        engines = three(elsewhere=elsewhere)
        engines[1].late["reed-voice@2"] = 2
        gateway = FakeGateway(voices, engines=engines)
        async with gateway.running() as client:
            while len(open_ones(gateway)) < 3:
                await asyncio.sleep(0.01)
            return (await client.put("/v1/adapters/reed-voice/aliases/candidate", json={"version": 2})).status_code

    assert asyncio.run(story(elsewhere=False)) == 409, "an engine here has the same disk as we: the folder is not there"
    assert asyncio.run(story(elsewhere=True)) == 200


def test_when_no_engine_is_left_people_are_told_how_each_of_them_is(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three(), max_wait_s=0.3)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(open_ones(gateway)) == 3)
        for engine in gateway.engines:
            engine.kill()
        answer = await ask(client)
        assert answer.status == 503
        assert "none of 3 engines can answer" in answer.error
        assert (await client.get("/ready")).status_code == 503

    run(gateway, story)


def test_each_engines_own_metrics_can_be_had_by_its_name(voices: Home) -> None:
    gateway = FakeGateway(voices, engines=three())

    async def story(client: httpx.AsyncClient) -> None:
        assert "vllm:num_requests_running" in (await client.get("/metrics/engine")).text
        assert "vllm:num_requests_running" in (await client.get("/metrics/engine?engine=engine-3")).text
        reply = await client.get("/metrics/engine?engine=engine-9")
        assert reply.status_code == 404
        assert "engine-1, engine-2, engine-3" in reply.json()["error"]["message"]

    run(gateway, story)
