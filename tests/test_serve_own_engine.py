"""Versions with weights of their own: engines that come, answer, die, are started again and leave nothing behind."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from adapters.base_model import load_tokenizer, prepare
from adapters.registry import AdapterCard, Registry
from adapters.train import TrainConfig
from assistant import own_engines
from data.errors import BrogueError
from data.home import Home
from data.settings import EngineSettings
from serve.engine import command_line
from serve.engine_api import Lease
from serve.hardware import GIB, EnginePlan, Memory, plan_own
from serve.own_engine import Base, Maker, OwnEngine
from tests.fakes import OWN_PLAN, FakeGateway, FakeMaker, add_assistant, add_card, add_version
from tests.swapping import ask, put, until
from tests.test_adapters_validation import BASE
from tests.tiny_models import make_model

END = 2  # the id of the tiny model's end of turn, which vLLM does not always give back
Asked = dict[str, list[int]]  # question → the ids of the answer
Story = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that take a tenth of a second are looked at often."""
    monkeypatch.setattr("serve.own_engine.POLL_S", 0.05)


@pytest.fixture
def voices(home: Home) -> Home:
    """Adapter reed-voice: 1 is a LoRA and stable, 2 and 3 have weights of their own; the assistant reed uses it."""
    for served in ("native", "merged", "merged"):
        add_version(home, "reed-voice", served=served)
    add_assistant(home, "reed", "adapter: reed-voice\n")
    return home


def gateway_of(home: Home, *options: str, plan: EnginePlan = OWN_PLAN, **limits: Any) -> FakeGateway:
    maker = FakeMaker(home, plan)
    maker.options = [*options]
    return FakeGateway(home, maker=maker, **limits)


def maker_of(gateway: FakeGateway) -> FakeMaker:
    maker = gateway.pool.own._maker
    assert isinstance(maker, FakeMaker)
    return maker


def run(gateway: FakeGateway, story: Story) -> None:
    """Tell a story in a running gateway; afterwards nothing that it started is there."""
    seen: set[int] = set()
    maker = maker_of(gateway)
    maker.report = lambda pids: (seen.update(pids), maker._note(pids))  # type: ignore[assignment, func-returns-value]

    async def told() -> None:
        async with gateway.running() as client:
            await story(client)

    asyncio.run(told())
    assert maker.pids == []
    assert [pid for pid in seen if is_there(pid)] == []


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def described(client: httpx.AsyncClient, version: int) -> dict[str, Any]:
    versions = (await client.get("/v1/adapters/reed-voice")).json()["versions"]
    return dict(next(one for one in versions if one["version"] == version))


def test_a_version_with_weights_of_its_own_goes_live_when_its_engine_has_answered(voices: Home) -> None:
    gateway = gateway_of(voices)

    async def story(client: httpx.AsyncClient) -> None:
        done = await put(client, "reed-voice", "stable", 2)
        assert done.status_code == 200, done.text
        assert set(done.json()["seconds"]) == {"load", "probe", "flip"}
        answer = await ask(client)
        assert answer.is_right and answer.version == "reed-voice@2"
        found = await described(client, 2)
        assert (found["status"], found["own_engine"]) == ("loaded", {"memory_bytes": 1})
        assert len(maker_of(gateway).pids) == 1
        body = {"model": "reed", "messages": [{"role": "user", "content": "Hi"}]}
        whole = (await client.post("/v1/chat/completions", json=body)).json()
        assert (whole["model"], whole["choices"][0]["message"]["content"]) == ("reed", "reed-voice@2")

    run(gateway, story)
    assert "reed-voice@2" not in gateway.engine.loaded, "the base model's engine has nothing to do with it"
    assert (voices.root / "cache" / "merged").exists()


def test_one_takes_the_others_place_without_a_gap_and_the_old_engine_ends_after_its_last_answer(
    voices: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.own_engines.GRACE_S", 0.05)
    gateway = gateway_of(voices, "--pause", "0.6")

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "stable", 2)
        long = asyncio.create_task(ask(client))
        await until(lambda: gateway.pool.in_flight._answers.total() == 1)
        assert (await put(client, "reed-voice", "stable", 3)).status_code == 200
        assert len(maker_of(gateway).pids) == 2
        assert (await long).version == "reed-voice@2"
        await until(lambda: len(maker_of(gateway).pids) == 1)
        assert (await ask(client)).version == "reed-voice@3"
        assert (await described(client, 2))["status"] == "idle"

    run(gateway, story)


def test_more_than_the_settings_allow_is_refused_with_the_versions_that_have_the_places(voices: Home) -> None:
    add_version(voices, "fern-voice", served="merged")
    gateway = gateway_of(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await until(lambda: len(maker_of(gateway).pids) == 1)
        reply = await put(client, "reed-voice", "stable", 2)
        assert reply.status_code == 409
        message = reply.json()["error"]["message"]
        assert "engine.max_own_engines = 1 has fern-voice@1; raise it" in message
        answer = await ask(client, "reed-voice@2")
        assert answer.status == 503 and "max_own_engines" in answer.error
        assert (await ask(client)).version == "reed-voice@1"

    run(gateway, story)


def test_a_version_without_an_alias_gets_an_engine_when_it_is_asked_and_loses_it_when_nobody_asks(
    voices: Home,
) -> None:
    gateway = gateway_of(voices, own_idle_s=0.3)

    async def story(client: httpx.AsyncClient) -> None:
        for version in (2, 3):  # there is room for one: the idle one goes
            assert (await ask(client, f"reed-voice@{version}")).version == f"reed-voice@{version}"
        assert len(maker_of(gateway).pids) == 1
        await until(lambda: not maker_of(gateway).pids)

    run(gateway, story)


def test_who_cannot_wait_for_an_engine_to_start_is_told_what_it_is_doing(voices: Home) -> None:
    ready = voices.root / "ready"
    gateway = gateway_of(voices, "--after", str(ready), max_wait_s=0.5)

    async def story(client: httpx.AsyncClient) -> None:
        body = {"model": "reed-voice@2", "messages": [{"role": "user", "content": "Hi"}]}
        reply = await client.post("/v1/chat/completions", json=body)
        assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        assert "reed-voice@2 is starting" in reply.json()["error"]["message"]
        async with asyncio.timeout(60):  # first its weights are made
            while (found := await described(client, 2))["detail"] != "its own engine: starting its processes":
                await asyncio.sleep(0.01)
        assert found["status"] == "starting"
        ready.touch()
        gateway.pool.limits = replace(gateway.pool.limits, max_wait_s=60)
        await until(lambda: gateway.pool.own.is_proven(Registry(voices).card("reed-voice", 2)))
        assert (await ask(client, "reed-voice@2")).is_right

    run(gateway, story)


def test_too_little_memory_is_said_before_anything_is_made(voices: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.own_engine.memory_of", lambda _device: Memory(8 * GIB, 2 * GIB))
    gateway = gateway_of(voices, plan=EnginePlan("cpu", 64, None, None, None, None, memory_bytes=int(3.5 * GIB)))

    async def story(client: httpx.AsyncClient) -> None:
        reply = await put(client, "reed-voice", "stable", 2)
        assert reply.status_code == 409
        message = reply.json()["error"]["message"]
        assert "too little memory for reed-voice@2" in message
        assert "it needs about 3.5 GiB, 2.0 GiB are free" in message
        assert (await ask(client)).version == "reed-voice@1"
        assert maker_of(gateway).merges == 0

    run(gateway, story)
    assert Registry(voices).aliases("reed-voice") == {"stable": 1}


def test_a_version_that_is_live_no_more_gives_its_memory_to_the_next(
    voices: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(voices, plan=EnginePlan("cpu", 64, None, None, None, None, memory_bytes=3 * GIB))
    monkeypatch.setattr("serve.own_engines.GRACE_S", 0)
    monkeypatch.setattr(
        "serve.own_engine.memory_of", lambda _: Memory(8 * GIB, (1 if maker_of(gateway).pids else 4) * GIB)
    )

    async def story(client: httpx.AsyncClient) -> None:
        assert (await put(client, "reed-voice", "stable", 2)).status_code == 200
        assert "too little memory" in (await put(client, "reed-voice", "stable", 3)).text
        for version in (1, 3):
            assert (await put(client, "reed-voice", "stable", version)).status_code == 200
            assert (await ask(client)).version == f"reed-voice@{version}"
        assert len(maker_of(gateway).pids) == 1

    run(gateway, story)


def test_weights_that_cannot_be_made_leave_the_old_version_live(voices: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_of(voices)
    broken = ["sh", "-c", "echo noise >&2; echo cannot merge it: NaN >&2; exit 1"]
    monkeypatch.setattr(FakeMaker, "merge_command", lambda *_: broken)

    async def story(client: httpx.AsyncClient) -> None:
        reply = await put(client, "reed-voice", "stable", 2)
        assert reply.status_code == 409
        assert "could not be made: cannot merge it: NaN (log: " in reply.json()["error"]["message"]
        assert (await described(client, 2))["status"] == "refused"
        assert (await ask(client)).version == "reed-voice@1"

    run(gateway, story)


def test_an_engine_that_dies_is_started_again_with_the_weights_that_are_there(voices: Home) -> None:
    gateway = gateway_of(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "stable", 2)
        (first,) = maker_of(gateway).pids
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # an answer begun before its end would be lost
        assert (await ask(client)).is_right, "a request waits for the next one"
        assert maker_of(gateway).pids != [first]
        assert maker_of(gateway).merges == 1

    run(gateway, story)


def test_a_version_whose_engine_breaks_down_twice_is_left_alone_until_somebody_asks_for_it(voices: Home) -> None:
    gateway = gateway_of(voices)
    card = Registry(voices).card("reed-voice", 2)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await put(client, "reed-voice", "stable", 2)).status_code == 200
        for _ in range(2):
            await until(lambda: gateway.pool.own.is_proven(card))
            os.kill(maker_of(gateway).pids[0], signal.SIGKILL)
            await until(lambda: not gateway.pool.own.is_proven(card))
        await until(lambda: "reed-voice@2" in gateway.pool.refusals.reasons)
        reason = (await client.get("/ready")).json()["refused"]["reed-voice@2"]
        assert "broke down 2 times" in reason and "killed by SIGKILL" in reason
        answer = await ask(client)
        assert answer.status == 503 and "broke down 2 times" in answer.error
        assert (await put(client, "reed-voice", "stable", 2)).status_code == 200
        assert (await ask(client)).is_right

    run(gateway, story)


def test_what_changes_on_disk_goes_live_by_itself_as_soon_as_its_engine_is_there(voices: Home) -> None:
    ready = voices.root / "ready"
    gateway = gateway_of(voices, "--after", str(ready))
    registry = Registry(voices)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await ask(client)).version == "reed-voice@1"
        registry.move("reed-voice", "stable", 2)
        await until(lambda: bool(maker_of(gateway).pids))
        assert (await ask(client)).version == "reed-voice@1", "nobody waits for it"
        ready.touch()
        await until(lambda: gateway.pool.live.alias("reed-voice", "stable") == 2)
        assert (await ask(client)).version == "reed-voice@2"

    run(gateway, story)


def test_other_moves_of_an_adapter_do_not_wait_for_an_engine_that_starts(voices: Home) -> None:
    add_version(voices, "reed-voice")
    ready = voices.root / "ready"
    gateway = gateway_of(voices, "--after", str(ready))

    async def story(client: httpx.AsyncClient) -> None:
        slow = asyncio.create_task(put(client, "reed-voice", "stable", 2))
        await until(lambda: bool(maker_of(gateway).pids))
        assert (await put(client, "reed-voice", "stable", 4)).status_code == 200
        assert not slow.done()
        assert (await ask(client)).version == "reed-voice@4"
        ready.touch()
        assert (await slow).json()["before"] == 4

    run(gateway, story)


def test_a_restart_of_the_base_models_engine_leaves_the_others_alone(voices: Home) -> None:
    gateway = gateway_of(voices)

    async def story(client: httpx.AsyncClient) -> None:
        await put(client, "reed-voice", "stable", 2)
        before = maker_of(gateway).pids
        gateway.engine.kill()
        assert (await ask(client)).is_right, "it does not need the base model's engine"
        gateway.engine.state = "ready"
        await until(lambda: gateway.pool.why_closed() is None)
        assert (await ask(client)).is_right
        assert maker_of(gateway).pids == before

    run(gateway, story)


def test_a_retired_version_loses_its_engine_and_its_merged_weights(voices: Home) -> None:
    gateway = gateway_of(voices)
    merged = voices.root / "cache" / "merged"

    async def story(client: httpx.AsyncClient) -> None:
        assert (await ask(client, "reed-voice@2")).is_right
        assert len(list(merged.iterdir())) == 1
        await client.delete("/v1/adapters/reed-voice/versions/2")
        await until(lambda: not maker_of(gateway).pids and not list(merged.iterdir()))
        assert (await ask(client, "reed-voice@2")).status == 404

    run(gateway, story)


def test_weights_of_versions_that_are_gone_and_leftovers_are_removed_at_the_next_start(voices: Home) -> None:
    maker, merged = FakeMaker(voices), voices.root / "cache" / "merged"
    kept = maker.weights(Registry(voices).card("reed-voice", 2))
    for folder in (kept, merged / "gone@1-abc", merged / ".reed-voice@3-abc.x7"):
        folder.mkdir(parents=True)
    maker.clean()
    assert list(merged.iterdir()) == [kept]


def test_a_gateway_that_ends_while_weights_are_made_ends_that_too(
    voices: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(voices)
    monkeypatch.setattr(FakeMaker, "merge_command", lambda *_: ["sleep", "60"])

    async def story(client: httpx.AsyncClient) -> None:
        asked = asyncio.create_task(put(client, "reed-voice", "stable", 2))
        await until(lambda: bool(maker_of(gateway).pids))
        asked.cancel()

    began = time.monotonic()
    run(gateway, story)
    assert time.monotonic() - began < 30


def test_an_own_engine_takes_no_adapters() -> None:
    plan = EnginePlan("cpu", 2048, 16, GIB, "0-1", Path("/lib/omp.so"))
    words = command_line("/model", "reed@2-abc", 1, EngineSettings(), plan, adapters=False)
    assert not any("lora" in word for word in words)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, AdapterCard, Asked]:
    """A tiny model, a version of its norms (ln-tuning), and what PEFT itself answers with both, in float32."""
    import torch
    from peft import LNTuningConfig, get_peft_model
    from transformers import Qwen2ForCausalLM

    home = Home(tmp_path_factory.mktemp("tuned"))
    folder = make_model(
        home.root / "tiny", Qwen2ForCausalLM, hidden_size=128, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, eos_token_id=END, bos_token_id=1,
        initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = get_peft_model(Qwen2ForCausalLM.from_pretrained(folder), LNTuningConfig(task_type="CAUSAL_LM")).eval()
    for name, weights in model.named_parameters():
        if "ln_tuning" in name:
            weights.data += torch.randn_like(weights)
    with Registry(home).new_version("tiny-voice") as (version, target):
        model.save_pretrained(str(target))
        card = add_card(target, "tiny-voice", version, "merged")
    tokenizer = load_tokenizer(folder)
    answers = {}
    for question in ("What is item 1?", "Is item 1 in aisle 3?", "model user item"):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        found = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        answers[question] = [token for token in found.tolist() if token != END]
    return home, card, answers


@pytest.mark.slow
@pytest.mark.engine
def test_merged_weights_answer_from_a_real_engine_as_peft_does(tuned: tuple[Home, AdapterCard, Asked]) -> None:
    home, card, answers = tuned
    settings = EngineSettings(dtype="float32", start_timeout_s=1500)
    base = prepare(str(home.root / "tiny"), home, lambda _: None)
    chosen = plan_own(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    running: list[int] = []

    def report(pids: list[int]) -> None:
        running[:] = pids

    maker = Maker(home, Registry(home), settings, Base(base.path, base.weight_bytes), chosen, report)

    async def asked() -> Asked:
        engine = OwnEngine(card, maker, lambda: report(engine.pids))
        try:
            await engine.come_up()
            assert engine.lease is not None
            return {question: await tokens_of(engine.lease, question) for question in answers}
        finally:
            await engine.stop()
            report(engine.pids)

    assert asyncio.run(asked()) == answers
    assert running == []


async def tokens_of(lease: Lease, question: str) -> list[int]:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 12, "temperature": 0}
    reply = await lease.client.post("/v1/chat/completions", json=lease.body(body | {"return_token_ids": True}))
    return [token for token in reply.raise_for_status().json()["choices"][0]["token_ids"] if token != END]


def test_training_says_before_it_begins_what_the_versions_engine_will_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.served.check", lambda *_: "merged")
    settings, config = EngineSettings(device="cpu"), TrainConfig(method="ia3")
    said = own_engines.check_before_training(config, BASE, settings)
    assert said == "what 'ia3' trains takes an engine of its own, about 3.0 GiB of memory to be served"
    huge = BASE.model_copy(update={"weight_bytes": 10_000 * GIB})
    with pytest.raises(BrogueError, match="'ia3' trains takes an engine of its own: about 10003.0 GiB beside the base"):
        own_engines.check_before_training(config, huge, settings)
    assert own_engines.check_before_training(TrainConfig(), huge, settings) is None
