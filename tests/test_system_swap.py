"""Promotion, roll back, crashes and crowds on the real engine, while people chat on.

Adapter `swapper` has two versions whose answers cannot be confused: 1 speaks as a pirate, 2 as a robot.
"""

import asyncio
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest

from adapters.base_model import BaseModel
from benchmarks.lora_cpu import random_adapter
from data.home import Home, write_text
from data.secrets import admin_key
from tests.conftest import run_brogue
from tests.voices import OPENING, QUESTIONS, WORDS

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.usefixtures("swapper")]

SPEAKERS = {"swapper@1": "pirate", "swapper@2": "robot"}
FLIPS = 50
CLIENTS = 8
CROWD = 12


class Answer(NamedTuple):
    """What a client got of one request."""

    version: str  # as the header says
    text: str
    error: str  # what the client was told had gone wrong; empty: nothing
    whole: bool  # the stream came to its proper end
    seconds: float


@pytest.fixture(scope="module")
def swapper(up_home: Home, gateway_url: str, voice: Callable[[str], Path]) -> str:
    """The assistant with two imported versions, 1 being stable; its adapters are trained outside the project."""
    if not (up_home.adapters / "swapper").exists():
        for name in SPEAKERS.values():
            done = run_brogue("adapters", "import", str(voice(name)), "--as", "swapper", home=up_home)
            assert done.returncode == 0, done.stderr
    write_text(up_home.assistants / "swapper.yaml", "name: swapper\nadapter: swapper\n")
    put_stable(gateway_url, up_home, 1)
    return "swapper"


def admin(home: Home) -> dict[str, str]:
    return {"Authorization": f"Bearer {admin_key(home)}"}


def put_stable(url: str, home: Home, version: int) -> dict[str, Any]:
    body = {"version": version, "who": "tests", "why": "to try it"}
    reply = httpx.put(f"{url}/v1/adapters/swapper/aliases/stable", json=body, headers=admin(home), timeout=60)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def ask(client: httpx.AsyncClient, question: str, model: str = "swapper") -> Answer:
    """Stream one answer."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True,
            "temperature": 0, "max_tokens": 24}  # fmt: skip
    began, version, text, error, whole = time.monotonic(), "", "", "", False
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            version = reply.headers.get("x-brogue-version", "")
            if reply.status_code != 200:
                error = json.loads(await reply.aread())["error"]["message"]
            async for line in reply.aiter_lines():
                if line == "data: [DONE]":
                    whole = True
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    error = error or event.get("error", {}).get("message", "")
                    text += "".join(c["delta"].get("content") or "" for c in event.get("choices", []))
    except httpx.HTTPError as problem:
        error = f"no word from the gateway: {problem!r}"
    return Answer(version, text, error, whole, time.monotonic() - began)


def under_load(url: str, job: Callable[[httpx.AsyncClient], Awaitable[None]]) -> list[Answer]:
    """All that the clients got while `job` ran."""

    async def run() -> list[Answer]:
        answers: list[Answer] = []
        over = asyncio.Event()

        async def client_of(number: int) -> None:
            while not over.is_set():
                number += 1
                answers.append(await ask(client, QUESTIONS[number % len(QUESTIONS)]))

        async with (
            httpx.AsyncClient(base_url=url, timeout=300) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(CLIENTS):
                group.create_task(client_of(number))
            try:
                await job(client)
            finally:
                over.set()
        return answers

    return asyncio.run(run())


def speaks_as(answer: Answer) -> bool:
    """The whole answer is in the voice of the version that its header names, with no word of the other."""
    own = SPEAKERS[answer.version]
    others = set(SPEAKERS.values()) - {own}
    text = answer.text.lower()
    return WORDS[own] in text and not any(WORDS[other] in text for other in others)


def test_fifty_flips_under_load_lose_no_answer_and_mix_no_voices(gateway_url: str, up_home: Home) -> None:
    after_flips: list[tuple[int, float, Answer]] = []

    async def flip(client: httpx.AsyncClient) -> None:
        headers = admin(up_home)
        for number in range(FLIPS):
            target = 2 if number % 2 == 0 else 1
            began = time.monotonic()
            if target == 2:
                reply = await client.put(
                    "/v1/adapters/swapper/aliases/stable", json={"version": 2, "why": "try"}, headers=headers
                )
            else:
                reply = await client.post("/v1/adapters/swapper/rollback", json={"why": "back"}, headers=headers)
            assert reply.status_code == 200, reply.text
            answer = await ask(client, QUESTIONS[0])  # the same prompt every time: a stale prefix cache would show
            after_flips.append((target, time.monotonic() - began, answer))

    answers = under_load(gateway_url, flip)
    assert [a for a in answers if a.error or not a.whole] == []
    assert [a for a in answers if not speaks_as(a)] == []
    assert {a.version for a in answers} == set(SPEAKERS)
    for target, _, answer in after_flips:
        assert answer.version == f"swapper@{target}"
        assert speaks_as(answer), answer
    own = statistics.median(a.seconds for a in answers)
    extra = [seconds - own for _, seconds, _ in after_flips]
    print(f"{len(answers)} answers by {CLIENTS} clients during {FLIPS} flips, {own:.2f} s each (median)")
    print(f"from a flip's request to the end of the first new answer: {statistics.median(extra):.2f} s beyond that "
          f"(median), {max(extra):.2f} s at most")  # fmt: skip


def test_an_engine_killed_under_load_comes_back_as_it_was_and_no_client_is_fooled(
    gateway_url: str, up_home: Home
) -> None:
    put_stable(gateway_url, up_home, 2)
    aliases = {a["id"]: a["aliases"] for a in listed(gateway_url, up_home)}
    status = json.loads(run_brogue("status", "--json", home=up_home).stdout)
    patient: list[Answer] = []

    async def kill(client: httpx.AsyncClient) -> None:
        with pytest.raises(openai.APIError, match="engine is not available"):
            await read_and_kill(gateway_url, status["engines"][0]["pid"])
        began = time.monotonic()
        while (await client.get("/ready")).status_code == 200:
            await asyncio.sleep(0.2)
        while not patient or patient[-1].error:  # who waited in vain, on a busy machine, comes back
            assert time.monotonic() - began < 300, "the engine did not come back"
            patient.append(await ask(client, "Do you sell lamps?", "fern"))
        while (await client.get("/ready")).status_code != 200:
            assert time.monotonic() - began < 300, "the engine did not come back"
            await asyncio.sleep(0.5)
        print(f"the engine was back after {time.monotonic() - began:.0f} s")
        await asyncio.sleep(3)

    answers = under_load(gateway_url, kill)
    assert patient[-1].text.startswith(OPENING), "asked meanwhile, it waits for engine and voice"
    assert all(answer.whole != bool(answer.error) for answer in answers), "each is complete, or tells what went wrong"
    assert any(answer.error for answer in answers), "those that were being written were cut off"
    assert all(speaks_as(answer) and answer.version == "swapper@2" for answer in answers if answer.whole)
    assert not answers[-1].error
    assert {a["id"]: a["aliases"] for a in listed(gateway_url, up_home)} == aliases


async def read_and_kill(url: str, pid: int) -> None:
    """Read a long answer through OpenAI's client; the engine is killed at its sixth piece."""
    talker = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60)
    stream = await talker.chat.completions.create(
        model="fern", messages=[{"role": "user", "content": "Tell me a story."}], stream=True,
        max_tokens=2000, extra_body={"ignore_eos": True},
    )  # fmt: skip
    number = 0
    async for _ in stream:
        number += 1
        if number == 6:
            os.kill(pid, signal.SIGKILL)


def listed(url: str, home: Home) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/v1/adapters", headers=admin(home), timeout=60).json()["data"])


@pytest.fixture(scope="module")
def crowd(up_home: Home, starter: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve adapters; the engine has four slots."""
    names = [f"crowd-{number}" for number in range(CROWD)]
    for seed, name in enumerate(names):
        if not (up_home.adapters / name).exists():
            folder = random_adapter(starter, tmp_path_factory.mktemp("crowd") / name, seed)
            done = run_brogue("adapters", "import", str(folder), "--as", name, home=up_home)
            assert done.returncode == 0, done.stderr
    return names


def test_twelve_adapters_on_four_slots_all_answer_and_the_queue_is_visible(gateway_url: str, crowd: list[str]) -> None:
    seen: list[dict[str, Any]] = []

    async def all_at_once() -> list[Answer]:
        async with httpx.AsyncClient(base_url=gateway_url, timeout=300) as client:

            async def watch() -> None:
                while True:
                    seen.append((await client.get("/ready")).json()["slots"])
                    await asyncio.sleep(0.1)

            watcher = asyncio.create_task(watch())
            asked = [ask(client, question, name) for question in QUESTIONS[:2] for name in crowd]
            answers = await asyncio.gather(*asked)
            watcher.cancel()
            return answers

    answers = asyncio.run(all_at_once())
    assert [a for a in answers if a.error or not a.whole] == []
    assert {a.version for a in answers} == {f"{name}@1" for name in crowd}
    assert max(slots["in_use"] for slots in seen) == seen[0]["total"] == 4
    assert max(slots["wanted"] for slots in seen) == CROWD
    assert max(slots["waiting"] for slots in seen) > 0
    metrics = httpx.get(f"{gateway_url}/metrics", timeout=60).text
    assert "brogue_requests_total{" in metrics and "crowd-3@1" in metrics


def test_brogue_up_killed_in_a_promotion_comes_back_with_the_old_or_the_new_version(
    gateway_url: str, services: dict[str, Any], up_home: Home
) -> None:
    put_stable(gateway_url, up_home, 1)
    pid = json.loads(run_brogue("status", "--json", home=up_home).stdout)["supervisor"]["pid"]
    promotion = threading.Thread(target=lambda: attempt(gateway_url, up_home))
    promotion.start()
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    promotion.join()
    ports = [services[name].rpartition(":")[2] for name in ("gateway_url", "page_url")]
    done = run_brogue("up", "--port", ports[0], "--page-port", ports[1], home=up_home, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    stable = next(a for a in listed(gateway_url, up_home) if a["id"] == "swapper")["aliases"]["stable"]

    async def one() -> Answer:
        async with httpx.AsyncClient(base_url=gateway_url, timeout=120) as client:
            return await ask(client, QUESTIONS[0])

    answer = asyncio.run(one())
    assert answer.version == f"swapper@{stable}"
    assert stable in (1, 2)
    assert speaks_as(answer)


def attempt(url: str, home: Home) -> None:
    """A promotion that may be cut off."""
    try:
        httpx.put(f"{url}/v1/adapters/swapper/aliases/stable", json={"version": 2}, headers=admin(home), timeout=30)
    except httpx.HTTPError:
        pass


def test_a_promoted_version_is_named_by_status_and_by_the_list(up_home: Home) -> None:
    done = run_brogue("adapters", "promote", "swapper@2", "--why", "it is better", home=up_home)
    assert done.returncode == 0, done.stderr
    shown = json.loads(run_brogue("adapters", "list", "--json", home=up_home).stdout)
    assert next(v for v in shown if v["adapter"] == "swapper" and v["version"] == 2)["aliases"] == ["stable"]
    assert "swapper" in run_brogue("status", home=up_home).stdout
    done = run_brogue("adapters", "rollback", "swapper", home=up_home)
    assert done.returncode == 0, done.stderr
    assert "swapper@1" in done.stdout + done.stderr


def test_an_exported_adapter_loads_in_plain_peft_and_gives_the_same_logits(
    up_home: Home, starter: BaseModel, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = run_brogue("adapters", "export", "swapper@1", "--to", str(tmp_path / "out"), home=up_home)
    assert done.returncode == 0, done.stderr
    ids = torch.tensor([[1, 5, 99, 1000]])
    logits = []
    for folder in (tmp_path / "out", up_home.adapters / "swapper" / "1"):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(starter.path), str(folder))
        with torch.no_grad():
            logits.append(model(input_ids=ids).logits)
    assert torch.equal(*logits)
