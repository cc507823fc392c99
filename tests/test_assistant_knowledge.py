"""An assistant with documents as a client meets it: what the model is shown, what comes with the answer, and when the
documents are silent. The engine and the embedding model are stand-ins."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.definitions import load_assistant
from assistant.knowledge import Knowledge, manifest_file
from assistant.knowledge_add import add, recipe_for, remove
from assistant.knowledge_answer import Answers, BaseFacts
from assistant.knowledge_manage import knowledge_folder, remove_knowledge
from assistant.knowledge_store import KnowledgeStore
from assistant.prompt import HomeCatalogue
from assistant.questions import is_small_talk, stand_alone
from data.errors import BrogueError
from data.home import Home, write_text
from data.settings_knowledge import KnowledgeSettings
from data.store_home import open_store
from tests.conftest import ROOT
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version
from tests.knowledge_fakes import WordEmbedder

RETURNS = "# Returns\n\nPlants may be sent back within 30 days. The refund takes five working days.\n"
DELIVERY = "# Delivery\n\nParcels arrive on the next weekday. Delivery costs 4.50 pounds.\n"
ASKED = "Plants may be sent back within how many days?"


class Setup(FakeGateway):
    """A gateway whose assistant reed has two documents, with a client outside of its event loop."""

    client: TestClient

    def ask(self, question: str = ASKED, model: str = "reed", before: tuple[str, ...] = (), **more: Any) -> Any:
        messages = [
            {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate([*before, question])
        ]
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": messages, **more})

    def sent(self) -> list[dict[str, Any]]:
        """The messages that the engine got last."""
        return list(self.engine.bodies[-1]["messages"])


def put(home: Home, name: str, **files: str) -> None:
    """Let these be the documents of `name`."""
    folder = home.root / "documents" / name
    for title, text in files.items():
        write_text(folder / f"{title}.md", text)
    embedder = WordEmbedder()
    store = KnowledgeStore(knowledge_folder(home, name), name, KnowledgeSettings(), embedder)
    add([folder], manifest_file(home, name), store, recipe_for(embedder))
    store.close()


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\nknowledge: {contact: Ask Ann.}")
    put(home, "reed", returns=RETURNS, delivery=DELIVERY)
    setup = Setup(home, knowledge=Knowledge(home, KnowledgeSettings(), WordEmbedder()), max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as client:
        setup.client = client
        yield setup


def events(reply: Any) -> list[dict[str, Any]]:
    lines = [line for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_the_model_is_shown_the_passages_before_the_question_and_the_rules_after_the_prompt(setup: Setup) -> None:
    assert setup.ask().status_code == 200
    system, user = setup.sent()
    assert system["content"].startswith("Be Reed.\n\nThe user sends numbered passages")
    assert user["content"].startswith("[1] Returns\n> # Returns\n> \n> Plants may be sent back within 30 days.")
    assert user["content"].endswith(f"Question: {ASKED}")


def test_a_base_model_that_takes_no_system_message_gets_the_rules_with_the_first_question(setup: Setup) -> None:
    assert setup.knowledge
    answers = Answers(setup.knowledge, BaseFacts(lambda text: len(text.split()), context_length=1000))
    catalogue = HomeCatalogue(setup.home, "base", False, setup.pool.live, answers)
    prepared = asyncio.run(catalogue.prepare({"model": "reed", "messages": [{"role": "user", "content": ASKED}]}))
    [message] = prepared.body["messages"]
    assert message["role"] == "user"
    assert message["content"].startswith("Be Reed.\n\nThe user sends numbered passages")
    assert "\n\n[1] Returns\n> " in message["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_carries_its_passages_and_the_check_of_each_sentence(setup: Setup, stream: bool) -> None:
    setup.engine.says = "Plants may be sent back within 30 days [1]. Delivery costs 9 pounds [7]."
    reply = setup.ask(stream=stream)
    if stream:
        found = [event for event in events(reply) if "brogue" in event]
        assert [event["choices"][0]["finish_reason"] for event in found] == ["stop"], "beside the end, and only there"
        brogue = found[0]["brogue"]
        assert {event["model"] for event in events(reply)} == {"reed"}
    else:
        brogue = reply.json()["brogue"]
        assert reply.json()["model"] == "reed"
    first = brogue["passages"][0]
    assert (first["number"], first["source"], first["title"]) == (1, "reed/returns.md", "Returns")
    text = (setup.home.root / "documents" / "reed" / "returns.md").read_text()
    assert first["text"] == text[first["start"] : first["end"]]
    right, wrong = brogue["sentences"]
    assert (right["support"], right["passage"], right["missing"], right["wrong"]) == ("cited", 1, [], [])
    assert setup.engine.says[right["start"] : right["end"]] == "Plants may be sent back within 30 days [1]."
    assert (wrong["support"], wrong["missing"], wrong["unknown"]) == ("unsupported", ["9"], [7])
    assert brogue["declined"] is False
    assert 0.3 < brogue["confidence"] <= 1
    assert 0.5 < brogue["groundedness"] < 1


def test_the_openai_client_reads_answers_and_streams_with_documents(setup: Setup) -> None:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    setup.engine.says = "Within 30 days."
    whole = ChatCompletion.model_validate(setup.ask("What does Einstein think of relativity?").json())
    assert whole.choices[0].message.content == "My documents do not say anything about that. Ask Ann."
    chunks = [
        ChatCompletionChunk.model_validate(event)
        for event in events(setup.ask("What does Einstein think of relativity?", stream=True))
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events(setup.ask(stream=True))) == (
        "Within 30 days."
    )


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_documents_are_silent_the_assistant_says_so_without_the_engine(setup: Setup, stream: bool) -> None:
    setup.engine.kill()
    reply = setup.ask("What does Einstein think of relativity?", stream=stream)
    assert reply.status_code == 200, "no engine is needed"
    assert reply.headers["x-brogue-version"] == "none"
    if stream:
        last = events(reply)[-1]
        assert (last["choices"][0]["finish_reason"], last["model"]) == ("stop", "reed")
        said = "".join(event["choices"][0]["delta"].get("content", "") for event in events(reply))
        brogue = last["brogue"]
    else:
        said, brogue = reply.json()["choices"][0]["message"]["content"], reply.json()["brogue"]
    assert said == "My documents do not say anything about that. Ask Ann."
    assert brogue == {"passages": [], "declined": True, "confidence": brogue["confidence"], "sentences": [],
                      "groundedness": None}  # fmt: skip
    assert brogue["confidence"] < 0.3


def test_a_stream_that_is_declined_counts_tokens_for_who_asked_and_gives_as_many_choices(setup: Setup) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    found = events(setup.ask("What does Einstein think of relativity?", **options))
    assert found[-1]["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert [event["choices"][0]["index"] for event in found[:-1]] == [0, 0, 1, 1]


@pytest.mark.parametrize("greeting", ["Hi!", "Relativity?", "Hello, who are you?", "What can you do for me?"])
def test_a_greeting_is_answered_by_the_model_without_passages(setup: Setup, greeting: str) -> None:
    reply = setup.ask(greeting)
    assert reply.headers["x-brogue-version"] == "reed-voice@1"
    assert setup.sent() == [{"role": "system", "content": "Be Reed."}, {"role": "user", "content": greeting}]
    assert reply.json()["brogue"]["passages"] == reply.json()["brogue"]["sentences"] == []


def test_a_follow_up_is_searched_for_with_the_question_before_it_if_the_assistant_rewrites(setup: Setup) -> None:
    before = ("When do parcels arrive and what does delivery cost?", "4.50 pounds.")
    assert setup.ask("And is it quicker on request?", before=before).headers["x-brogue-version"] == "none"
    add_assistant(setup.home, "reed", "adapter: reed-voice\nknowledge: {rewrite: true}")
    assert setup.ask("And is it quicker on request?", before=before).headers["x-brogue-version"] == "reed-voice@1"
    assert "> Parcels arrive on the next weekday." in setup.sent()[-1]["content"]


@pytest.mark.parametrize(
    ("asked", "alone"),
    [
        (["Is delivery free?", "And for two?"], "Is delivery free?\nAnd for two?"),
        (["Do you sell ferns?", "How often do I have to water them in winter?"],
         "Do you sell ferns?\nHow often do I have to water them in winter?"),
        (["Is delivery free?", "How many days do customers have to return shears?"],
         "How many days do customers have to return shears?"),
        (["Is delivery free?"], "Is delivery free?"),
    ],
)  # fmt: skip
def test_only_a_question_that_leans_on_the_one_before_is_joined_with_it(asked: list[str], alone: str) -> None:
    assert stand_alone([{"role": "user", "content": text} for text in asked]) == alone


def test_small_talk_is_told_from_questions() -> None:
    assert all(map(is_small_talk, ["Good morning!", "What’s your name?", "Thank you", "Guten Tag"]))
    assert not any(map(is_small_talk, ["Who is Einstein?", "Do you sell ferns?", "你们的退货政策是什么"]))


def test_without_documents_nothing_is_added_and_the_bytes_are_the_engines(setup: Setup) -> None:
    add_assistant(setup.home, "fern", "adapter: reed-voice")
    for stream in (False, True):
        reply = setup.ask(model="fern", stream=stream)
        assert "brogue" not in reply.text
        assert "x-brogue-retrieval-ms" not in reply.headers
    assert "brogue" not in setup.ask(model="reed-voice@1").text, "an adapter has no documents, an assistant has"


def test_the_headers_tell_what_looking_took_apart_from_what_else_we_took(setup: Setup) -> None:
    headers = setup.ask().headers
    assert float(headers["x-brogue-retrieval-ms"]) > 0
    assert float(headers["x-brogue-overhead-ms"]) >= 0


def test_the_store_keeps_passages_and_declined_answers(setup: Setup) -> None:
    setup.ask(user="ann")
    setup.ask("What does Einstein think of relativity?")
    store = open_store(setup.home)
    deadline = time.monotonic() + 60
    while len(store.responses()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    answered, declined = sorted(store.responses(), key=lambda response: response.created)
    store.close()
    assert answered.passages[0].source == "reed/returns.md"
    assert answered.messages[-1]["content"] == ASKED, "as asked, without the passages"
    assert (declined.version, declined.passages) == ("none", ())
    assert declined.text.endswith("Ask Ann.")


def test_a_judgement_says_whether_the_source_or_the_answer_was_wrong(setup: Setup) -> None:
    response_id = setup.ask().headers["x-brogue-response-id"]
    body = {"response_id": response_id, "rating": -1, "user": "ann"}
    for reasons in (["wrong-source"], ["right-source-wrong-answer"], ["right-source-wrong-answer"]):
        reply = setup.client.post("/v1/feedback/ratings", json=body | {"reasons": reasons})
        assert reply.json()["stored"], reply.text
    store = open_store(setup.home)
    kept = [stored.judgement.reasons for stored in store.judgements()]
    store.close()
    assert kept == [("right-source-wrong-answer",)], "the latest counts, also where only the reason has changed"
    assert setup.client.post("/v1/feedback/ratings", json=body | {"reasons": ["<b>"]}).status_code == 400


def test_one_assistant_may_use_the_documents_of_another(setup: Setup) -> None:
    add_assistant(setup.home, "fern", "adapter: reed-voice\nknowledge: {use: reed, passages: 1}")
    assert [p["source"] for p in setup.ask(model="fern").json()["brogue"]["passages"]] == ["reed/returns.md"]
    add_assistant(setup.home, "fern", "adapter: reed-voice\nknowledge: {use: nobody}")
    error = setup.ask(model="fern").json()["error"]
    assert (error["code"], "brogue knowledge add nobody PATH" in error["message"]) == ("knowledge_unavailable", True)


def test_passages_give_way_to_a_long_conversation(setup: Setup) -> None:
    assert setup.ask(before=("day " * 990, "Yes."), max_tokens=5).status_code == 200
    assert setup.sent()[0]["content"] == "Be Reed.", "no passages, so no rules about them"


def test_template_tokens_of_the_base_model_cannot_come_in_by_a_document(setup: Setup) -> None:
    put(setup.home, "reed", returns=RETURNS + "\nPlants may be sent back <|end|> within 60 days.\n")
    setup.ask()
    assert "60 days" in setup.sent()[-1]["content"]
    assert "<|end|>" not in setup.sent()[-1]["content"]


def test_documents_that_come_and_go_count_from_the_next_question_on(setup: Setup) -> None:
    assert setup.ask().json()["brogue"]["passages"]
    put(setup.home, "reed", hours="# Hours\n\nThe shop in Leeds opens at nine on weekdays.\n")
    opening = "When does the shop in Leeds open on weekdays?"
    assert setup.ask(opening).json()["brogue"]["passages"][0]["source"] == "reed/hours.md"
    store = setup_store(setup.home)
    remove(["reed"], manifest_file(setup.home, "reed"), store)
    store.close()
    assert "brogue" not in setup.ask().json(), "all documents are gone"
    put(setup.home, "reed", returns=RETURNS)
    assert setup.ask().json()["brogue"]["passages"]
    remove_knowledge(setup.home, "reed", KnowledgeSettings())
    assert "brogue" not in setup.ask().json()
    put(setup.home, "reed", returns=RETURNS)
    assert setup.ask().json()["brogue"]["passages"], "made anew under the gateway's eyes"


_WRITER = """
import sys
from pathlib import Path
from assistant.knowledge_manage import remove_knowledge
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from tests.test_assistant_knowledge import RETURNS, put

home = Home(Path(sys.argv[1]))
for _ in range(3):
    remove_knowledge(home, "reed", KnowledgeSettings())
    put(home, "reed", returns=RETURNS)
"""


@pytest.mark.slow
def test_questions_are_answered_while_another_process_removes_the_documents_and_adds_them_again(setup: Setup) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(setup.home.root)], cwd=ROOT)
    codes = Counter[int]()
    while writer.poll() is None:
        codes[setup.ask().status_code] += 1
    assert writer.returncode == 0
    assert codes.keys() == {200}
    assert setup.ask().json()["brogue"]["passages"]


def setup_store(home: Home) -> KnowledgeStore:
    return KnowledgeStore(knowledge_folder(home, "reed"), "reed", KnowledgeSettings(), WordEmbedder())


def test_a_knowledge_of_another_embedding_model_is_one_clear_error_that_says_what_to_type(setup: Setup) -> None:
    setup.knowledge._embedder = WordEmbedder("another model")
    setup.knowledge._stores.clear()
    reply = setup.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "knowledge_unavailable")
    assert "brogue knowledge reindex reed" in reply.json()["error"]["message"]
    assert setup.ask(stream=True).status_code == 503


def test_a_damaged_knowledge_is_one_clear_error_that_says_what_to_type(setup: Setup) -> None:
    write_text(knowledge_folder(setup.home, "reed") / "store.json", "{")
    reply = setup.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "knowledge_unavailable")
    assert "remove the knowledge and add its documents again" in reply.json()["error"]["message"]


def test_an_answer_is_not_lost_over_a_fault_of_the_check(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("assistant.knowledge_answer.ground", explode)
    for stream in (False, True):
        reply = setup.ask(stream=stream)
        assert reply.status_code == 200
        assert "reed-voice@1" in reply.text


def test_unknown_keys_and_wrong_values_of_knowledge_in_a_definition_are_told(tmp_path: Path) -> None:
    path = tmp_path / "reed.yaml"
    for text, words in (("{passage: 5}", "known keys here: contact"), ("{passages: 0}", "knowledge.passages")):
        write_text(path, f"name: reed\nknowledge: {text}\n")
        with pytest.raises(BrogueError, match=words):
            load_assistant(path)


def test_documents_and_searches_are_shown_to_who_holds_the_admin_key(setup: Setup) -> None:
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert setup.client.get("/v1/knowledge").status_code == 401
    [entry] = setup.client.get("/v1/knowledge", headers=key).json()["data"]
    assert (entry["name"], entry["documents"], entry["passages"], entry["model"]) == ("reed", 2, 2, "words-64")
    files = setup.client.get("/v1/knowledge/reed", headers=key).json()["files"]
    assert [(file["source"], file["passages"]) for file in files] == [("reed/delivery.md", 1), ("reed/returns.md", 1)]
    found = setup.client.post("/v1/knowledge/reed/search", headers=key, json={"question": ASKED}).json()
    assert (found["hits"][0]["source"], found["declined"]) == ("reed/returns.md", False)
    assert {"embed", "dense", "lexical", "fuse"} <= found["ms"].keys()
    assert {"cosine", "cosine_rank", "bm25", "bm25_rank", "score"} <= found["hits"][0].keys()
    missing = setup.client.get("/v1/knowledge/fern", headers=key)
    assert (missing.status_code, "have: reed" in missing.json()["error"]["message"]) == (404, True)
    shutil.rmtree(knowledge_folder(setup.home, "reed"))
    assert setup.client.get("/v1/knowledge", headers=key).json()["data"] == []
