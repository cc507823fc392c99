"""The gateway in front of a fake engine: names, prompts, streams and errors as an OpenAI client meets them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters.registry import Registry
from assistant.prompt import HomeCatalogue
from data.home import Home
from serve.gateway import build_app
from serve.pool import AdapterPool
from tests.fakes import FakeEngine, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]


class Setup:
    """A gateway, its engine and its home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.engine = FakeEngine()
        self.down: str | None = None
        pool = AdapterPool(self.engine.client(), Registry(home), "base", "sha", max_rank=16)
        app = build_app(pool, HomeCatalogue(home, "base", supports_system=True), lambda: self.down)
        self.client = TestClient(app, raise_server_exceptions=False)

    def chat(self, model: str, **more: Any) -> Any:
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": QUESTION, **more})


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(
        home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\nsampling: {temperature: 0.3, max_tokens: 9}"
    )
    yield Setup(home)


def test_models_are_assistants_then_adapters_then_the_base(setup: Setup) -> None:
    entries = setup.client.get("/v1/models").json()["data"]
    assert [e["id"] for e in entries] == ["reed", "reed-voice@stable", "reed-voice@1", "base"]
    assert setup.client.get("/v1/models/reed-voice@1").json()["object"] == "model"


def test_an_assistant_adds_its_prompt_and_sampling_and_answers_under_its_own_name(setup: Setup) -> None:
    reply = setup.chat("reed", temperature=0.9)
    assert reply.json()["model"] == "reed"
    assert reply.json()["choices"][0]["message"]["content"] == "answered by reed"
    sent = setup.engine.bodies[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Be Reed."}
    assert (sent["temperature"], sent["max_tokens"]) == (0.9, 9), "the client's value wins over the assistant's"
    assert sent["model"].startswith("reed-voice@1-")


def test_every_answer_says_which_version_wrote_it_and_what_we_cost(setup: Setup) -> None:
    headers = setup.chat("reed").headers
    assert headers["x-brogue-version"] == "reed-voice@1"
    assert headers["x-brogue-response-id"].startswith("resp-")
    assert float(headers["x-brogue-overhead-ms"]) >= 0
    assert setup.chat("base").headers["x-brogue-version"] == "base"


def test_parameters_that_vllm_understands_pass_through(setup: Setup) -> None:
    setup.chat("base", logprobs=True, structured_outputs={"choice": ["a"]}, unheard_of=[1])
    sent = setup.engine.bodies[-1]
    assert (sent["logprobs"], sent["structured_outputs"], sent["unheard_of"]) == (True, {"choice": ["a"]}, [1])


def test_the_base_model_gets_no_prompt_of_ours(setup: Setup) -> None:
    setup.chat("base")
    assert setup.engine.bodies[-1]["messages"] == QUESTION


def test_an_adapter_by_name_is_asked_with_the_prompt_it_was_trained_with(setup: Setup) -> None:
    setup.chat("reed-voice@1")
    assert setup.engine.bodies[-1]["messages"][0]["content"] == "Trained so."


def test_a_version_is_loaded_once_and_again_after_the_engine_forgot_it(setup: Setup) -> None:
    for _ in range(3):
        assert setup.chat("reed").status_code == 200
    assert setup.engine.loads == 1


def test_moving_stable_is_live_with_the_next_request(setup: Setup) -> None:
    first = setup.chat("reed").headers["x-brogue-version"]
    add_version(setup.home, "reed-voice")
    Registry(setup.home).set_alias("reed-voice", "stable", 2)
    assert (first, setup.chat("reed").headers["x-brogue-version"]) == ("reed-voice@1", "reed-voice@2")


def test_a_stream_ends_with_done_under_the_asked_name(setup: Setup) -> None:
    lines = [line for line in setup.chat("reed", stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert {json.loads(line.removeprefix("data: "))["model"] for line in lines[:-1]} == {"reed"}


def test_a_stream_that_breaks_ends_in_an_error_event(setup: Setup) -> None:
    setup.engine.break_after = 2
    lines = [line for line in setup.chat("base", stream=True).text.split("\n\n") if line]
    assert len(lines) == 3
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert error["code"] == "engine_unavailable"
    assert error["type"] == "server_error"


def test_an_engine_that_is_down_is_a_503_with_the_reason(setup: Setup) -> None:
    setup.down = "starting: loading the weights"
    reply = setup.client.get("/ready")
    assert reply.status_code == 503
    assert "loading the weights" in reply.json()["error"]["message"]
    assert setup.client.get("/health").status_code == 200


def test_an_unknown_model_is_a_404_in_openai_shape_that_lists_the_models(setup: Setup) -> None:
    reply = setup.chat("no-such-model")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "have: reed, reed-voice@stable" in error["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "wanted 'model'"),
        (b'{"model": 3}', "wanted 'model'"),
        (b'{"model": "base"}', "wanted 'messages'"),
        (b'{"model": "base", "messages": []}', "wanted 'messages'"),
        (b'{"model": "base", "messages": ["hi"]}', "wanted 'messages'"),
    ],
)
def test_a_body_that_is_no_request_is_a_400_in_openai_shape(setup: Setup, body: bytes, words: str) -> None:
    reply = setup.client.post("/v1/chat/completions", content=body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_path_is_a_404_in_openai_shape(setup: Setup) -> None:
    reply = setup.client.get("/v1/nothing")
    assert (reply.status_code, set(reply.json())) == (404, {"error"})


@pytest.mark.parametrize(
    ("change", "words"),
    [({"base": "other"}, "was trained on base model"), ({"rank": 64}, "has rank 64, above engine.max_lora_rank = 16")],
)
def test_an_adapter_the_engine_could_not_serve_is_refused_before_it_sees_it(
    setup: Setup, change: dict[str, Any], words: str
) -> None:
    add_version(setup.home, "foreign", **change)
    reply = setup.chat("foreign")
    assert reply.status_code == 503
    assert words in reply.json()["error"]["message"]
    assert setup.engine.loads == 0


def test_an_assistant_whose_file_is_broken_says_what_is_wrong_with_it(setup: Setup) -> None:
    add_assistant(setup.home, "broken", "temperature: 1")
    reply = setup.chat("broken")
    assert "unknown key 'temperature'" in reply.json()["error"]["message"]
    names = [entry["id"] for entry in setup.client.get("/v1/models").json()["data"]]
    assert "reed" in names
    assert "broken" not in names, "the others are listed all the same"


def test_a_bug_is_a_500_in_openai_shape_with_an_incident_number(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_self: object, _body: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(HomeCatalogue, "prepare", explode)
    reply = setup.chat("reed")
    assert reply.status_code == 500
    assert "incident" in reply.json()["error"]["message"]
