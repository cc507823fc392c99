"""The gateway keeps every answer in the store, and no answer suffers from it."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from starlette.testclient import TestClient

from adapters.registry import CanaryPlan, Registry
from data.home import Home, write_text
from data.judgements import Wanted
from data.store import Store
from data.store_home import open_store
from data.store_open import sqlite_url
from serve.stream import StreamReader
from tests.fakes import FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Where is my parcel? Write to ann@example.org"}]


class Setup(FakeGateway):
    """A gateway with a client, and its store read by another process' eyes."""

    client: TestClient

    def chat(self, model: str = "reed", headers: dict[str, str] | None = None, **more: Any) -> str:
        body = {"model": model, "messages": QUESTION, **more}
        reply = self.client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        return str(reply.headers["x-brogue-response-id"])

    def rate(self, response_id: str, rating: int, **more: Any) -> Any:
        return self.client.post("/v1/feedback/ratings", json={"response_id": response_id, "rating": rating, **more})


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.")
    setup = Setup(home, max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as client:
        setup.client = client
        yield setup


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    yield opened
    opened.close()


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_kept_as_it_was_asked_and_answered(setup: Setup, store: Store, stream: bool) -> None:
    response_id = setup.chat(stream=stream, user="ann-4711", headers={"x-brogue-conversation": "talk-1"})
    wait_until(store.responses)
    kept = store.response(response_id)
    assert list(kept.messages) == QUESTION, "as asked: the assistant's own prompt is not the person's word"
    assert kept.text.replace(" ", "") == "reed-voice@1reed-voice@1"
    assert (kept.assistant, kept.version, kept.subject, kept.conversation) == (
        "reed", "reed-voice@1", "ann-4711", "talk-1",
    )  # fmt: skip
    assert (kept.prompt_tokens, kept.completion_tokens) == (7, 2)
    assert kept.seconds > 0


def test_who_and_which_conversation_may_be_told_in_openais_other_fields(setup: Setup, store: Store) -> None:
    first = setup.chat("base", safety_identifier="bob", metadata={"conversation": "talk-2"})
    second = setup.chat("base", user="x" * 500, metadata="no object")
    wait_until(lambda: len(store.responses()) == 2)
    assert (store.response(first).subject, store.response(first).conversation) == ("bob", "talk-2")
    assert str(store.response(second).subject).startswith("sha256-"), "too long for a key, but still one person"
    assert (store.response(first).version, store.response(second).conversation) == ("base", None)


def test_what_is_no_whole_answer_is_not_kept(setup: Setup, store: Store) -> None:
    setup.engine.break_after = 1
    setup.client.post("/v1/chat/completions", json={"model": "base", "messages": QUESTION, "stream": True})
    setup.engine.break_after = None
    whole = setup.chat()
    wait_until(store.responses)
    assert [response.id for response in store.responses()] == [whole]


def test_of_several_choices_in_a_stream_the_first_is_kept() -> None:
    reader = StreamReader("engine", "asked", wants_usage=False)
    for index, word in ((0, "one "), (1, "two "), (0, "three")):
        reader.feed(b'data: {"choices":[{"index":%d,"delta":{"content":"%s"}}]}\n\n' % (index, word.encode()))
    assert reader.text == "one three"


def test_answers_that_are_waiting_are_written_at_shutdown(home: Home) -> None:
    setup = Setup(home)
    with TestClient(setup.app) as setup.client:
        ids = {setup.chat("base") for _ in range(5)}
    store = open_store(home)
    assert {response.id for response in store.responses()} == ids
    store.close()


def test_a_thumb_is_kept_and_a_later_one_takes_its_place(setup: Setup, store: Store) -> None:
    response_id = setup.chat()
    first = setup.rate(response_id, 1, user="ann").json()
    assert (first["version"], first["stored"]) == ("reed-voice@1", True)
    assert setup.rate(response_id, -1, rater="ann").json()["stored"]
    setup.rate(response_id, -1, rater="ann")  # the same once more is no news
    setup.rate(response_id, 1)
    given = {kept.judgement.rater: kept.judgement.thumb for kept in store.judgements()}  # type: ignore[union-attr]
    assert given == {"ann": "down", "anonymous": "up"}
    assert len(store.judgements(Wanted(taken_back=True))) == 3


def test_an_answer_from_before_a_restart_can_be_rated(home: Home) -> None:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice")
    first = Setup(home)
    with TestClient(first.app) as first.client:
        response_id, base_id = first.chat(), first.chat("base")
        first.rate(response_id, 1)
    second = Setup(home)
    with TestClient(second.app) as second.client:
        for rated, version in ((second.rate(response_id, -1), "reed-voice@1"), (second.rate(base_id, 1), "base")):
            assert (rated.json()["version"], rated.json()["stored"]) == (version, True)
        assert second.rate("resp-none", 1).status_code == 404
        assert second.rate("", 1).status_code == 404
        tally = second.trials.tally("reed-voice", 1)
        assert (tally.up, tally.down) == (0, 1), "the latest thumb counts, and once"


@pytest.mark.slow
def test_a_dead_store_costs_nobody_an_answer_and_gets_them_when_it_is_back(setup: Setup, store: Store) -> None:
    first = setup.chat()
    wait_until(store.responses)
    engine = create_engine(sqlite_url(setup.home.root / "store.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE responses RENAME TO away")
    later = [setup.chat(stream=True) for _ in range(3)]
    reply = setup.rate(first, 1)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_down")
    assert "send it again" in reply.json()["error"]["message"]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO responses")
    engine.dispose()
    wait_until(lambda: len(store.responses()) == 4)
    assert {response.id for response in store.responses()} == {first, *later}


def test_answers_that_a_full_disk_does_not_take_are_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.recorder.WAITING", 2)
    setup = Setup(home)
    full = open_store(home)
    full._engine.dispose()
    from sqlalchemy import event

    event.listen(full._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    setup.recorder._open_store = lambda: full
    with TestClient(setup.app) as setup.client:
        for _ in range(30):
            setup.client.post(
                "/v1/chat/completions", json={"model": "base", "messages": [{"role": "user", "content": "x" * 9_000}]}
            )
        metrics = setup.client.get("/metrics").text
    lost = next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("brogue_unrecorded_answers"))
    assert 25 <= lost <= 28


def test_an_answer_that_cannot_be_written_does_not_hold_up_the_others(setup: Setup, store: Store) -> None:
    setup.chat("base", user={"not": "a name"})
    body = {"model": "base", "messages": [*QUESTION, {"role": "user", "content": [["x"] * 3]}]}
    setup.client.post("/v1/chat/completions", json=body)
    setup.engine.words = 10**30  # the fake counts tokens by it: a number that no column takes
    setup.chat("base", max_tokens=1)
    setup.engine.words = 2
    last = setup.chat("base")
    wait_until(lambda: len(store.responses()) == 3)
    assert last in {response.id for response in store.responses()}
    assert "brogue_unrecorded_answers_total 1.0" in setup.client.get("/metrics").text


@pytest.mark.parametrize(("mode", "kept"), [("redacted", "[EMAIL_1]"), ("off", "")])
def test_logging_keeps_as_much_as_the_settings_say(home: Home, mode: str, kept: str) -> None:
    write_text(home.settings_file, f'[store]\nlogging = "{mode}"\n')
    setup = Setup(home)
    with TestClient(setup.app) as setup.client:
        response_id = setup.chat("base")
    store = open_store(home)
    found = store.response(response_id)
    assert found.logging == mode
    assert kept in str(found.messages) and "ann@example.org" not in str(found)
    store.close()


@pytest.mark.parametrize(("mode", "words"), [("full", "ann@example.org"), ("redacted", "[EMAIL_1]"), ("off", None)])
def test_a_shadows_pairs_keep_no_more_than_the_store(home: Home, mode: str, words: str | None) -> None:
    write_text(home.settings_file, f'[store]\nlogging = "{mode}"\n')
    for _ in range(2):
        add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice")
    Registry(home).move("reed-voice", "canary", 2, canary=CanaryPlan(share=0, shadow=True))
    setup, pairs = Setup(home), home.logs / "shadow.jsonl"
    with TestClient(setup.app) as setup.client:
        response_id = setup.chat(stream=True)
        wait_until(lambda: setup.trials.tally("reed-voice", 2).answers)
    assert pairs.exists() == (words is not None)
    if words is not None:
        pair = json.loads(pairs.read_text())
        assert (pair["response_id"], words in pair["messages"][0]["content"]) == (response_id, True)
        assert ("ann@example.org" in pairs.read_text()) == (mode == "full")
