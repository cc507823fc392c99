"""`/v1/responses`: what it makes of items, how it answers and streams, what it keeps and for whom."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from sqlalchemy import create_engine
from starlette.testclient import TestClient

from data.home import Home, write_text
from data.store_home import open_store
from data.store_open import sqlite_url
from data.store_users import Users
from serve.exchange import Prepared
from serve.responses_asked import as_chat, input_items, messages_of
from tests.conftest import Run
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version

CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


class Setup(FakeGateway):
    """A gateway with OpenAI's own client, and a plain one for what that would not send."""

    client: TestClient
    sdk: openai.OpenAI

    def create(self, input: Any = "Hi", **more: Any) -> Any:
        return self.sdk.responses.create(**{"model": "base", "input": input, **more})

    def post(self, **body: Any) -> Any:
        return self.client.post("/v1/responses", json={"model": "base", "input": "Hi", **body})

    @property
    def sent(self) -> dict[str, Any]:
        return self.engine.bodies[-1]


def sdk(client: TestClient, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url="http://testserver/v1", api_key=key, http_client=client, max_retries=0)


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.")
    setup = Setup(home, max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as setup.client:
        setup.sdk = sdk(setup.client)
        yield setup


# --- what is asked ---


def test_a_text_with_instructions_is_a_chat_with_the_assistants_prompt(setup: Setup) -> None:
    answer = setup.create(
        "Hi", model="reed", instructions="Be brief.", max_output_tokens=5, top_p=0.5, extra_body={"top_k": 3}
    )
    assert setup.sent["messages"] == [
        {"role": "system", "content": "Be Reed.\n\nBe brief."}, {"role": "user", "content": "Hi"},
    ]  # fmt: skip
    assert (setup.sent["max_completion_tokens"], setup.sent["top_p"], setup.sent["top_k"]) == (5, 0.5, 3)
    assert (answer.output_text, answer.model, answer.status) == ("reed-voice@1 reed-voice@1", "reed", "completed")
    assert (answer.instructions, answer.max_output_tokens) == ("Be brief.", 5)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 2, 9)
    assert answer.id.startswith("resp_")


def test_items_become_messages_with_their_calls_and_results() -> None:
    items = input_items({"input": [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Rome?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "call-1", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call_output", "call_id": "call-1", "output": "sunny"},
    ]})  # fmt: skip
    assert all(item["id"] for item in items)
    assert messages_of(items) == [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
    ]


def test_fields_take_the_chats_names() -> None:
    schema = {"name": "a", "schema": {"type": "object"}, "strict": True}
    form = {"type": "json_schema", **schema}
    chat = as_chat(
        {
            "model": "m", "input": "x", "text": {"format": form}, "tools": [TOOL], "reasoning": {"effort": "low"},
            "tool_choice": {"type": "function", "name": "weather"}, "include": ["message.output_text.logprobs"],
            "top_logprobs": 2, "truncation": "auto", "stream": True, "user": "ann", "service_tier": "auto",
        },
        input_items({"input": "x"}),
    )  # fmt: skip
    function = {key: TOOL[key] for key in ("name", "parameters", "strict")}
    assert chat == {
        "model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, "user": "ann",
        "stream_options": {"include_usage": True}, "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}}, "logprobs": True, "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "reasoning_effort": "low", "truncate_prompt_tokens": -1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"), ({"input": []}, "input"), ({"input": [3]}, "input"), ({"input": {}}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": 3}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input"),
        ({"input": [{"type": ["x"]}]}, "input"), ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"instructions": 3}, "instructions"), ({"background": True}, "background"), ({"prompt": {"id": 1}}, "prompt"),
        ({"conversation": "conv_1"}, "conversation"), ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"), ({"text": {"format": 3}}, "text.format"),
        ({"n": 2}, "n"), ({"stream": 1}, "stream"), ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"previous_response_id": 3}, "previous_response_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]}, "messages"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(setup: Setup, more: dict[str, Any], param: str) -> None:
    reply = setup.post(**more)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (404 if param.startswith("previous") else 400, param), error
    assert "\n" not in error["message"]
    assert setup.engine.bodies == []


def test_an_unknown_model_is_a_404_and_the_engines_refusal_comes_through(setup: Setup) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'none'"):
        setup.create(model="none")
    setup.engine.error = (400, "top_p must be in (0, 1], got 3.")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="top_p must be in"):
            setup.create(stream=stream)


# --- what is answered ---


def test_a_call_of_a_function_is_an_item_and_its_result_goes_on(setup: Setup) -> None:
    setup.engine.message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = setup.create("Rome?", tools=[TOOL])
    (call,) = answer.output
    assert (call.type, call.name, call.arguments, call.call_id) == (
        "function_call",
        "weather",
        '{"city":"Rome"}',
        "call-1",
    )
    setup.engine.message = None
    output = [{"type": "function_call_output", "call_id": "call-1", "output": "sunny"}]
    setup.create(output, previous_response_id=answer.id, tools=[TOOL])
    assert setup.sent["messages"] == [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
    ]


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    content = {"id": "c", "model": "{model}", "choices": choices} | more
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


USAGE = chunk(choices=[], usage={"prompt_tokens": 4, "completion_tokens": 2})
DONE = b"data: [DONE]\n\n"


def test_a_stream_has_openais_events_in_openais_order(setup: Setup) -> None:
    events = list(setup.create(stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(10))
    last = events[-1].response
    assert (last.output_text, last.status, last.usage.output_tokens) == ("basebase", "completed", 2)
    assert events[0].response.id == last.id
    assert last == setup.sdk.responses.retrieve(last.id)


def test_the_sdks_own_reader_of_streams_agrees(setup: Setup) -> None:
    with setup.sdk.responses.stream(model="base", input="Hi") as stream:
        events = list(stream)
        assert events[-1].type == "response.completed", events[-1]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert (text, stream.get_final_response().output_text) == ("basebase", "basebase")


def test_thoughts_texts_and_calls_of_a_stream_are_items_one_after_another(setup: Setup) -> None:
    first = {"index": 0, "id": "call-1", "function": {"name": "weather", "arguments": '{"city"'}}
    second = {"index": 0, "function": {"arguments": ':"Rome"}'}}
    other = {"index": 1, "id": "call-2", "function": {"name": "time", "arguments": "{}"}}
    setup.engine.stream = [
        chunk({"role": "assistant", "content": ""}), chunk({"reasoning": "hm"}), chunk({"content": "So"}),
        chunk({"tool_calls": [first]}), chunk({"tool_calls": [second]}), chunk({"tool_calls": [other]}),
        chunk(finish="tool_calls"), USAGE, DONE,
    ]  # fmt: skip
    events = list(setup.create(stream=True))
    output = events[-1].response.output
    assert [item.type for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert (output[2].arguments, output[3].name) == ('{"city":"Rome"}', "time")
    added = [e.output_index for e in events if e.type == "response.output_item.added"]
    assert added == [0, 1, 2, 3] == [e.output_index for e in events if e.type == "response.output_item.done"]


def test_what_a_limit_cut_is_incomplete_and_what_broke_off_has_failed(setup: Setup) -> None:
    setup.engine.stream = [chunk({"content": "So"}), chunk(finish="length"), USAGE, DONE]
    cut = list(setup.create(stream=True))[-1]
    assert (cut.type, cut.response.incomplete_details.reason) == ("response.incomplete", "max_output_tokens")
    setup.engine.stream = [chunk({"content": "So"})]
    broken = list(setup.create(stream=True))[-1]
    assert (broken.type, broken.response.status) == ("response.failed", "failed")
    assert "not available" in broken.response.error.message
    with pytest.raises(openai.NotFoundError):
        setup.sdk.responses.retrieve(broken.response.id)
    setup.engine.stream = [chunk(finish="stop"), USAGE, DONE]
    silent = list(setup.create(stream=True))[-1].response
    assert (silent.status, silent.output_text, len(silent.output)) == ("completed", "", 1)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_needs_no_engine_has_the_same_shape(setup: Setup, stream: bool) -> None:
    async def silent(_self: object, body: dict[str, Any]) -> Prepared:
        return Prepared(None, body, "acme", extension=lambda _: {"declined": True}, instead="I do not know that.")

    setup.catalogue.prepare = silent.__get__(setup)  # type: ignore[method-assign]
    answer = setup.create(stream=stream)
    last = list(answer)[-1].response if stream else answer
    assert (last.output_text, last.brogue) == ("I do not know that.", {"declined": True})
    assert setup.engine.bodies == []


# --- what is kept ---


def test_a_conversation_goes_on_from_what_was_stored_without_its_instructions(setup: Setup) -> None:
    first = setup.create("One", instructions="Be brief.")
    second = setup.create("Two", previous_response_id=first.id)
    third = setup.create([{"role": "user", "content": "Three"}], previous_response_id=second.id, stream=True)
    assert list(third)[-1].response.previous_response_id == second.id
    said = [(m["role"], m["content"]) for m in setup.sent["messages"]]
    assert said == [
        ("user", "One"), ("assistant", "base base"), ("user", "Two"), ("assistant", "base base"), ("user", "Three"),
    ]  # fmt: skip


def test_a_stored_response_is_read_listed_and_deleted(setup: Setup) -> None:
    created = setup.create([{"role": "user", "content": text} for text in ("one", "two", "three")])
    assert setup.sdk.responses.retrieve(created.id) == created
    items = setup.sdk.responses.input_items.list(created.id, limit=2)
    texts = [item.content[0].text for item in items]  # type: ignore[union-attr]
    assert texts == ["three", "two", "one"], "all pages"
    page = setup.client.get(f"/v1/responses/{created.id}/input_items?order=asc&limit=2").json()
    assert (page["has_more"], page["first_id"], len(page["data"])) == (True, page["data"][0]["id"], 2)
    setup.sdk.responses.delete(created.id)
    for path in (created.id, f"{created.id}/input_items"):
        assert setup.client.get(f"/v1/responses/{path}").status_code == 404
    with pytest.raises(openai.NotFoundError, match="previous|stored"):
        setup.create(previous_response_id=created.id)
    assert setup.client.get(f"/v1/responses/{created.id}/input_items?after=x").status_code == 404
    assert setup.client.get("/v1/responses/x?stream=true").status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_store_false_is_kept_nowhere(setup: Setup, stream: bool) -> None:
    answer = setup.create("Hi, I am Ann", store=False, stream=stream)
    response = list(answer)[-1].response if stream else answer
    assert response.store is False
    with pytest.raises(openai.NotFoundError):
        setup.sdk.responses.retrieve(response.id)
    (kept,) = setup.recorder.settled().responses()
    assert (kept.messages, kept.text) == ((), "")


@pytest.mark.parametrize(("mode", "words"), [("redacted", "[EMAIL_1]"), ("off", None)])
def test_logging_keeps_as_much_as_the_settings_say(home: Home, mode: str, words: str | None) -> None:
    write_text(home.settings_file, f'[store]\nlogging = "{mode}"\n')
    setup = Setup(home)
    setup.engine.says = "Write to bob@example.org"
    with TestClient(setup.app) as setup.client:
        client = sdk(setup.client)
        answer = client.responses.create(model="base", input="I am ann@example.org", metadata={"of": "ann@example.org"})
        assert answer.output_text == "Write to bob@example.org", "what is answered is whole"
        assert answer.store is (words is not None)
        found = setup.client.get(f"/v1/responses/{answer.id}")
        if words is None:
            assert found.status_code == 404
            return
        assert words in found.text
        asked = setup.client.get(f"/v1/responses/{answer.id}/input_items").text
        assert words in asked
        assert "@example.org" not in found.text + asked
        client.responses.create(model="base", input="And now?", previous_response_id=answer.id)
        assert setup.engine.bodies[-1]["messages"][0]["content"] == "I am [EMAIL_1]"


def test_a_store_that_takes_nothing_costs_nobody_the_answer(setup: Setup) -> None:
    setup.create()
    engine = create_engine(sqlite_url(setup.home.root / "store.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE stored_responses RENAME TO away")
    engine.dispose()
    answer = setup.create()
    assert (answer.output_text, answer.store) == ("base base", False)


def test_to_others_a_response_does_not_exist(home: Home) -> None:
    store = open_store(home)
    users = Users(store, rounds=4)
    for name in ("ann", "bob"):
        users.create(name, "user", "a long password")
    setup = Setup(home)
    with TestClient(setup.app) as client:

        def signed_in(name: str) -> openai.OpenAI:
            return sdk(client, ADMIN_KEY if name == "admin" else users.sign_in(name, "a long password")[1])

        theirs = signed_in("ann").responses.create(model="base", input="Mine")
        assert signed_in("ann").responses.retrieve(theirs.id) == theirs
        bob = signed_in("bob")
        for ask in (
            lambda: bob.responses.retrieve(theirs.id),
            lambda: bob.responses.input_items.list(theirs.id),
            lambda: bob.responses.delete(theirs.id),
            lambda: bob.responses.create(model="base", input="x", previous_response_id=theirs.id),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert signed_in("admin").responses.retrieve(theirs.id) == theirs
        with pytest.raises(openai.AuthenticationError):
            sdk(client, "wrong").responses.retrieve(theirs.id)
    store.close()


def test_who_is_forgotten_leaves_no_stored_response_and_none_that_went_on_from_one(home: Home, brogue: Run) -> None:
    setup = Setup(home)
    with TestClient(setup.app) as client:
        asked = sdk(client)
        ann = asked.responses.create(model="base", input="I am Ann", user="ann", store=True)
        later = asked.responses.create(model="base", input="And?", previous_response_id=ann.id)
        other = asked.responses.create(model="base", input="I am Bob", safety_identifier="bob")
    done = brogue("data", "forget", "--subject", "ann", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stored_responses"] == 2
    with TestClient(Setup(home).app) as client:
        statuses = [client.get(f"/v1/responses/{one.id}").status_code for one in (ann, later, other)]
    assert statuses == [404, 404, 200]
    assert b"I am Ann" not in (home.root / "store.db").read_bytes()
