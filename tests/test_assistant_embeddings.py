"""Embedding models: the starter in three precisions, a folder, an OpenAI-compatible server; mistakes are one line."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.embeddings import open_embedder
from assistant.embeddings_remote import KEY
from data.errors import BrogueError
from data.home import Home
from data.settings_knowledge import KnowledgeSettings

SENTENCES = ["How do I return a plant?", "Sending plants back to the shop", "The engine runs on diesel fuel. " * 60, ""]


class _Server(BaseHTTPRequestHandler):
    """Two numbers for each text: its length and 1; in the wrong order, as the API allows."""

    key = ""
    answer: Any = None

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            return self._say(401, {"error": {"message": "wrong key"}})
        data = [{"index": n, "embedding": [len(text), 1]} for n, text in enumerate(asked["input"])]
        return self._say(200, self.answer or {"data": data[::-1], "model": asked["model"]})

    def _say(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/v1", handler
    listening.shutdown()
    listening.server_close()


def remote(home: Home, url: str) -> Any:
    return open_embedder(KnowledgeSettings(embedding_url=url, embedding_model="tiny"), home, many=True)


def test_the_starter_gives_unit_vectors_in_which_like_is_near_like(home: Home) -> None:
    embedder = open_embedder(KnowledgeSettings(), home, many=False)
    vectors = embedder.encode(SENTENCES, "document")
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_tokens_are_counted_as_the_model_counts_them_also_beyond_what_it_reads(home: Home) -> None:
    embedder = open_embedder(KnowledgeSettings(), home, many=False)
    assert embedder.count_tokens("How do I return a plant?") == 7
    assert embedder.count_tokens("plant " * 1000) == 1000
    assert embedder.max_tokens == 256


def test_knowing_a_model_does_not_load_it(home: Home) -> None:
    embedder = open_embedder(KnowledgeSettings(precision="float32"), home, many=True)
    assert embedder.identity.dimension == 384
    assert embedder.count_tokens("a plant") == 2
    assert "_model" not in vars(embedder)


@pytest.mark.slow
def test_the_starters_precisions_agree(home: Home) -> None:
    exact = open_embedder(KnowledgeSettings(precision="float32"), home, many=True)
    texts = [*SENTENCES[:3], *(f"Item {n} costs {n} crowns and stands in aisle {n % 5}." for n in range(40))]
    wanted = exact.encode(texts, "document")
    for precision, least in (("bfloat16", 0.999), ("int8", 0.998)):
        other = open_embedder(KnowledgeSettings(precision=precision), home, many=True)
        assert other.identity == exact.identity
        agreement = (other.encode(texts, "document") * wanted).sum(axis=1)
        assert agreement.min() > least, precision


@pytest.mark.slow
def test_an_attention_that_changes_the_vectors_is_not_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from assistant import embeddings_attention

    def model() -> Any:
        return open_embedder(KnowledgeSettings(precision="float32"), home, many=True)

    lean = model()
    right = lean.encode(SENTENCES, "document")
    assert lean._model[0].auto_model.config._attn_implementation == embeddings_attention.NAME
    monkeypatch.setattr(embeddings_attention, "lean_attention", lambda _m, _q, _k, value, *_, **__: (value, None))
    plain = model()
    vectors = plain.encode(SENTENCES, "document")
    assert plain._model[0].auto_model.config._attn_implementation == "eager"
    assert (vectors * right).sum(axis=1).min() > 0.9999


@pytest.mark.slow
def test_any_sentence_transformers_folder_serves_with_its_prompts_and_pooling(home: Home, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertModel

    from tests.tiny_models import make_model

    bert = make_model(
        tmp_path / "bert", BertModel, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    (bert / "chat_template.jinja").unlink()  # with one, sentence-transformers takes texts for messages
    inner = Transformer(str(bert), max_seq_length=64)
    prompts = {"query": "What is ", "document": ""}
    SentenceTransformer(modules=[inner, Pooling(16, "cls")], prompts=prompts).save_pretrained(str(tmp_path / "mine"))
    settings = KnowledgeSettings(embedding_model=str(tmp_path / "mine"))
    embedder = open_embedder(settings, home, many=True)
    assert (embedder.identity.name, embedder.identity.dimension, embedder.max_tokens) == ("mine", 16, 64)
    asked, stored = embedder.encode(["item 1"], "query"), embedder.encode(["What is item 1", "item 1"], "document")
    assert asked[0] @ stored[0] > 0.999
    assert not np.allclose(asked[0], stored[1], atol=1e-3)
    weights = next((tmp_path / "mine").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert open_embedder(settings, home, many=True).identity.sha256 != embedder.identity.sha256


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"embedding_model": "/no/such/folder"}, "neither a folder nor a Hugging Face id"),
        ({"embedding_model": "plain-name"}, "neither a folder nor a Hugging Face id"),
        ({"embedding_onnx": "/no/file.onnx"}, "there is no file /no/file.onnx"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(home: Home, settings: dict[str, str], line: str) -> None:
    with pytest.raises(BrogueError, match=line):
        open_embedder(KnowledgeSettings(**settings), home, many=True)  # type: ignore[arg-type]


def test_a_folder_without_weights_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BrogueError, match="no config.json or no weights"):
        open_embedder(KnowledgeSettings(embedding_model=str(tmp_path)), home, many=True)


def test_int8_without_a_file_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BrogueError, match="no int8 file of"):
        open_embedder(KnowledgeSettings(embedding_model=str(tmp_path), precision="int8"), home, many=True)


def test_a_server_gives_vectors_in_the_texts_order(home: Home, server: tuple[str, Any]) -> None:
    embedder = remote(home, server[0])
    vectors = embedder.encode(["a" * n for n in range(1, 101)], "document")
    assert embedder.identity.dimension == 2
    assert np.allclose(vectors[:, 0] / vectors[:, 1], np.arange(1, 101), rtol=1e-5)


def test_a_servers_key_comes_from_the_environment(
    home: Home, server: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server[1].key = "secret"
    with pytest.raises(BrogueError, match=f"answered 401: .*environment: {KEY}="):
        remote(home, server[0]).encode(["a"], "query")
    monkeypatch.setenv(KEY, "secret")
    assert remote(home, server[0]).encode(["a"], "query").shape == (1, 2)


@pytest.mark.parametrize("answer", [{"data": []}, {"error": "none"}, {"data": [{"index": 0, "embedding": "abc"}]}, [1]])
def test_a_server_that_answers_something_else_is_one_line(home: Home, server: tuple[str, Any], answer: Any) -> None:
    server[1].answer = answer
    with pytest.raises(BrogueError, match="no OpenAI-compatible embedding server|wanted 1 vectors"):
        remote(home, server[0]).encode(["a"], "query")


def test_a_server_that_is_down_is_one_line(home: Home) -> None:
    with pytest.raises(BrogueError, match="does not answer .*embedding_url in brogue.toml"):
        remote(home, "http://127.0.0.1:9/v1").encode(["a"], "query")


def test_a_url_needs_the_models_name() -> None:
    with pytest.raises(ValueError, match="embedding_url needs embedding_model"):
        KnowledgeSettings(embedding_url="http://127.0.0.1:9/v1")
