"""The knowledges of one home: opened once, searched from any thread, described for lists.

A knowledge belongs to the assistant of its name: `<home>/knowledge/<name>/` holds its passages, their indexes and the
list of its documents. Answers are made of it in assistant/knowledge_answer.py.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from assistant.decline import Measure, measure
from assistant.definitions import KnowledgeUse, definition_file, get_assistant
from assistant.embeddings import STARTER_NAME, Embedder, open_embedder
from assistant.knowledge_manage import has_documents, knowledge_folder, list_knowledge, open_knowledge
from assistant.knowledge_plan import load_manifest
from assistant.knowledge_store import KnowledgeStore, read_state
from assistant.lexical import Filters
from assistant.retrieval import Found, search
from data.errors import unknown
from data.home import Home
from data.settings import STARTER_MODEL, Frozen
from data.settings_knowledge import KnowledgeSettings

Tell = Callable[[str], None]
_PATIENCE_S = 2.0


class Document(Frozen):
    """One document of a knowledge."""

    source: str  # as its passages are cited
    path: str  # where it was read
    passages: int
    size: int  # bytes


class Summary(Frozen):
    """One knowledge, without its documents."""

    name: str
    documents: int
    passages: int
    model: str  # that made the vectors
    language: str


class Embedded(Frozen):
    """Vectors of texts, and how many tokens the model read."""

    vectors: list[list[float]]
    tokens: int


class Knowledge:
    """All knowledges of a home, with one embedding model for the questions. Nothing is loaded before it is needed."""

    def __init__(self, home: Home, settings: KnowledgeSettings, embedder: Embedder | None = None) -> None:
        self.home, self.settings = home, settings
        self._embedder = embedder
        self._stores: dict[str, KnowledgeStore] = {}
        self._lock = threading.RLock()

    @property
    def model(self) -> str:
        """The embedding model's name; it is not loaded for that."""
        name = self.settings.embedding_model
        if self.settings.embedding_url or name != STARTER_MODEL:
            path = Path(name).expanduser()
            return path.resolve().name if path.is_dir() and not self.settings.embedding_url else name
        return STARTER_NAME

    def embedder(self) -> Embedder:
        """The model, as it is best run for a question now and then."""
        with self._lock:
            if self._embedder is None:
                self._embedder = open_embedder(self.settings, self.home, many=False)
            return self._embedder

    def has(self, name: str) -> bool:
        """Whether documents were added for `name`. Costs the look at a file's name."""
        there = has_documents(self.home, name)
        if not there and name in self._stores:  # removed: nothing of it may stay open, should it be made anew
            self._let_go(name)
        return there

    def store(self, name: str) -> KnowledgeStore:
        """The knowledge of `name`, open. Raises `BrogueError` if it is not there or of another embedding model."""
        with self._lock:
            if not self.has(name) or name not in self._stores:
                self._stores[name] = open_knowledge(self.home, name, self.settings, self.embedder())
            return self._stores[name]

    def search(self, name: str, question: str, limit: int, filters: Filters | None = None) -> Found:
        """The best passages for a question. While somebody changes the documents it is tried again for a while."""
        deadline, unfinished = time.monotonic() + _PATIENCE_S, knowledge_folder(self.home, name) / "unfinished"
        failed = 0
        while True:
            try:
                return search(self.store(name), question, self.settings, limit, filters)
            except Exception:  # of no fixed kind: what was open may just have been taken away
                failed += 1
                self._let_go(name)
                if failed > 1 and not (unfinished.exists() and time.monotonic() < deadline):
                    raise
            time.sleep(0.1)

    def is_empty(self, name: str) -> bool:
        """Whether all documents were removed again."""
        return self.store(name).count() == 0

    def _let_go(self, name: str) -> None:
        """Close a knowledge; who needs it opens it again."""
        with self._lock:
            if (store := self._stores.pop(name, None)) is not None:
                store.close()

    def warm(self, tell: Tell = lambda _: None) -> None:
        """Open all there are and load the model, so that the first question need not wait."""
        for name in list_knowledge(self.home):
            tell(f"knowledge '{name}': {self.store(name).count():,} passages")
            self.search(name, "warm", 1)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors for `/v1/embeddings`."""
        embedder = self.embedder()
        vectors = embedder.encode(texts, "document")
        return Embedded(vectors=vectors.tolist(), tokens=sum(map(embedder.count_tokens, texts)))

    def too_long(self, text: str) -> tuple[int, int] | None:
        """The tokens of a text that the model would cut, and how many it reads; a server's model is not asked."""
        embedder = self.embedder()
        if self.settings.embedding_url or len(text) <= embedder.max_tokens - 2:
            return None
        tokens, most = embedder.count_tokens(text), embedder.max_tokens - 2  # its own two marks
        return (tokens, most) if tokens > most else None

    def summaries(self) -> list[Summary]:
        """All knowledges by name."""
        return [self.summary(name) for name in list_knowledge(self.home)]

    def summary(self, name: str) -> Summary:
        """One knowledge; neither the model nor the index is opened."""
        state = read_state(knowledge_folder(self.home, name))
        if state is None:
            raise unknown("knowledge", name, list_knowledge(self.home), f"Add documents: brogue knowledge add {name}")
        manifest = load_manifest(manifest_file(self.home, name))
        return Summary(
            name=name, documents=len(manifest.files), passages=manifest.passages, model=state.model.name,
            language=state.language,
        )  # fmt: skip

    def documents(self, name: str) -> list[Document]:
        """The documents of a knowledge, by the name that they are cited with."""
        self.summary(name)
        files = sorted(load_manifest(manifest_file(self.home, name)).files.items())
        return [Document(source=s, path=e.path, passages=len(e.passages), size=e.size) for s, e in files]


def knowledge_of(home: Home, name: str) -> tuple[str, KnowledgeUse]:
    """Whose documents `name` answers from, and how; a name that is no assistant stands for itself."""
    path = definition_file(home, name)
    if path is None or not path.is_file():
        return name, KnowledgeUse()
    use = get_assistant(home, name).knowledge
    return use.use or name, use


def manifest_file(home: Home, name: str) -> Path:
    """The list of a knowledge's documents."""
    return knowledge_folder(home, name) / "manifest.json"


def confidence(question: str, found: Found, by: Measure) -> float:
    """How well what was found fits the question: see assistant/decline.py. 1 if it cannot be told: vectors are off."""
    if found.hits and "dense" not in found.seconds and by in ("cosine", "cosine and words"):
        return 1.0
    return measured(question, found)[by]


def measured(question: str, found: Found) -> dict[Measure, float]:
    """All the measures that an assistant may decline by."""
    hits = found.hits
    return measure(question, [h.passage.searchable() for h in hits], [h.cosine for h in hits], [h.bm25 for h in hits])
