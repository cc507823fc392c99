"""Other people's clients, unchanged, against the gateway over the fake engine: what they send and what they make of it.

tests/test_serve_clients_engine.py has the same clients in front of the real engine.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from data.home import Home
from tests.clients_gateway import EMBEDDING, clients_gateway
from tests.conftest import ROOT
from tests.fakes import ADMIN_KEY, FakeEngine, FakeGateway

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
WEATHER: dict[str, Any] = {
    "name": "weather", "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["glad", "sad"]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def served_gateway(home: Home, engine: FakeEngine) -> Iterator[tuple[FakeGateway, str]]:
    with clients_gateway(home, engine) as found:
        yield found


@pytest.fixture
def gateway(served_gateway: tuple[FakeGateway, str]) -> FakeGateway:
    return served_gateway[0]


@pytest.fixture
def url(served_gateway: tuple[FakeGateway, str]) -> str:
    return served_gateway[1]


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0)


def key(url: str, **rules: Any) -> str:
    """A new API key; with the first one every request wants one."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    made = httpx.post(f"{url}/keys", json={"name": "app", "rules": rules}, headers=admin, timeout=60)
    return str(made.raise_for_status().json()["key"])


def test_openai_reads_models_answers_streams_and_embeddings(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "fern",
        "fern-voice@stable",
        "fern-voice@1",
        "base",
        EMBEDDING,
    ]
    assert client.models.retrieve("fern").id == "fern"
    whole = client.chat.completions.create(model="fern", messages=MESSAGES)
    assert (whole.model, whole.choices[0].message.content) == ("fern", "fern-voice@1 fern-voice@1")
    stream = client.chat.completions.create(
        model="fern", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert (text, chunks[-1].usage and chunks[-1].usage.prompt_tokens) == ("fern-voice@1fern-voice@1", 7)
    assert len(client.embeddings.create(model=EMBEDDING, input=["a", "b"]).data[1].embedding) == 64


def test_openais_answers_carry_the_headers_of_ours(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="fern", messages=MESSAGES)
    assert raw.headers["x-brogue-version"] == "fern-voice@1"
    assert raw.headers["x-brogue-response-id"].startswith("resp-")
    assert raw.request_id, "what the client shows with an error"


def test_openais_calls_of_tools_and_parsed_answers_come_as_its_own_objects(
    client: openai.OpenAI, engine: FakeEngine
) -> None:
    tools: Any = [{"type": "function", "function": WEATHER}]
    engine.message = CALLING
    called = client.chat.completions.create(model="base", messages=MESSAGES, tools=tools, tool_choice="auto")
    assert called.choices[0].message.tool_calls[0].function.arguments == '{"city": "Bonn"}'  # type: ignore[union-attr, index]
    assert engine.bodies[-1]["tools"] == tools
    engine.message = {"role": "assistant", "content": '{"mood": "glad"}'}
    parsed = client.chat.completions.parse(model="base", messages=MESSAGES, response_format=Mood)
    assert parsed.choices[0].message.parsed == Mood(mood="glad")
    assert engine.bodies[-1]["response_format"]["json_schema"]["name"] == "Mood"


def test_openais_helper_for_streams_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="fern", messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta"} <= kinds
    assert final.choices[0].message.content == "fern-voice@1fern-voice@1"


async def ask_asynchronously(url: str) -> list[str]:
    import asyncio

    async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:

        async def one() -> str:
            stream = await client.chat.completions.create(model="fern", messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

        whole = await client.chat.completions.create(model="fern", messages=MESSAGES)
        return [whole.choices[0].message.content or "", *await asyncio.gather(*(one() for _ in range(5)))]


def test_openais_asynchronous_client_does_the_same(url: str) -> None:
    import asyncio

    whole, *streams = asyncio.run(ask_asynchronously(url))
    assert whole == "fern-voice@1 fern-voice@1"
    assert streams == ["fern-voice@1fern-voice@1"] * 5


def test_openais_error_classes_follow_from_what_went_wrong(
    client: openai.OpenAI, gateway: FakeGateway, url: str
) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model") as unknown:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="wanted 'messages'"):
        client.chat.completions.create(model="fern", messages=[])
    gateway.engine.state = "dead"
    with pytest.raises(openai.InternalServerError, match="the engine is not available") as down:
        client.chat.completions.create(model="fern", messages=MESSAGES)
    assert down.value.status_code == 503
    gateway.engine.state = "ready"

    secret = key(url, assistants=["fern"])
    with pytest.raises(openai.AuthenticationError) as wrong:
        client.chat.completions.create(model="fern", messages=MESSAGES)
    assert wrong.value.code == "invalid_api_key"
    own = client.with_options(api_key=secret)
    with pytest.raises(openai.APIStatusError) as not_theirs:
        own.chat.completions.create(model="base", messages=MESSAGES)
    assert not_theirs.value.status_code in (403, 404)


def test_openai_is_told_how_long_to_wait_when_its_key_asks_too_often(client: openai.OpenAI, url: str) -> None:
    own = client.with_options(api_key=key(url, rpm=1))
    own.chat.completions.create(model="fern", messages=MESSAGES)
    with pytest.raises(openai.RateLimitError) as limited:
        own.chat.completions.create(model="fern", messages=MESSAGES)
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
    assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"


def test_openai_tries_again_by_itself_while_the_engine_is_away(
    url: str, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, tries = openai.OpenAI(base_url=url, api_key="any", max_retries=5), []

    def soon(*_: Any, **__: Any) -> float:
        tries.append(engine.state)
        engine.state = "ready" if len(tries) == 2 else engine.state
        return 0.01

    monkeypatch.setattr(client, "_calculate_retry_timeout", soon)
    engine.state = "starting"
    reply = client.chat.completions.create(model="fern", messages=MESSAGES)
    assert (reply.choices[0].message.content, len(tries)) == ("fern-voice@1 fern-voice@1", 2)


def test_an_answer_that_openai_has_no_patience_for_is_ended_in_the_engine(
    client: openai.OpenAI, engine: FakeEngine
) -> None:
    client.chat.completions.create(model="fern", messages=MESSAGES)
    engine.words, engine.pause_s = 1000, 0.2
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="fern", messages=MESSAGES, timeout=1)
    deadline = time.monotonic() + 60
    while engine.running.total():
        assert time.monotonic() < deadline, "the engine still writes"
        time.sleep(0.05)


def test_langchain_chats_streams_calls_tools_parses_and_embeds(url: str, engine: FakeEngine) -> None:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    model: Any = ChatOpenAI(base_url=url, api_key="any", model="fern")  # type: ignore[arg-type]
    assert model.invoke("Hi").content == "fern-voice@1 fern-voice@1"
    assert "".join(chunk.content for chunk in model.stream("Hi")) == "fern-voice@1fern-voice@1"
    engine.message = CALLING
    called = model.bind_tools([weather]).invoke("How is the weather in Bonn?")
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("weather", {"city": "Bonn"})]
    engine.message = {"role": "assistant", "content": '{"mood": "sad"}'}
    for method in ("json_schema", "json_mode"):
        assert model.with_structured_output(Mood, method=method).invoke("Answer in JSON.") == Mood(mood="sad")

    embeddings: Any = OpenAIEmbeddings(
        base_url=url, api_key="any", model=EMBEDDING, check_embedding_ctx_length=False
    )  # fmt: skip
    assert [len(vector) for vector in embeddings.embed_documents(["a b", "c"])] == [64, 64]
    assert len(embeddings.embed_query("a")) == 64


def test_haystack_generates_streams_and_embeds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage, Document

    generator, pieces = OpenAIChatGenerator(model="fern", api_base_url=url), []
    messages = [ChatMessage.from_user("Hi")]
    assert generator.run(messages)["replies"][0].text == "fern-voice@1 fern-voice@1"
    streamed = generator.run(messages, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert streamed["replies"][0].text == "".join(pieces) == "fern-voice@1fern-voice@1"
    assert len(OpenAITextEmbedder(model=EMBEDDING, api_base_url=url).run("a b")["embedding"]) == 64
    documents = OpenAIDocumentEmbedder(model=EMBEDDING, api_base_url=url).run([Document(content="a b")])["documents"]
    assert len(documents[0].embedding) == 64


def examples() -> list[str]:
    """The shell blocks of the README that call curl."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block for block in re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE) if "curl" in block]


def run_examples(url: str) -> list[str]:
    """What each of them writes, with the gateway's address in the place of the usual one."""
    said = []
    for block in examples():
        script = "set -eu -o pipefail\n" + block.replace("http://127.0.0.1:8000/v1", url)
        done = subprocess.run(
            ["bash", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    return said


def test_the_curl_examples_of_the_readme_run_as_they_stand_there(url: str) -> None:
    said = "\n".join(run_examples(url))
    assert len(examples()) >= 1
    assert '"error"' not in said
    for sign in ('"id":"fern"', '"object":"chat.completion"', "data: [DONE]", '"object":"embedding"', '"stored":true'):
        assert sign in said, said
    assert json.loads(said.splitlines()[-1])["version"] == "fern-voice@1"
