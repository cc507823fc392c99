"""Which knowledges there are; opening, indexing anew and removing them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assistant.definitions import is_advice
from assistant.embeddings import Embedder
from assistant.knowledge_store import KnowledgeStore, batches, lock, new_state, open_vectors, read_state
from assistant.lexical import LexicalIndex, filterable
from data.errors import unknown
from data.home import Home, check_name, write_json
from data.settings_knowledge import KnowledgeSettings
from data.sharing import Sharing

Tell = Callable[[str], None]


def knowledge_folder(home: Home, name: str) -> Path:
    """Where the knowledge called `name` lies."""
    return home.root / "knowledge" / check_name("a knowledge", name)


def has_documents(home: Home, name: str) -> bool:
    """Whether documents were added for `name`. Costs the look at a file's name."""
    return (home.root / "knowledge" / name / "store.json").exists()


def list_knowledge(home: Home) -> list[str]:
    """The names of all that hold something."""
    return sorted(path.parent.name for path in (home.root / "knowledge").glob("*/store.json"))


def open_knowledge(home: Home, name: str, settings: KnowledgeSettings, embedder: Embedder) -> KnowledgeStore:
    """The knowledge called `name`, or an error that lists those there are."""
    folder = knowledge_folder(home, name)
    if not has_documents(home, name):
        raise unknown("knowledge", name, list_knowledge(home), f"Add documents: brogue knowledge add {name} PATH")
    return KnowledgeStore(folder, name, settings, embedder)


@contextmanager
def changing(home: Home, name: str, settings: KnowledgeSettings) -> Iterator[None]:
    """Where homes share their documents, what is changed in the block goes to the others at its end.

    Vectors are shared by a Chroma server alone: without one every home has documents of its own. So has the advisor.
    """
    if settings.chroma_url is None or is_advice(name):
        yield
        return
    folder = knowledge_folder(home, name).relative_to(home.root).as_posix()
    with Sharing(home).changing_folder(folder, last="store.json", without=("chroma", "unfinished")):
        yield


def reindex(home: Home, name: str, settings: KnowledgeSettings, embedder: Embedder, tell: Tell = lambda _: None) -> int:
    """Embed and index all passages anew, with the model and language of the settings; how many.

    The documents are not needed. Until all is done, searches use what was there before; a kill changes nothing.
    """
    folder = knowledge_folder(home, name)
    state = read_state(folder)
    if state is None:
        raise unknown("knowledge", name, list_knowledge(home), f"Add documents: brogue knowledge add {name} PATH")
    with lock(folder, name):
        old = LexicalIndex(folder / state.words, state.language)
        new, done = new_state(name, embedder, settings), 0
        words, vectors = LexicalIndex(folder / new.words, new.language), open_vectors(folder, new, settings)
        for batch in batches(old.all()):
            words.upsert(batch)
            encoded = embedder.encode([p.searchable() for p in batch], "document")
            vectors.upsert([p.id for p in batch], encoded, [filterable(p) for p in batch])
            done += len(batch)
            tell(f"{done:,} of {old.count():,} passages")
        write_json(folder / "store.json", new.model_dump(mode="json"))
        (folder / "unfinished").unlink(missing_ok=True)
        vectors.drop(state.vectors)
        vectors.drop_others()  # of a reindex that was killed
        vectors.close()
        for stale in folder.glob("words-*"):
            if stale.name != new.words:
                shutil.rmtree(stale, ignore_errors=True)
    return done


def remove_knowledge(home: Home, name: str, settings: KnowledgeSettings) -> None:
    """Remove passages, words, vectors and the list of files."""
    folder = knowledge_folder(home, name)
    state = read_state(folder)
    if state is None:
        raise unknown("knowledge", name, list_knowledge(home), "See: brogue knowledge list")
    with lock(folder, name):
        if settings.chroma_url:
            open_vectors(folder, state, settings).drop(state.vectors)
        (folder / "store.json").unlink()
        shutil.rmtree(folder)
