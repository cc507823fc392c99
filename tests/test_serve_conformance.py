"""OpenAI's own client against the gateway and the bare engine behind it: equal but for what is meant to differ."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import openai
import psutil
import pytest

from adapters.registry import Registry
from data.home import Home
from tests.conformance import CASES, DIFFERENCES, EVENT_DIFFERENCES, QUESTION, STREAMS, differences, events

pytestmark = [pytest.mark.slow, pytest.mark.engine]


class Both(NamedTuple):
    """The same engine through the gateway and without it."""

    gateway: openai.OpenAI
    engine: openai.OpenAI
    base: str

    def running(self) -> float:
        """Requests that the engine works on."""
        key = {"Authorization": f"Bearer {self.engine.api_key}"}
        reply = httpx.get(str(self.engine.base_url.join("/metrics")), headers=key, timeout=30)
        text = reply.raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.fixture(scope="module")
def both(services: dict[str, Any], up_home: Home) -> Both:
    running = json.loads(up_home.services_file.read_text(encoding="utf-8"))
    process = psutil.Process(running["engines"][0]["pid"])
    words, key = process.cmdline(), process.environ()["VLLM_API_KEY"]
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}/v1"
    return Both(
        openai.OpenAI(base_url=f"{services['gateway_url']}/v1", api_key="any", max_retries=0),
        openai.OpenAI(base_url=url, api_key=key, max_retries=0),
        str(services["base_model"]),
    )


@pytest.mark.parametrize("name", CASES)
def test_an_answer_differs_from_the_engines_own_where_it_is_meant_to(both: Both, name: str) -> None:
    ask = CASES[name]
    ask(both.engine, both.base)  # both then find the prompt in the engine's cache
    ours, theirs = ask(both.gateway, both.base), ask(both.engine, both.base)
    assert set(differences(ours, theirs)) == set(DIFFERENCES.get(name, {})), f"ours {ours}\ntheirs {theirs}"


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_the_base_model_is_the_engines_byte_for_byte(both: Both, name: str) -> None:
    ask = STREAMS[name]
    ask(both.engine, both.base)
    assert ask(both.gateway, both.base) == ask(both.engine, both.base)


@pytest.mark.parametrize("name", ["chat", "chat, usage"])
def test_a_stream_of_an_assistant_without_a_prompt_is_the_engines_but_for_the_name(
    both: Both, name: str, up_home: Home
) -> None:
    path = up_home.assistants / "bare-voice.yaml"
    path.write_text("name: bare-voice\nadapter: reed-voice\n")
    try:
        STREAMS[name](both.gateway, "bare-voice")  # which loads the version
        inside = Registry(up_home).card("reed-voice", 1).engine_name
        ours, theirs = STREAMS[name](both.gateway, "bare-voice"), STREAMS[name](both.engine, inside)
    finally:
        path.unlink()
    assert b'"model":"bare-voice"' in ours
    assert ours == theirs.replace(f'"model":"{inside}"'.encode(), b'"model":"bare-voice"')


def test_a_responses_events_are_those_of_vllms_own_but_for_what_is_meant(both: Both) -> None:
    events(both.engine, both.base)
    ours, theirs = events(both.gateway, both.base), events(both.engine, both.base)
    kinds = [[event["type"] for event in one] for one in (ours, theirs)]
    assert kinds[0][:-1] == kinds[1][:-1], "the last one tells that a limit cut it"
    assert set(differences(ours, theirs)) == set(EVENT_DIFFERENCES)


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_client_goes_the_engine_writes_no_more(both: Both, stream: bool) -> None:
    body = {"model": both.base, "messages": QUESTION, "stream": stream, "max_tokens": 3000, "ignore_eos": True}

    async def ask_and_go() -> None:
        async with httpx.AsyncClient(timeout=120) as client:
            asked = asyncio.create_task(client.post(f"{both.gateway.base_url}chat/completions", json=body))
            await asyncio.to_thread(wait_until, lambda: both.running() == 1)
            asked.cancel()
            await asyncio.wait((asked,))

    wait_until(lambda: both.running() == 0)
    asyncio.run(ask_and_go())
    wait_until(lambda: both.running() == 0, 15)  # 3,000 tokens take a minute and more


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
