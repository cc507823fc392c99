"""Soft prompts in front of a fake engine and of a real one: what the engine sees, and that the words are PEFT's."""

import base64
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from adapters.registry import CARD, AdapterCard, CanaryPlan, Registry, file_hashes
from data.home import Home, write_json
from serve.soft_prompt import FIRST, PART, ROLE, encoded, takes_vectors
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]
TEMPLATES = {"default": "{{ messages[0].content }}", "tool_use": "{{ tools }}"}


def add_soft_prompt(home: Home, adapter: str, first: float, rows: int = 3) -> AdapterCard:
    """A version of `rows` vectors that all hold the number `first`; the fake engine says that number."""
    import torch
    from safetensors.torch import save_file

    with Registry(home).new_version(adapter) as (version, folder):
        save_file({"prompt_embeddings": torch.full((rows, 4), first)}, folder / "adapter_model.safetensors")
        card = AdapterCard(
            adapter=adapter, version=version, base_model="base", base_sha256="sha", dataset="d", dataset_digest="0",
            recipe="sft", method="prompt-tuning", rank=0, served="soft-prompt", config={}, system_prompt="Trained so.",
            parent=None, scores={}, minutes=1, created="2026-11-21", files=file_hashes(folder),
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def vectors_of(body: dict[str, Any]) -> Any:
    """The vectors in a request as vLLM reads them, or none."""
    import torch

    first = body["messages"][0]
    if first["role"] != ROLE:
        return None
    assert [part["type"] for part in first["content"]] == [PART]
    data = base64.b64decode(first["content"][0]["data"], validate=True)
    return torch.load(io.BytesIO(data), weights_only=True)


class SoftEngine(FakeEngine):
    """Says the first number of the vectors that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.refused_number: float | None = None  # vectors that it cannot take

    async def _chat(self, body: dict[str, Any]) -> httpx.Response:
        vectors = vectors_of(body)
        if vectors is not None and float(vectors[0, 0]) == self.refused_number:
            return httpx.Response(400, json={"error": {"message": "hidden_size 4 does not match the model's"}})
        return await super()._chat(body)

    def _events(self, model: str, body: dict[str, Any], starts: int, word: str) -> AsyncIterator[bytes]:
        vectors = vectors_of(body)
        return super()._events(model, body, starts, word if vectors is None else f"soft{float(vectors[0, 0]):.0f}")


class Setup(FakeGateway):
    """A gateway, its engine and its home, with a client outside of its event loop."""

    client: TestClient

    def chat(self, model: str, **more: Any) -> Any:
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": QUESTION, **more})

    def said(self, model: str, **more: Any) -> str:
        return str(self.chat(model, **more).json()["choices"][0]["message"]["content"])


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_soft_prompt(home, "pirate", 7)
    add_assistant(home, "jack", "adapter: pirate\nsystem_prompt: Be Jack.\nsampling: {max_tokens: 9}")
    setup = Setup(home, SoftEngine(), templates=TEMPLATES, max_wait_s=5)
    with TestClient(setup.app, raise_server_exceptions=False) as client:
        setup.client = client
        yield setup


def test_a_soft_prompt_goes_before_all_messages_to_the_base_model(setup: Setup) -> None:
    reply = setup.chat("jack", temperature=0.5, logprobs=True)
    assert reply.json()["choices"][0]["message"]["content"] == "soft7 soft7"
    assert (reply.json()["model"], reply.headers["x-brogue-version"]) == ("jack", "pirate@1")
    sent = setup.engine.bodies[-1]
    assert vectors_of(sent).shape == (3, 4)
    assert sent["messages"][1:] == [{"role": "system", "content": "Be Jack."}, *QUESTION]
    assert (sent["model"], sent["temperature"], sent["logprobs"], sent["max_tokens"]) == ("base", 0.5, True, 9)
    assert setup.engine.loads == 0, "there is nothing to load"


def test_the_base_and_other_versions_see_nothing_of_it(setup: Setup) -> None:
    add_version(setup.home, "reed")
    assert [setup.said(model) for model in ("pirate", "base", "reed")] == ["soft7 soft7", "base base", "reed@1 reed@1"]
    assert [ROLE in json.dumps(body) for body in setup.engine.bodies] == [True, False, False]
    assert ["chat_template" in body for body in setup.engine.bodies] == [True, False, False]


def test_it_streams_and_is_recorded_rated_and_counted_like_all_versions(setup: Setup) -> None:
    reply = setup.chat("jack", stream=True, stream_options={"include_usage": True})
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if "{" in line]
    assert "".join(e["choices"][0]["delta"]["content"] for e in events if e["choices"]) == "soft7soft7"
    assert ({e["model"] for e in events}, events[-1]["usage"]["prompt_tokens"]) == ({"jack"}, 7)
    response_id = reply.headers["x-brogue-response-id"]
    rated = setup.client.post("/v1/feedback/ratings", json={"response_id": response_id, "rating": 1}).json()
    assert (rated["version"], rated["stored"]) == ("pirate@1", True)
    kept = setup.recorder.settled().response(response_id)
    assert [message["role"] for message in kept.messages] == ["user"], "the vectors are not a message"
    assert 'assistant="jack",key="",status="200",version="pirate@1"' in setup.client.get("/metrics").text


def test_with_tools_the_models_own_template_for_tools_is_taken(setup: Setup) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    setup.chat("pirate", tools=tools)
    setup.chat("pirate")
    assert [b["chat_template"] for b in setup.engine.bodies] == [FIRST + TEMPLATES[n] for n in ("tool_use", "default")]


def test_the_next_soft_prompt_is_promoted_while_people_chat_and_one_that_fails_is_not(setup: Setup) -> None:
    add_soft_prompt(setup.home, "pirate", 8)
    add_soft_prompt(setup.home, "pirate", 9)
    setup.engine.refused_number = 9  # type: ignore[attr-defined]
    url = "/v1/adapters/pirate/aliases/stable"
    key = {"Authorization": "Bearer the admin key"}
    assert setup.client.put(url, json={"version": 2}, headers=key).status_code == 200
    refused = setup.client.put(url, json={"version": 3}, headers=key)
    assert refused.status_code == 409
    assert "pirate@3 could not answer a first question: hidden_size 4" in refused.json()["error"]["message"]
    assert setup.said("jack") == "soft8 soft8"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"chat_template": "{{ messages }}"}, "leave 'chat_template' out"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "leave 'chat_template' out"),
        ({"messages": [{"role": "user", "content": [{"type": PART, "data": "x"}]}]}, "send text"),
        ({"messages": [{"role": "user", "content": [{PART: "x", "uuid": "1"}]}]}, "send text"),
    ],
)
@pytest.mark.parametrize("model", ["jack", "base"])
def test_vectors_and_templates_of_clients_are_refused(setup: Setup, model: str, more: Any, words: str) -> None:
    reply = setup.chat(model, **more)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert setup.engine.bodies == []


@pytest.mark.parametrize("more", [{"prompt_logprobs": 0}, {"echo": True}, {"truncate_prompt_tokens": 5}])
def test_what_the_engine_cannot_do_with_vectors_is_one_400_and_goes_on_working_elsewhere(
    setup: Setup, more: dict[str, Any]
) -> None:
    reply = setup.chat("jack", **more)
    (field,) = more
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert "a soft prompt cannot answer with" in reply.json()["error"]["message"]
    assert setup.chat("jack", echo=False, prompt_logprobs=None).status_code == 200
    assert setup.chat("base", **more).status_code == 200


def test_it_continues_no_raw_prompt(setup: Setup) -> None:
    for stream in (False, True):
        asked = {"model": "pirate", "prompt": "Once", "stream": stream}
        reply = setup.client.post("/v1/completions", json=asked)
        assert reply.status_code == 400
        assert "a soft prompt answers chats only; ask it by /v1/chat/completions" in reply.json()["error"]["message"]


def test_an_engine_that_was_started_without_vectors_says_how_to_start_it_anew(home: Home) -> None:
    add_soft_prompt(home, "pirate", 7)
    with TestClient(FakeGateway(home, max_wait_s=1).app) as client:
        reply = client.post("/v1/chat/completions", json={"model": "pirate", "messages": QUESTION})
    assert reply.status_code == 503
    assert "pirate@1 is a soft prompt" in reply.json()["error"]["message"]
    assert "brogue down, then brogue up" in reply.json()["error"]["message"]


def test_the_shadow_of_a_soft_prompt_answers_with_its_vectors(home: Home) -> None:
    add_version(home, "pirate")
    add_soft_prompt(home, "pirate", 8)
    add_assistant(home, "jack", "adapter: pirate\nsystem_prompt: Be Jack.")
    Registry(home).move("pirate", "canary", 2, canary=CanaryPlan(shadow=True))
    setup = Setup(home, SoftEngine(), templates=TEMPLATES, max_wait_s=5)
    with TestClient(setup.app) as setup.client:
        assert setup.said("jack") == "pirate@1 pirate@1"
        pairs = home.logs / "shadow.jsonl"
        deadline = time.monotonic() + 20
        while not pairs.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert json.loads(pairs.read_text())["canary"] == {"version": 2, "text": "soft8 soft8"}


def test_an_engine_takes_vectors_on_a_cpu_and_elsewhere_where_there_is_a_soft_prompt(home: Home) -> None:
    add_version(home, "reed")
    assert (takes_vectors("cpu", Registry(home)), takes_vectors("gpu", Registry(home))) == (True, False)
    add_soft_prompt(home, "pirate", 7)
    assert takes_vectors("gpu", Registry(home))


def test_the_vectors_are_what_peft_saved(home: Home) -> None:
    import torch

    card = add_soft_prompt(home, "pirate", 0.1)
    data = encoded(Registry(home).folder("pirate", 1) / "adapter_model.safetensors")
    read = torch.load(io.BytesIO(base64.b64decode(data)), weights_only=True)
    assert card.served == "soft-prompt"
    assert torch.equal(read, torch.full((3, 4), 0.1))


CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "\n{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}"
    "<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
PARTS = (  # content as a list of parts, a macro, messages renamed
    "{% macro text(content) %}{% for part in content %}{{ part.text }}{% endfor %}{% endmacro %}"
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{{ messages | length }} {% for m in turns %}[{{ m.role }}]{{ text(m.content) }}{% endfor %}"
)


@pytest.mark.parametrize("template", [CHATML, GEMMA, PARTS])
def test_the_prompt_is_the_models_own_with_the_vectors_before_it(template: str) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    def shown(text: str) -> Any:
        return [{"type": "text", "text": text}] if template == PARTS else text

    def rendered(source: str, messages: list[dict[str, Any]]) -> str:
        given = {"messages": messages, "bos_token": "<s>", "add_generation_prompt": True}
        return str(_compile_jinja_template(source).render(**given))

    messages = [{"role": "user", "content": shown("Hi ")}, {"role": "assistant", "content": shown("Ho")}]
    vectors = {"role": ROLE, "content": shown("<prompt_embeds>")}
    assert rendered(FIRST + template, [vectors, *messages]) == "<prompt_embeds>" + rendered(template, messages)
