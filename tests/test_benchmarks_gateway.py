"""benchmarks/gateway.py: a load that counts right, an engine as vLLM speaks, figures that mean what they say."""

import asyncio
from collections.abc import Iterator

import httpx
import openai
import pytest

from benchmarks.gateway import latency, quantile, rates
from benchmarks.gateway_load import Order, run
from benchmarks.gateway_processes import ScriptedEngine
from tests.scripted_gateway import served


@pytest.fixture
def engine() -> Iterator[str]:
    with served(ScriptedEngine()) as url:
        httpx.post(f"{url}/pace", json={"first_s": 0.02, "token_s": 0.005, "tokens": 5})
        yield url


@pytest.mark.parametrize("stream", [True, False])
def test_a_load_knows_when_each_answer_began_and_ended(engine: str, stream: bool) -> None:
    found = asyncio.run(run(Order(engine, "base", "any", 3, 0.3, stream=stream, ramp_s=0.1)))
    first, whole = found["first_s"], found["whole_s"]
    assert isinstance(first, list) and isinstance(whole, list)
    assert found["failed"] == 0
    assert len(first) == len(whole) <= int(str(found["done"]))
    assert all(0.015 <= one <= other for one, other in zip(first, whole, strict=True))
    assert min(whole) >= 0.03


def test_a_load_counts_what_is_refused_and_what_breaks(engine: str) -> None:
    refused = asyncio.run(run(Order(f"{engine}/nowhere", "base", "any", 1, 0.2)))
    assert refused["done"] == 0 and int(str(refused["failed"])) > 0 and refused["whole_s"] == []
    with pytest.raises(OSError):
        asyncio.run(run(Order("http://127.0.0.1:9", "base", "any", 1, 0.2)))


def test_the_scripted_engine_speaks_as_vllm_does(engine: str) -> None:
    client = openai.OpenAI(base_url=f"{engine}/v1", api_key="any")
    asked = {"model": "base", "messages": [{"role": "user", "content": "Hi"}]}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == " word" * 5
    assert whole.usage.completion_tokens == 5
    events = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert "".join(e.choices[0].delta.content for e in events if e.choices) == " word" * 5
    assert events[-1].usage.completion_tokens == 5
    httpx.post(f"{engine}/v1/load_lora_adapter", json={"lora_name": "one"})
    assert [one.id for one in client.models.list()] == ["base", "one"]


def test_what_is_added_is_against_direct_in_the_same_rounds() -> None:
    one = {"failed": 0, "done": 4, "elapsed_s": 2.0, "cpu_s": 0.02}
    found = {
        "direct": one | {"first_s": [0.1] * 4, "whole_s": [0.2] * 4, "cpu_s": 0.0},
        "gateway": one | {"first_s": [0.102] * 4, "whole_s": [0.205] * 2},
    }
    direct, gateway = latency(found, streams=2)
    assert "added_first_ms_p50" not in direct
    assert (gateway["added_first_ms_p50"], gateway["added_whole_ms_p99"]) == (2.0, 5.0)
    assert gateway["cpu_ms_per_answer"] == 5.0
    told = rates(found, streams=2)
    assert [line["requests_per_s"] for line in told] == [10.0, 9.8], "two clients that ask again at once"
    assert [line["of_direct"] for line in told] == [1.0, 0.976]


def test_a_quantile_is_one_of_the_values_in_milliseconds() -> None:
    values = [number / 1000 for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (51, 100)
    assert quantile([], 0.5) != quantile([], 0.5), "nothing measured is no number"
