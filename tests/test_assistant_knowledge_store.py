"""The store of passages: words and vectors agree, other processes see what was written, a kill loses nothing."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.knowledge_manage import knowledge_folder, list_knowledge, open_knowledge, reindex, remove_knowledge
from assistant.knowledge_store import KnowledgeStore, lock
from assistant.retrieval import search
from data.errors import BrogueError
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from tests.conftest import ROOT, free_port
from tests.knowledge_fakes import WordEmbedder, open_store, passage

SETTINGS = KnowledgeSettings()
_CHANCE = random.Random(1)
_WORDS = [f"word{n}" for n in range(500)]
MANY = [passage(f"article {n} " + " ".join(_CHANCE.sample(_WORDS, 12)), f"{n % 7}.md") for n in range(400)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KnowledgeStore]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def found(store: KnowledgeStore, question: str, **filters: str) -> list[str]:
    return [hit.passage.text for hit in search(store, question, SETTINGS, filters=filters or None).hits]


def agree(store: KnowledgeStore) -> bool:
    """Whether each passage has its one vector and no vector is without passage."""
    ids = [p.id for p in store.all()]
    return len(ids) == len(set(ids)) == store.count() and store._vectors.ids() == set(ids)


def elsewhere(code: str, folder: Path) -> "subprocess.Popen[str]":
    """Python code in another process, with `store` open on `folder`."""
    start = (
        "import sys; from pathlib import Path; from tests.knowledge_fakes import *; "
        "from tests.test_assistant_knowledge_store import MANY; store = open_store(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", start + code, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_what_is_stored_is_found_again_after_reopening(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    kept = passage(
        "Plants may be sent back within 30 days.", "returns.md", page=3, section="Returns", meta={"type": "pdf"}
    )
    first.upsert([kept, passage("We are open from nine to five.", "hours.md")])
    first.close()
    again = open_store(tmp_path)
    assert search(again, "sent back plants", SETTINGS).hits[0].passage == kept
    assert again.count() == 2
    again.close()


def test_storing_twice_changes_nothing_and_embeds_nothing(store: KnowledgeStore) -> None:
    store.upsert(MANY[:20])
    store.upsert(MANY[:20])
    assert store.embedder.embedded == 20  # type: ignore[attr-defined]
    assert store.count() == 20
    assert agree(store)


def test_equal_texts_are_embedded_once(store: KnowledgeStore) -> None:
    store.upsert([passage("All rights reserved.", f"{n}.md") for n in range(30)])
    assert store.embedder.embedded == 1  # type: ignore[attr-defined]
    assert agree(store)


def test_a_known_passage_takes_its_new_page_and_meta(store: KnowledgeStore) -> None:
    old = passage("Plants are watered on Mondays.", page=1, meta={"year": "2025"})
    store.upsert([old])
    store.upsert([old.model_copy(update={"page": 2, "meta": {"year": "2026"}})])
    assert store.get([old.id])[old.id].page == 2
    assert found(store, "watered plants", year="2026") == [old.text]
    assert found(store, "watered plants", year="2025") == []


def test_what_is_deleted_is_found_no_more(store: KnowledgeStore) -> None:
    store.upsert(MANY[:10])
    store.delete([p.id for p in MANY[:4]] + ["no such id"])
    assert store.count() == 6
    assert agree(store)
    assert MANY[0].text not in found(store, MANY[0].text)


@pytest.mark.slow
def test_another_process_sees_what_was_written_and_removed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.upsert([passage("Something else.")])
    assert found(store, "article 17 costs")[:1] == ["Something else."]
    assert elsewhere("store.upsert(MANY)", tmp_path).wait() == 0
    assert found(store, MANY[17].text)[0] == MANY[17].text
    assert elsewhere("store.delete([MANY[17].id])", tmp_path).wait() == 0
    hits = search(store, MANY[17].text, SETTINGS).hits
    assert MANY[17].id not in [hit.passage.id for hit in hits]
    assert hits[0].cosine is not None
    store.close()


def test_two_writers_at_once_are_one_line(store: KnowledgeStore, tmp_path: Path) -> None:
    with lock(tmp_path / "store", "acme"), pytest.raises(BrogueError, match="another process is writing to knowledge"):
        store.upsert(MANY[:1])


def test_another_embedding_model_is_noticed_and_reindex_mends_it(home: Home) -> None:
    folder = knowledge_folder(home, "acme")
    store = KnowledgeStore(folder, "acme", SETTINGS, WordEmbedder())
    store.upsert(MANY[:50])
    store.close()
    other = WordEmbedder("words-32", 32)
    with pytest.raises(BrogueError, match="indexed with words-64 .* says words-32 .*brogue knowledge reindex acme"):
        open_knowledge(home, "acme", SETTINGS, other)
    assert reindex(home, "acme", SETTINGS, other) == 50
    store = open_knowledge(home, "acme", SETTINGS, other)
    assert found(store, MANY[7].text)[0] == MANY[7].text
    assert agree(store)
    assert len(list(folder.glob("words-*"))) == 1
    store.close()


def test_a_reader_follows_a_reindex_to_another_language(home: Home) -> None:
    german = KnowledgeSettings(language="german")
    store = KnowledgeStore(knowledge_folder(home, "acme"), "acme", SETTINGS, WordEmbedder())
    store.upsert([passage("Die Rückgabe der Pflanzen ist kostenlos.")])
    reindex(home, "acme", german, WordEmbedder())
    with pytest.raises(BrogueError, match="reindex acme"):
        search(store, "Pflanze", SETTINGS)
    again = open_knowledge(home, "acme", german, WordEmbedder())
    assert again.with_words("Pflanze", 5)
    store.close()
    again.close()


def test_unknown_and_removed_knowledge_is_one_line(home: Home) -> None:
    with pytest.raises(BrogueError, match="no knowledge 'acme'; have: none yet. Add documents"):
        open_knowledge(home, "acme", SETTINGS, WordEmbedder())
    KnowledgeStore(knowledge_folder(home, "acme"), "acme", SETTINGS, WordEmbedder()).close()
    assert list_knowledge(home) == ["acme"]
    remove_knowledge(home, "acme", SETTINGS)
    assert list_knowledge(home) == []
    assert not knowledge_folder(home, "acme").exists()


@pytest.mark.slow
def test_a_knowledge_removed_and_made_anew_by_others_is_followed(home: Home) -> None:
    folder = knowledge_folder(home, "acme")
    store = KnowledgeStore(folder, "acme", SETTINGS, WordEmbedder())
    store.upsert(MANY[:30])
    assert found(store, MANY[3].text)[0] == MANY[3].text
    shutil.rmtree(folder)
    with pytest.raises(BrogueError, match="was removed; add documents: brogue knowledge add acme PATH"):
        search(store, "anything", SETTINGS)
    assert elsewhere("store.upsert(MANY[100:200])", folder).wait() == 0
    assert found(store, MANY[150].text)[0] == MANY[150].text
    assert store.count() == 100
    store.close()


def test_what_a_dead_process_left_undone_is_mended_by_the_next_write(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.upsert(MANY[:20])
    store._words.upsert(MANY[20:30])  # the passages are there, the vectors are not yet
    store._words.delete([MANY[0].id])  # and the other way round
    (tmp_path / "unfinished").touch()
    assert not agree(store)
    store.upsert(MANY[30:31])
    assert agree(store)
    assert store.count() == 30
    assert not (tmp_path / "unfinished").exists()
    store.close()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_was_stored_stays(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.upsert(MANY[:20])
    store.close()
    code = """
import resource
from data.errors import BrogueError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.upsert(MANY)
except BrogueError as error:
    print(error)
"""
    process = elsewhere(code, tmp_path)
    assert process.stdout
    said = process.stdout.read()
    assert process.wait() == 0
    assert said.count("\n") == 1, said
    store = open_store(tmp_path)
    assert found(store, MANY[7].text)[0] == MANY[7].text
    store.upsert(MANY)
    assert agree(store)
    assert store.count() == len(MANY)
    store.close()


def test_a_reindex_takes_away_what_a_killed_one_left(home: Home) -> None:
    folder = knowledge_folder(home, "acme")
    store = KnowledgeStore(folder, "acme", SETTINGS, WordEmbedder())
    store.upsert(MANY[:20])
    (folder / "words-left").mkdir()
    store._vectors._client.create_collection("acme-left", embedding_function=None)
    reindex(home, "acme", SETTINGS, WordEmbedder())
    store.refresh()
    assert len(list(folder.glob("words-*"))) == 1
    assert len(store._vectors._client.list_collections()) == 1
    assert agree(store)
    store.close()


def test_lost_vectors_are_made_again_without_the_documents(home: Home) -> None:
    folder = knowledge_folder(home, "acme")
    store = KnowledgeStore(folder, "acme", SETTINGS, WordEmbedder())
    store.upsert(MANY[:20])
    store.close()
    shutil.rmtree(folder / "chroma")
    store = open_knowledge(home, "acme", SETTINGS, WordEmbedder())
    assert store.repair() == (20, 0)
    assert found(store, MANY[3].text)[0] == MANY[3].text
    store.close()


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(5)
    code = """
print("ready", flush=True)
while True:
    for begin in range(0, 400, 25):
        store.upsert(MANY[begin:begin + 25])
        store.delete([p.id for p in MANY[begin:begin + 25:5]])
        store.upsert(MANY[begin:begin + 25:5])
"""
    for _ in range(7):
        process = elsewhere(code, tmp_path / "store")
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 1.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    store, clean = open_store(tmp_path / "store"), open_store(tmp_path / "clean")
    store.upsert(MANY)
    clean.upsert(MANY)
    assert agree(store)
    assert store.count() == len(MANY)
    for wanted in MANY[::10]:
        assert found(store, wanted.text) == found(clean, wanted.text)
        vector = store.embedder.encode([wanted.searchable()], "query")[0]
        assert store.nearest(vector, 1)[0][1] > 0.999  # its own vector is in the graph
    store.close()
    clean.close()


@pytest.mark.slow
def test_a_chroma_server_by_url_holds_the_vectors(tmp_path: Path) -> None:
    port = free_port()
    chroma = Path(sys.executable).with_name("chroma")
    words = [str(chroma), "run", "--path", str(tmp_path / "server"), "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        store = None
        for _ in range(240):
            try:
                store = open_store(tmp_path / "store", chroma_url=f"http://127.0.0.1:{port}")
                break
            except BrogueError:
                time.sleep(0.5)
        assert store
        store.upsert(MANY[:30])
        store.delete([MANY[1].id])
        assert agree(store)
        assert found(store, MANY[4].text)[0] == MANY[4].text
        assert not (tmp_path / "store" / "chroma").exists()
    finally:
        server.terminate()
        server.wait()


def test_a_chroma_server_that_is_down_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrogueError, match="is the server up"):
        open_store(tmp_path, chroma_url=f"http://127.0.0.1:{free_port()}")
