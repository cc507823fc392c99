"""A knowledge on disk: `<home>/knowledge/<name>/` with its passages and their words (tantivy) and vectors (Chroma).

The index of words holds the passages, and the vectors follow it: it is written first. A process that dies in between
leaves the file `unfinished`; the next one that writes gives each passage its vector and takes away vectors without
one. `store.json` says which index and which collection are in use, and changes whenever something was written, so
that processes which search know that they must look again.
"""

import fcntl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assistant.chunking import Passage
from assistant.embeddings import Embedder, Identity
from assistant.lexical import LexicalIndex, filterable
from assistant.vectors import Vectors
from data.errors import BrogueError, DataError
from data.home import write_json
from data.settings import Frozen
from data.settings_knowledge import KnowledgeSettings, Language

if TYPE_CHECKING:
    import numpy as np

_BATCH = 1000  # passages that are embedded and stored at once
Tell = Callable[[str], None]


class State(Frozen):
    """`store.json`."""

    words: str  # folder
    vectors: str  # collection
    model: Identity
    language: Language
    written: str  # another value after each change


class KnowledgeStore:
    """The passages of one knowledge. Any thread may search; one process at a time may write."""

    _state: State
    _words: LexicalIndex
    _vectors: Vectors

    def __init__(self, folder: Path, name: str, settings: KnowledgeSettings, embedder: Embedder) -> None:
        """Open or make the store in `folder`. Raises `BrogueError` if its vectors are of another model."""
        self.name, self.embedder = name, embedder
        self._folder, self._settings = folder, settings
        self._lock = threading.RLock()
        state = read_state(folder)
        if state is None:
            state = new_state(name, embedder, settings)
            folder.mkdir(parents=True, exist_ok=True)
            self._open(state)  # before others can see it: two processes must not make one collection
            write_json(folder / "store.json", state.model_dump(mode="json"))
            return
        self._check(state)
        self._open(state)

    def count(self) -> int:
        """How many passages there are."""
        return self._words.count()

    def upsert(self, passages: Sequence[Passage], tell: Tell = lambda _: None) -> None:
        """Store passages; one with a known id takes the old one's place, and only unknown ids are embedded."""
        with self._writing(tell):
            for batch in batches(passages):
                self._words.upsert(batch)
                self._follow(batch, tell)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove passages; unknown ids are no error."""
        with self._writing():
            self._words.delete(ids)
            self._vectors.delete(ids)

    def get(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages with these ids, as far as they are there."""
        return self._words.get(ids)

    def all(self) -> Iterator[Passage]:
        """Every passage, in no particular order."""
        return self._words.all()

    def nearest(
        self, vector: "np.ndarray[Any, Any]", limit: int, filters: Mapping[str, str] | None = None
    ) -> list[tuple[str, float]]:
        """Ids and cosines of the passages nearest to `vector`."""
        with self._lock:  # it must not be closed by another thread's refresh meanwhile
            return self._vectors.search(vector, limit, filters)

    def with_words(
        self, question: str, limit: int, filters: Mapping[str, str] | None = None
    ) -> list[tuple[Passage, float]]:
        """Passages that share words with `question`, and their BM25 scores."""
        return self._words.search(question, limit, filters)

    def refresh(self) -> None:
        """Look again if another process has written since. Costs the reading of a small file."""
        state = read_state(self._folder)
        with self._lock:
            if state is None:
                self.close()  # else Chroma would go on with files that are gone, also if new ones come
                raise BrogueError(
                    f"knowledge '{self.name}' was removed; add documents: brogue knowledge add {self.name} PATH"
                )
            if state == self._state:
                return
            self._check(state)
            if (state.words, state.vectors) != (self._state.words, self._state.vectors):
                self.close()
                self._open(state)
                return
            self._words.refresh()
            self._vectors.refresh()
            self._state = state

    def repair(self, tell: Tell = lambda _: None) -> tuple[int, int]:
        """Make the vectors agree with the passages; how many were made, how many taken away."""
        with self._writing(repaired=True):
            return self._agree(tell)

    def close(self) -> None:
        """Let go of files and memory."""
        with self._lock:
            self._vectors.close()

    def _agree(self, tell: Tell) -> tuple[int, int]:
        vectors = self._vectors.ids()
        passages, made = set[str](), 0
        for batch in batches(self._words.all()):
            passages.update(p.id for p in batch)
            missing = [p for p in batch if p.id not in vectors]
            if missing:
                self._follow(missing, tell)
            made += len(missing)
        self._vectors.delete(sorted(vectors - passages))
        return made, len(vectors - passages)

    def _follow(self, batch: Sequence[Passage], tell: Tell) -> None:
        """Give passages their vectors; equal texts are embedded once."""
        known = self._vectors.known([p.id for p in batch])
        old = [p for p in batch if p.id in known]
        new = [p for p in batch if p.id not in known]
        self._vectors.describe([p.id for p in old], [filterable(p) for p in old])
        if new:
            texts = [p.searchable() for p in new]
            place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
            vectors = self.embedder.encode(list(place), "document", tell)[[place[text] for text in texts]]
            self._vectors.upsert([p.id for p in new], vectors, [filterable(p) for p in new])

    @contextmanager
    def _writing(self, tell: Tell = lambda _: None, repaired: bool = False) -> Iterator[None]:
        """One process at a time; what a dead one left unfinished is mended first, and readers are told at the end."""
        unfinished = self._folder / "unfinished"
        with lock(self._folder, self.name):
            self.refresh()
            if unfinished.exists() and not repaired:
                self._agree(tell)
            unfinished.touch()
            yield
            self._state = self._state.model_copy(update={"written": uuid.uuid4().hex})
            write_json(self._folder / "store.json", self._state.model_dump(mode="json"))
            unfinished.unlink()

    def _check(self, state: State) -> None:
        wanted = self.embedder.identity
        if (state.model, state.language) != (wanted, self._settings.language):
            was, now = f"{state.model.name} ({state.language})", f"{wanted.name} ({self._settings.language})"
            same = " with other weights" if was == now else ""
            raise BrogueError(
                f"knowledge '{self.name}' was indexed with {was}, brogue.toml now says {now}{same}; "
                f"index it again: brogue knowledge reindex {self.name}"
            )

    def _open(self, state: State) -> None:
        self._state = state
        self._words = LexicalIndex(self._folder / state.words, state.language)
        self._vectors = open_vectors(self._folder, state, self._settings)


@contextmanager
def lock(folder: Path, name: str) -> Iterator[None]:
    """One writer at a time; the system lets go of the lock when a process dies."""
    with (folder / "store.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrogueError(
                f"another process is writing to knowledge '{name}'; run it again when that is done"
            ) from None
        yield


def read_state(folder: Path) -> State | None:
    """What `store.json` says; none if there is no knowledge in `folder`."""
    path = folder / "store.json"
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: cannot be read; remove the knowledge and add its documents again") from error


def batches(passages: Sequence[Passage] | Iterator[Passage]) -> Iterator[list[Passage]]:
    """So many as are embedded and stored at once."""
    rest = iter(passages)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def new_state(name: str, embedder: Embedder, settings: KnowledgeSettings) -> State:
    """An index and a collection that are not there yet."""
    mark = uuid.uuid4().hex[:12]
    return State(
        words=f"words-{mark}", vectors=f"{name}-{mark}", model=embedder.identity, language=settings.language,
        written=mark,
    )  # fmt: skip


def open_vectors(folder: Path, state: State, settings: KnowledgeSettings) -> Vectors:
    """The collection that `state` names; it is made if it is not there."""
    about: dict[str, Any] = {**state.model.model_dump(), "language": state.language}
    return Vectors(folder / "chroma", settings.chroma_url, state.vectors, about)
