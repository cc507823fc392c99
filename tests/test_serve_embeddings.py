"""`/v1/embeddings` as an OpenAI client meets it; the embedding model is a stand-in."""

import base64
import json
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.knowledge import Knowledge
from data.errors import BrogueError
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from tests.fakes import FakeGateway
from tests.knowledge_fakes import WordEmbedder

MODEL = "all-minilm-l6-v2"  # what the settings name


@pytest.fixture
def client(home: Home) -> Iterator[TestClient]:
    gateway = FakeGateway(home, knowledge=Knowledge(home, KnowledgeSettings(), WordEmbedder()))
    with TestClient(gateway.app, raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, given: Any, model: str = MODEL, **more: Any) -> Any:
    body = json.dumps({"model": model, "input": given, **more})
    return client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})


def test_a_text_and_a_list_of_texts_become_vectors_in_their_order(client: TestClient) -> None:
    one, two = ask(client, "a b").json(), ask(client, ["c", "a b"]).json()
    assert one["data"][0]["embedding"] == two["data"][1]["embedding"]
    assert [entry["index"] for entry in two["data"]] == [0, 1]
    assert (two["object"], two["data"][0]["object"], two["model"]) == ("list", "embedding", MODEL)
    assert two["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert sum(number**2 for number in one["data"][0]["embedding"]) == pytest.approx(1)


def test_base64_holds_the_same_numbers(client: TestClient) -> None:
    plain = ask(client, "a b").json()["data"][0]["embedding"]
    packed = array("f", base64.b64decode(ask(client, "a b", encoding_format="base64").json()["data"][0]["embedding"]))
    assert list(packed) == pytest.approx(plain)


def test_the_openai_client_reads_what_it_gets(client: TestClient) -> None:
    from openai import OpenAI

    openai = OpenAI(base_url="http://testserver/v1", api_key="any", http_client=client)
    found = openai.embeddings.create(model=MODEL, input=["one text", "two texts"])
    assert [len(entry.embedding) for entry in found.data] == [64, 64]


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ([1, 2, 3], {}, "'input' is tokens"),
        ([[1, 2], [3]], {}, "'input' is tokens"),
        ([], {}, "at least one text"),
        ({"text": "a"}, {}, "wanted 'input'"),
        (["a", 3], {}, "wanted 'input'"),
        (["a", "  "], {}, "'input[1]' is empty"),
        (["a", "b\ud83c"], {}, "'input[1]' holds half of a surrogate pair"),
        (["a"] * 2049, {}, "at most 2048"),
        (["a", "b " * 300], {}, "'input[1]' has 300 tokens, all-minilm-l6-v2 reads 254"),
        ("a", {"dimensions": 12}, "this model's vectors have 64"),
        ("a", {"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_one_line(
    client: TestClient, given: Any, more: dict[str, Any], words: str
) -> None:
    reply = ask(client, given, **more)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert words in reply.json()["error"]["message"]


def test_another_model_is_not_found_and_the_one_there_is_is_listed(client: TestClient) -> None:
    reply = ask(client, "a", model="text-embedding-3-small")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert MODEL in reply.json()["error"]["message"]
    assert client.get("/v1/models").json()["data"][-1]["id"] == MODEL
    assert client.get(f"/v1/models/{MODEL}").json()["kind"] == "embedding model"


def test_a_model_that_fails_is_a_503_that_says_why(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BrogueError("the embedding server does not answer")

    monkeypatch.setattr(WordEmbedder, "encode", fail)
    reply = ask(client, "a")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "embedding_unavailable")
    assert "does not answer" in reply.json()["error"]["message"]


def test_a_gateway_without_an_embedding_model_has_no_such_path(home: Home) -> None:
    with TestClient(FakeGateway(home).app) as client:
        assert ask(client, "a").status_code == 404
