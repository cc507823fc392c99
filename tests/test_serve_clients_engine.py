"""Other people's clients, unchanged, in front of the real engine: what only a model's answers can show."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.clients_gateway import EMBEDDING
from tests.test_serve_clients import MESSAGES, WEATHER, Mood, run_examples
from tests.test_serve_clients_npm import run_node

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def url(gateway_url: str) -> str:
    return f"{gateway_url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def base(services: dict[str, Any]) -> str:
    return str(services["base_model"])


def test_openai_gets_choices_logprobs_and_the_same_again_by_a_seed(client: openai.OpenAI, base: str) -> None:
    def ask(**more: Any) -> Any:
        return client.chat.completions.create(model=base, messages=MESSAGES, max_tokens=8, **more)

    several = ask(n=3, temperature=1, logprobs=True, top_logprobs=2, seed=7)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    for choice in several.choices:
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in choice.logprobs.content)
    assert several.usage.completion_tokens <= 24
    alone = [ask(temperature=0, seed=7).choices[0].message.content for _ in range(2)]
    assert alone[0] == alone[1]
    assert ask(stop=[alone[0].split()[1]], temperature=0).choices[0].finish_reason == "stop"


def test_openai_streams_what_it_gets_whole(client: openai.OpenAI) -> None:
    asked: Any = {"model": "fern", "messages": MESSAGES, "max_tokens": 12, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**asked)
    choices = [choice for chunk in client.chat.completions.create(**asked, stream=True) for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert choices[-1].finish_reason == whole.choices[0].finish_reason


def test_openai_has_forms_kept_and_tools_called(client: openai.OpenAI, base: str) -> None:
    asked: Any = {"model": base, "messages": [{"role": "user", "content": "What a lovely day!"}], "temperature": 0}
    parsed = client.chat.completions.parse(**asked, response_format=Mood, max_tokens=30)
    assert isinstance(parsed.choices[0].message.parsed, Mood)
    city = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bonn", "Rome"]}},
        "required": ["city"],
    }
    strict = {**WEATHER, "strict": True, "parameters": city | {"additionalProperties": False}}
    forced: Any = {"type": "function", "function": {"name": "weather"}}
    tools: Any = [{"type": "function", "function": strict}]
    called = client.chat.completions.create(**asked, tools=tools, tool_choice=forced, max_tokens=200)
    assert called.choices[0].message.tool_calls, called.choices[0]
    call: Any = called.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)["city"] in ("Bonn", "Rome")) == ("weather", True)


def test_openai_completes_texts_and_goes_on_from_a_response(client: openai.OpenAI, base: str) -> None:
    completed = client.completions.create(model=base, prompt="One, two, three,", max_tokens=4, temperature=0)
    assert completed.choices[0].text
    first = client.responses.create(model="fern", input="Hi", max_output_tokens=12)
    events: list[Any] = list(
        client.responses.create(
            model="fern", input="And?", previous_response_id=first.id, max_output_tokens=12, stream=True
        )
    )
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")  # by the tokens that it took
    assert events[-1].response.previous_response_id == first.id
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text != ""


def test_openais_asynchronous_client_streams_several_at_once(url: str) -> None:
    async def one(client: openai.AsyncOpenAI) -> int:
        stream = await client.chat.completions.create(model="reed", messages=MESSAGES, max_tokens=8, stream=True)
        return sum([bool(chunk.choices and chunk.choices[0].delta.content) async for chunk in stream])

    async def several() -> list[int]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:
            return await asyncio.gather(*(one(client) for _ in range(6)))

    assert all(pieces > 0 for pieces in asyncio.run(several()))


def test_langchain_streams_parses_and_embeds(url: str, base: str) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    model: Any = ChatOpenAI(base_url=url, api_key="any", model=base, temperature=0, max_tokens=30)  # type: ignore[arg-type, call-arg]
    assert sum(bool(chunk.content) for chunk in model.stream("Hi")) > 1
    assert isinstance(model.with_structured_output(Mood).invoke("What a lovely day!"), Mood)
    embeddings: Any = OpenAIEmbeddings(base_url=url, api_key="any", model=EMBEDDING, check_embedding_ctx_length=False)
    one, two, far = embeddings.embed_documents(["My basil is sad", "The basil looks unhappy", "Invoices in PDF"])
    near, other = (sum(a * b for a, b in zip(one, vector, strict=True)) for vector in (two, far))
    assert near > other


def test_haystack_streams_and_embeds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    from haystack.components.embedders import OpenAITextEmbedder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage

    pieces: list[str] = []
    generator = OpenAIChatGenerator(model="fern", api_base_url=url, generation_kwargs={"max_tokens": 12})
    found = generator.run(
        [ChatMessage.from_user("Hi")], streaming_callback=lambda chunk: pieces.append(chunk.content)
    )["replies"][0]  # fmt: skip
    assert found.text == "".join(pieces) != ""
    assert len(OpenAITextEmbedder(model=EMBEDDING, api_base_url=url).run("sad basil")["embedding"]) == 384


def test_openais_client_for_node_does_the_same(url: str) -> None:
    seen = run_node(url, "fern")
    assert seen["text"] and seen["streamed"] and seen["version"] == "fern-voice@1"
    assert (seen["dimensions"], seen["error"]) == ([384, 384], ["NotFoundError", 404, "model_not_found"])
    assert seen["responses"][0] and seen["responses"][1]


def test_the_curl_examples_of_the_readme_run_in_front_of_the_real_engine(url: str) -> None:
    said = "\n".join(run_examples(url))
    assert '"error"' not in said
    assert "data: [DONE]" in said and '"stored":true' in said
