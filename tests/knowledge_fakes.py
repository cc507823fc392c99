"""An embedding model without a model, and passages without documents."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assistant.chunking import Passage, passage_id
from assistant.embeddings import Identity, Kind, Tell
from assistant.knowledge_store import KnowledgeStore
from data.settings_knowledge import KnowledgeSettings


class WordEmbedder:
    """Texts with common words are near each other; counts what it embeds."""

    max_tokens = 256

    def __init__(self, name: str = "words-64", dimension: int = 64) -> None:
        self.identity = Identity(name=name, sha256=f"hash of {name}", dimension=dimension)
        self.embedded = 0

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = lambda _: None) -> "np.ndarray[Any, Any]":
        self.embedded += len(texts) if kind == "document" else 0
        tell(f"embedding {len(texts)}")
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.casefold().split():
                place = hashlib.md5(word.encode()).digest()
                vectors[row, int.from_bytes(place[:4], "big") % self.identity.dimension] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def passage(text: str, source: str = "a.md", title: str = "", **more: Any) -> Passage:
    """A passage that is a whole document."""
    return Passage(
        id=passage_id(source, title, "", text, 0), source=source, title=title, start=0, end=len(text), text=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(), **more,
    )  # fmt: skip


def open_store(folder: Path, embedder: WordEmbedder | None = None, **settings: Any) -> KnowledgeStore:
    """A store in `folder` with settings of its own."""
    return KnowledgeStore(folder, "acme", KnowledgeSettings(**settings), embedder or WordEmbedder())
