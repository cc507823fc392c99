"""Chat completions and completions at the gateway: what is added, what passes, what never reaches the engine."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters.registry import CanaryPlan, Registry
from data.home import Home
from tests.conformance import DIFFERENCES, EVENT_DIFFERENCES
from tests.conftest import ROOT
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]
DONE = b"data: [DONE]\n\n"


class Setup(FakeGateway):
    """A gateway with a client outside of its event loop."""

    client: TestClient

    def chat(self, model: str = "base", **more: Any) -> Any:
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": QUESTION, **more})

    def complete(self, model: str = "base", prompt: Any = "Once", **more: Any) -> Any:
        return self.client.post("/v1/completions", json={"model": model, "prompt": prompt, **more})

    def kept(self, reply: Any) -> Any:
        return self.recorder.settled().response(reply.headers["x-brogue-response-id"])


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.")
    add_assistant(home, "bare", "adapter: reed-voice\nsampling: {max_tokens: 9}")
    setup = Setup(home, max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as client:
        setup.client = client
        yield setup


def error(reply: Any) -> tuple[int, str | None, str]:
    said = reply.json()["error"]
    assert set(said) == {"message", "type", "param", "code"}
    return reply.status_code, said["param"], said["message"]


# --- completions ---


@pytest.mark.parametrize(("model", "said"), [("base", "base 0"), ("reed-voice@1", "reed-voice@1 0")])
def test_a_text_is_continued_by_the_base_or_a_version_with_nothing_before_it(
    setup: Setup, model: str, said: str
) -> None:
    reply = setup.complete(model, temperature=0)
    assert (reply.json()["choices"][0]["text"], reply.json()["model"]) == (said, model)
    sent = setup.engine.bodies[-1]
    assert (sent["prompt"], "messages" in sent, sent["temperature"]) == ("Once", False, 0)


def test_an_assistant_that_is_a_voice_continues_a_text_with_its_sampling(setup: Setup) -> None:
    assert setup.complete("bare").json()["choices"][0]["text"] == "reed-voice@1 0"
    assert setup.engine.bodies[-1]["max_tokens"] == 9
    assert setup.complete("bare", max_tokens=3).json()["model"] == "bare"
    assert setup.engine.bodies[-1]["max_tokens"] == 3


def test_an_assistant_that_is_more_says_where_to_ask_it(setup: Setup) -> None:
    status, param, message = error(setup.complete("reed"))
    assert (status, param) == (400, "model")
    assert "'reed' has a system prompt" in message
    assert "/v1/chat/completions, or have 'reed-voice' continue" in message
    assert setup.engine.bodies == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "base"}, 400, "wanted 'prompt'"),
        ({"model": "none", "prompt": "x"}, 404, "no model 'none'"),
        ({"model": "base", "prompt": "x", "prompt_embeds": "AAAA"}, 400, "'prompt_embeds' is not taken"),
        ({"model": "base", "prompt": "x", "stream": "yes"}, 400, "wanted true or false"),
    ],
)
def test_what_cannot_be_continued_is_refused_in_one_line(setup: Setup, body: Any, status: int, words: str) -> None:
    found, _, message = error(setup.client.post("/v1/completions", json=body))
    assert (found, words in message) == (status, True), message
    assert setup.engine.bodies == []


def test_a_continued_text_is_kept_with_its_prompt_and_counted(setup: Setup) -> None:
    kept = setup.kept(setup.complete("bare", prompt=["Once", "Twice"], n=2, user="ann"))
    assert (kept.messages, kept.text) == (({"role": "user", "content": "Once"},), "reed-voice@1 0")
    assert (kept.completion_tokens, kept.subject) == (8, "ann")
    assert setup.kept(setup.complete(prompt=[1, 2, 3])).messages == (), "token ids are no text"
    streamed = setup.complete("bare", stream=True)
    assert setup.kept(streamed).text == "reed-voice@1reed-voice@1"


@pytest.mark.parametrize("model", ["bare", "base"])
def test_a_streamed_text_ends_with_done_under_the_asked_name(setup: Setup, model: str) -> None:
    lines = [line for line in setup.complete(model, stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert {json.loads(line[6:])["model"] for line in lines[:-1]} == {model}


def test_a_continued_text_is_no_shadows_business(home: Home) -> None:
    for _ in range(2):
        add_version(home, "reed-voice")
    add_assistant(home, "bare", "adapter: reed-voice")
    Registry(home).move("reed-voice", "canary", 2, canary=CanaryPlan(share=0, shadow=True))
    setup = Setup(home)
    with TestClient(setup.app) as setup.client:
        assert setup.complete("bare").status_code == 200
        assert setup.trials.tally("reed-voice", 2).answers == 0


def test_of_best_of_texts_the_likeliest_are_given(setup: Setup) -> None:
    reply = setup.complete(prompt=["a", "b"], best_of=3, n=2)
    choices = reply.json()["choices"]
    assert [(c["index"], c["text"]) for c in choices] == [(0, "base 2"), (1, "base 1"), (2, "base 5"), (3, "base 4")]
    assert {c["logprobs"] for c in choices} == {None}, "nobody asked for them"
    sent = setup.engine.bodies[-1]
    assert (sent["n"], sent["logprobs"]) == (3, 0)
    assert setup.complete(best_of=2, logprobs=1).json()["choices"][0]["logprobs"]["token_logprobs"] == [None, -8]
    assert setup.complete(best_of=1).status_code == 200
    for more in ({"best_of": 1, "n": 2}, {"best_of": "x"}, {"best_of": 21}, {"best_of": 2, "stream": True}):
        assert error(setup.complete(**more))[:2] == (400, "best_of")


# --- what passes ---


def chunk(model: str = "{model}", **more: Any) -> bytes:
    content = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model} | more
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


STREAM = [
    chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
    chunk(choices=[{"index": 0, "delta": {"content": 'a "model":"base" 😀'}}]),
    chunk(choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]),
    chunk(choices=[], usage={"prompt_tokens": 4, "completion_tokens": 2}, system_fingerprint="f"),
    DONE,
]


def test_a_stream_of_the_base_model_is_the_engines_bytes_and_a_versions_are_but_for_the_name(setup: Setup) -> None:
    setup.engine.stream = STREAM
    wanted = b"".join(STREAM)
    for model in ("base", "reed-voice@1", "bare"):
        reply = setup.chat(model, stream=True, stream_options={"include_usage": True})
        assert reply.content == wanted.replace(b"{model}", model.encode())
        assert reply.headers["content-type"].startswith("text/event-stream")
    end = chunk(
        "base", choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], system_fingerprint="f"
    )
    bare = b"".join(STREAM[:2]).replace(b"{model}", b"base") + end + DONE
    assert setup.chat(stream=True).content == bare
    assert setup.kept(setup.chat(stream=True)).text == 'a "model":"base" 😀'


def test_the_base_models_request_is_the_clients_but_for_the_name(setup: Setup) -> None:
    asked = {
        "n": 2, "logprobs": True, "top_logprobs": 3, "seed": 7, "stop": ["\n"], "user": "u", "max_completion_tokens": 5,
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required", "top_k": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, "min_p": 0.1,
        "messages": [{"role": "system", "content": " Be brief. "}, *QUESTION], "stream": False,
    }  # fmt: skip
    setup.chat(**asked)
    assert setup.engine.bodies[-1] == asked | {"model": "base"}


def test_a_system_message_that_is_no_plain_one_is_made_one(setup: Setup) -> None:
    setup.chat(
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "system", "content": "Now."}, *QUESTION]
    )
    assert setup.engine.bodies[-1]["messages"] == [{"role": "system", "content": "Be brief.\n\nNow."}, *QUESTION]


def test_a_call_of_a_tool_has_no_text_and_is_kept_all_the_same(setup: Setup) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    setup.engine.message = {"role": "assistant", "content": None, "tool_calls": [call]}
    reply = setup.chat()
    assert reply.json()["choices"][0]["message"]["tool_calls"] == [call]
    assert setup.kept(reply).text == ""
    setup.engine.message = {}
    assert setup.chat().status_code == 200


def test_store_false_keeps_no_words_but_the_answer_can_be_rated(setup: Setup) -> None:
    for kept in (setup.kept(setup.chat(store=False)), setup.kept(setup.chat(store=False, stream=True))):
        assert (kept.messages, kept.text, kept.logging, kept.version) == ((), "", "off", "base")
    assert setup.kept(setup.chat(store=True)).text == "base base"


# --- errors ---


@pytest.mark.parametrize(
    ("status", "said", "code", "words"),
    [
        (400, "This model's maximum context length is 64 tokens.", "context_length_exceeded", "maximum context length"),
        (400, "n must be at least 1, got 0.", None, "n must be at least 1"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
         "no_tool_parser", "set engine.tool_call_parser in"),
        (500, "died in /home/me/lib/engine.py", None, "incident"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses_reaches_the_client_in_openais_shape(
    setup: Setup, status: int, said: str, code: str | None, words: str, stream: bool
) -> None:
    setup.engine.error = (status, said)
    reply = setup.chat("bare", stream=stream)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert words in error(reply)[2]
    assert "/home" not in reply.text
    assert reply.headers["x-brogue-response-id"]


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
DATA = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    "part",
    [IMAGE, DATA, {"image_url": {"url": "http://x"}}, {"type": "input_audio", "input_audio": {"data": ""}},
     {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, {"type": ["odd"]}, {}],
)  # fmt: skip
def test_pictures_and_sounds_are_refused_before_the_engine_when_the_model_reads_text_only(
    setup: Setup, part: Any
) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]
    for model in ("base", "reed"):
        reply = setup.chat(model, messages=[{"role": "user", "content": content}])
        if part == {}:  # the engine's to refuse
            continue
        status, param, message = error(reply)
        assert (status, param, "the base model reads text only" in message) == (400, "messages", True)
        assert "\n" not in message
        assert setup.engine.bodies == []


def test_a_model_with_eyes_gets_pictures_but_the_engine_fetches_nothing(home: Home) -> None:
    setup = FakeGateway(home, has_eyes=True)
    with TestClient(setup.app) as client:
        for part, status in ((DATA, 200), (IMAGE, 400), ({"type": "image_url", "image_url": "file:///etc"}, 400)):
            asked = {"model": "base", "messages": [{"role": "user", "content": [part]}]}
            reply = client.post("/v1/chat/completions", json=asked)
            assert reply.status_code == status
        assert "send it as a data: URL" in reply.json()["error"]["message"]
    assert len(setup.engine.bodies) == 1


# --- clients that go ---


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_when_the_client_goes_the_engine_stops(home: Home, path: str, stream: bool) -> None:
    """With a request that is read like a server's: after the body, its end is that the client has gone."""

    async def ask() -> None:
        setup = FakeGateway(home, FakeEngine(words=10_000, pause_s=0.01))
        body = {"model": "base", "messages": QUESTION, "input": "Hi", "stream": stream}
        went, sent = asyncio.Event(), asyncio.Event()
        incoming = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await went.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                sent.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST", "path": path,
            "headers": [(b"content-type", b"application/json")], "query_string": b"", "http_version": "1.1",
        }  # fmt: skip
        async with setup.running():
            asked = asyncio.create_task(setup.app(scope, receive, send))  # type: ignore[arg-type]
            await (sent.wait() if stream else asyncio.sleep(0.3))
            assert setup.engine.given_up == 0
            went.set()
            await asyncio.wait_for(asked, 10)
            assert setup.engine.given_up == 1
            assert 'status="499"' in setup.pool.metrics.render()[0].decode()

    asyncio.run(ask())


def test_the_documentation_lists_every_difference() -> None:
    text = " ".join((ROOT / "docs" / "openai-api.md").read_text(encoding="utf-8").split())
    for case in (*DIFFERENCES.values(), EVENT_DIFFERENCES):
        for path, why in case.items():
            field = path.lstrip("+-").removeprefix("response.")  # of an event's response it is as of a whole one
            assert f"`{field}`" in text and why in text, (path, why)
