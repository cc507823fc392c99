"""The gateway in front of a fake engine: names, prompts, streams and errors as an OpenAI client meets them."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.prompt import HomeCatalogue
from data.home import Home
from tests.fakes import FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]


class Setup(FakeGateway):
    """A gateway, its engine and its home, with a client outside of its event loop."""

    client: TestClient

    def chat(self, model: str, **more: Any) -> Any:
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": QUESTION, **more})

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(
        home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\nsampling: {temperature: 0.3, max_tokens: 9}"
    )
    setup = Setup(home, max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as client:
        setup.client = client
        yield setup


def test_models_are_assistants_then_adapters_then_the_base(setup: Setup) -> None:
    entries = setup.client.get("/v1/models").json()["data"]
    assert [e["id"] for e in entries] == ["reed", "reed-voice@stable", "reed-voice@1", "base"]
    assert setup.client.get("/v1/models/reed-voice@1").json()["object"] == "model"


def test_an_assistant_adds_its_prompt_and_sampling_and_answers_under_its_own_name(setup: Setup) -> None:
    reply = setup.chat("reed", temperature=0.9)
    assert reply.json()["model"] == "reed"
    assert reply.json()["choices"][0]["message"]["content"] == "reed-voice@1 reed-voice@1"
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


def test_a_version_is_loaded_once(setup: Setup) -> None:
    for _ in range(3):
        assert setup.chat("reed").status_code == 200
    assert setup.engine.loads == 1


def test_a_version_that_the_engine_has_lost_is_loaded_anew_by_the_request_that_meets_it(setup: Setup) -> None:
    setup.chat("reed")
    setup.engine.loaded.clear()
    assert setup.chat("reed").json()["choices"][0]["message"]["content"] == "reed-voice@1 reed-voice@1"
    assert setup.engine.loads == 2


def test_a_stream_ends_with_done_under_the_asked_name(setup: Setup) -> None:
    lines = [line for line in setup.chat("reed", stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert {json.loads(line.removeprefix("data: "))["model"] for line in lines[:-1]} == {"reed"}


@pytest.mark.parametrize("how", ["break_after", "end_after"])
def test_a_stream_that_breaks_or_just_ends_is_closed_by_an_error_event(setup: Setup, how: str) -> None:
    setattr(setup.engine, how, 1)
    lines = [line for line in setup.chat("base", stream=True).text.split("\n\n") if line]
    assert len(lines) == 2
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert error["code"] == "engine_unavailable"
    assert error["type"] == "server_error"


def test_token_counts_of_a_stream_are_passed_on_only_to_who_asked_for_them(setup: Setup) -> None:
    assert '"usage"' not in setup.chat("reed", stream=True).text
    assert '"usage"' in setup.chat("reed", stream=True, stream_options={"include_usage": True}).text
    assert setup.engine.bodies[-2]["stream_options"] == {"include_usage": True}, "we count them in any case"


def test_an_engine_that_is_down_is_a_503_with_the_reason_once_the_wait_is_over(setup: Setup) -> None:
    setup.engine.kill()
    ready, chat = setup.client.get("/ready"), setup.chat("reed")
    for reply in (ready, chat):
        assert reply.status_code == 503
        assert "starting: it was killed" in reply.json()["error"]["message"]
        assert int(reply.headers["retry-after"]) > 0
    assert setup.client.get("/health").status_code == 200


def test_an_engine_that_is_given_up_is_a_503_at_once(setup: Setup) -> None:
    setup.pool.limits = replace(setup.pool.limits, max_wait_s=60)
    setup.engine.state = "dead"
    began = time.monotonic()
    reply = setup.chat("reed")
    assert (reply.status_code, time.monotonic() - began < 10) == (503, True)
    assert "retry-after" not in reply.headers


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
        (b'{"model": "base", "messages": [{"role": "user", "content": "\\uD83C"}]}', "half of a surrogate pair"),
        (b'{"model": "base", "messages": [{"x": ' + b"[" * 300 + b"]" * 300 + b"}]}", "nested more than 64 deep"),
        (b'{"model": "base", "messages": [{"role": "user", "content": "Hi"}], "seed": NaN}', "not valid JSON"),
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


def test_an_adapter_the_engine_could_not_serve_is_refused_before_it_sees_it(setup: Setup) -> None:
    setup.chat("reed")
    setup.unfit["foreign@1"] = "foreign@1 was trained on another base model"
    add_version(setup.home, "foreign")
    reply = setup.chat("foreign")
    assert reply.status_code == 503
    assert reply.json()["error"]["message"] == "foreign@1 was trained on another base model"
    assert setup.engine.loads == 1, "only reed's"
    assert setup.client.get("/ready").json()["refused"] == {"foreign@1": "foreign@1 was trained on another base model"}


def test_a_new_adapter_on_disk_answers_with_the_next_request(setup: Setup) -> None:
    add_version(setup.home, "fresh")
    assert setup.chat("fresh").headers["x-brogue-version"] == "fresh@1"


def test_an_edited_assistant_is_live_with_the_next_request(setup: Setup) -> None:
    setup.chat("reed")
    add_assistant(setup.home, "reed", "adapter: reed-voice\nsystem_prompt: Be somebody else.")
    setup.chat("reed")
    assert setup.engine.bodies[-1]["messages"][0]["content"] == "Be somebody else."


def test_metrics_count_answers_and_tokens_by_name_and_version(setup: Setup) -> None:
    for stream in (False, True):
        setup.chat("reed", stream=stream)
    text = setup.client.get("/metrics").text
    assert 'brogue_requests_total{assistant="reed",key="",status="200",version="reed-voice@1"} 2.0' in text
    assert 'brogue_completion_tokens_total{assistant="reed",key="",version="reed-voice@1"} 4.0' in text
    assert "brogue_slots 4.0" in text


def test_an_answer_is_rated_by_its_id_for_the_version_that_wrote_it(setup: Setup) -> None:
    response_id = setup.chat("reed", stream=True).headers["x-brogue-response-id"]
    reply = setup.client.post("/v1/feedback/ratings", json={"response_id": response_id, "rating": -1})
    assert (reply.json()["version"], reply.json()["stored"]) == ("reed-voice@1", True)
    assert setup.trials.tally("reed-voice", 1).down == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"response_id": "resp-none", "rating": 1}, 404, "no answer 'resp-none'"),
        ({"response_id": "resp-none", "rating": 5}, 400, "rating: "),
        ({"rating": 1}, 400, "response_id: "),
    ],
)
def test_a_rating_that_cannot_be_counted_says_why(setup: Setup, body: Any, status: int, words: str) -> None:
    reply = setup.client.post("/v1/feedback/ratings", json=body)
    assert (reply.status_code, words in reply.json()["error"]["message"]) == (status, True)


def test_an_assistant_whose_file_is_broken_says_what_is_wrong_with_it(setup: Setup) -> None:
    add_assistant(setup.home, "broken", "temperature: 1")
    reply = setup.chat("broken")
    assert "unknown key 'temperature'" in reply.json()["error"]["message"]
    names = [entry["id"] for entry in setup.client.get("/v1/models").json()["data"]]
    assert "reed" in names
    assert "broken" not in names, "the others are listed all the same"


def test_a_method_that_is_not_there_is_a_405_that_names_those_that_are(setup: Setup) -> None:
    reply = setup.client.put("/v1/models")
    assert (reply.status_code, reply.headers["allow"], set(reply.json())) == (405, "GET", {"error"})


def test_a_slash_too_many_is_a_404_and_no_redirect_to_the_host_that_the_client_names(setup: Setup) -> None:
    reply = setup.client.get("/v1/models/../adapters/", headers={"host": "elsewhere"}, follow_redirects=False)
    assert (reply.status_code, reply.headers.get("location")) == (404, None)


def test_a_bug_is_a_500_in_openai_shape_with_an_incident_number(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_self: object, _body: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(HomeCatalogue, "prepare", explode)
    reply = setup.chat("reed")
    assert reply.status_code == 500
    assert "incident" in reply.json()["error"]["message"]
