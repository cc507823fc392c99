"""Adding documents: only what changed is read again, what is gone can go, and nothing stops the rest from coming in."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.chunking import Chunking, Passage
from assistant.documents import Document
from assistant.embeddings import Identity
from assistant.knowledge_add import Added, Recipe, Tell, add, recipe_for, remove
from assistant.knowledge_files import Found, SourceFile, find_files
from assistant.knowledge_plan import FileEntry, Manifest, load_manifest, plan
from assistant.loaders import load
from data.errors import BrogueError
from tests.conftest import ROOT


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.passages: dict[str, Passage] = {}
        self.upserts = 0

    def upsert(self, passages: Sequence[Passage], tell: Tell = print) -> None:
        tell(f"{len(passages)} passages")
        self.upserts += 1
        self.passages |= {p.id: p for p in passages}

    def delete(self, ids: Sequence[str]) -> None:
        for one in ids:
            self.passages.pop(one, None)

    @property
    def texts(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for p in self.passages.values():
            found.setdefault(p.source, []).append(p.text)
        return found


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nHot.")
    (folder / "milk.txt").write_text("Milk is white.")
    return folder


def put(docs: Path, shelf: Shelf, sync: bool = False, recipe: Recipe | None = None) -> Added:
    return add([docs], docs.parent / "manifest.json", shelf, recipe, sync)


# --- incremental


def test_the_second_time_nothing_is_read(docs: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(docs, shelf)
    assert (first.files["new"], first.stored, first.passages) == (2, 2, 2)
    monkeypatch.setattr("assistant.knowledge_add.load", None)
    monkeypatch.setattr("assistant.knowledge_add.sha256_of", None)
    second = put(docs, shelf)
    assert (second.files["unchanged"], second.stored, shelf.upserts) == (2, 0, 1)


def test_a_changed_file_has_its_passages_replaced(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    (docs / "tea.md").write_text("# Tea\n\nCold.")
    done = put(docs, shelf)
    assert (done.files["changed"], done.files["unchanged"], done.removed) == (1, 1, 1)
    assert shelf.texts == {"docs/tea.md": ["# Tea\n\nCold."], "docs/milk.txt": ["Milk is white."]}


def test_a_change_of_one_paragraph_leaves_the_ids_of_the_others(docs: Path, shelf: Shelf) -> None:
    parts = [f"# Part {i}\n\nText {i}." for i in range(9)]
    (docs / "tea.md").write_text("\n\n".join(parts))
    put(docs, shelf)
    before = set(shelf.passages)
    (docs / "tea.md").write_text("\n\n".join(["# New\n\nAdded.", *parts[:-1]]))
    put(docs, shelf)
    kept = [shelf.passages[i].text for i in before & set(shelf.passages)]
    assert "# Part 0\n\nText 0." not in kept  # the title of the document is its first heading: all of it has changed
    (docs / "tea.md").write_text("\n\n".join(["# New\n\nAdded.", *parts]))
    before = set(shelf.passages)
    put(docs, shelf)
    assert before < set(shelf.passages)


def test_a_file_that_was_only_touched_is_not_read_again(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    os.utime(docs / "tea.md", ns=(1, 1))
    assert put(docs, shelf).files["touched"] == 1
    assert put(docs, shelf).files["unchanged"] == 2
    assert shelf.upserts == 1


def test_what_is_gone_stays_until_sync(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    (docs / "tea.md").unlink()
    done = put(docs, shelf)
    assert done.notes == ["a file is gone (docs/tea.md), its passages are kept; to remove them add --sync"]
    assert len(shelf.passages) == 2
    done = put(docs, shelf, sync=True)
    assert (done.files["gone"], done.removed, done.passages) == (1, 1, 1)
    assert set(shelf.texts) == {"docs/milk.txt"}
    assert put(docs, shelf, sync=True).files["gone"] == 0


def test_sync_leaves_alone_what_was_added_from_elsewhere(docs: Path, shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("Other.")
    manifest = tmp_path / "manifest.json"
    add([docs, tmp_path / "other.md"], manifest, shelf)
    (tmp_path / "other.md").unlink()
    assert add([docs], manifest, shelf, sync=True).files["gone"] == 0
    assert "other.md" in shelf.texts


def test_an_empty_folder_may_be_a_drive_that_is_missing_so_nothing_goes(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    for file in docs.iterdir():
        file.unlink()
    done = put(docs, shelf, sync=True)
    assert done.problems[0].startswith(f"{docs}: no documents in this folder (empty); wanted .md, ")
    assert len(shelf.passages) == 2
    docs.rmdir()
    assert put(docs, shelf, sync=True).problems[0].startswith(f"{docs}: no such file or folder")
    assert len(shelf.passages) == 2


def test_other_chunks_or_another_model_mean_reading_again(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    for recipe in (Recipe(counted_in="b"), Recipe(Chunking(max_tokens=50)), Recipe(template_tokens=("<s>",))):
        assert put(docs, shelf, recipe=recipe).files["changed"] == 2
        assert put(docs, shelf, recipe=recipe).files["unchanged"] == 2
    assert len(shelf.passages) == 2


class Model:
    """An embedding model as far as chunking asks it."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.identity = Identity(name="small", sha256="0", dimension=3)

    def count_tokens(self, text: str) -> int:
        return len(text)

    def encode(self, texts: Sequence[str], kind: str, tell: Tell = print) -> Any:
        raise NotImplementedError((texts, kind, tell))


def test_passages_are_as_long_as_the_embedding_model_reads(docs: Path, shelf: Shelf) -> None:
    (docs / "tea.md").write_text("Some words. " * 99)
    put(docs, shelf, recipe=recipe_for(Model(max_tokens=108)))
    assert 80 < max(len(p.searchable()) for p in shelf.passages.values()) <= 108
    assert recipe_for(Model(max_tokens=8192)).chunking == Chunking()


def test_one_file_of_a_folder_that_was_added_keeps_its_name(docs: Path, shelf: Shelf, tmp_path: Path) -> None:
    put(docs, shelf)
    (docs / "tea.md").write_text("Cold.")
    add([docs / "tea.md"], tmp_path / "manifest.json", shelf)
    assert shelf.texts["docs/tea.md"] == ["Cold."]
    assert len(shelf.passages) == 2


def test_files_of_one_name_from_two_folders_are_told_apart(tmp_path: Path, shelf: Shelf) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "docs").mkdir(parents=True)
        (tmp_path / name / "docs" / "x.md").write_text(f"Of {name}.")
    for name in ("a", "b"):
        add([tmp_path / name / "docs"], tmp_path / "manifest.json", shelf)
    assert shelf.texts == {"docs/x.md": ["Of a."], "b/docs/x.md": ["Of b."]}


def test_the_plan_asks_for_a_hash_only_where_it_must() -> None:
    def entry(name: str, **more: object) -> FileEntry:
        given = {"path": f"/d/{name}", "size": 1, "mtime_ns": 1, "sha256": "old", "recipe": "r", "passages": ()}
        return FileEntry.model_validate(given | more)

    there = {"same": (1, 1), "grown": (2, 1), "touched": (1, 2), "other": (1, 2), "half": (1, 1), "new": (1, 1)}
    files = [SourceFile(Path(f"/d/{name}"), *numbers, depth=2) for name, numbers in there.items()]
    known = {"same": {}, "grown": {}, "touched": {}, "other": {}, "half": {"sha256": ""}, "lost": {}}
    manifest = Manifest(files={f"d/{name}": entry(name, **more) for name, more in known.items()})
    asked = list[str]()

    def digest(file: SourceFile) -> str:
        asked.append(file.path.name)
        return "old" if file.path.name == "touched" else "new"

    actions = plan(manifest, Found(files, folders=["/d"]), "r", digest)
    assert {a.source: a.state for a in actions} == {
        "d/same": "unchanged", "d/grown": "changed", "d/touched": "touched", "d/other": "changed", "d/half": "changed",
        "d/new": "new", "d/lost": "gone",
    }  # fmt: skip
    assert asked == ["touched", "other"]


def test_a_file_written_while_it_is_read_is_read_again(
    docs: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(path: Path, *rest: object) -> Document:
        document = load(path, *rest)  # type: ignore[arg-type]
        path.write_text("Newer!")
        os.utime(path, ns=(7, 7))
        return document

    monkeypatch.setattr("assistant.knowledge_add.load", slow)
    put(docs, shelf)
    monkeypatch.undo()
    put(docs, shelf)
    assert shelf.texts == {"docs/tea.md": ["Newer!"], "docs/milk.txt": ["Newer!"]}


def test_a_document_or_a_folder_is_removed_by_name(docs: Path, shelf: Shelf) -> None:
    (docs / "inner").mkdir()
    (docs / "inner" / "a.md").write_text("A.")
    put(docs, shelf)
    manifest = docs.parent / "manifest.json"
    with pytest.raises(BrogueError, match="no document 'docs/coffee.md'; have: docs/inner/a.md"):
        remove(["docs/coffee.md"], manifest, shelf)
    assert remove(["docs/inner", "docs/tea.md"], manifest, shelf).removed == 2
    assert set(shelf.texts) == {"docs/milk.txt"} == set(load_manifest(manifest).files)
    assert put(docs, shelf).files["new"] == 2


# --- bad input


def test_a_bad_file_is_one_line_and_the_rest_goes_in(docs: Path, shelf: Shelf) -> None:
    (docs / "empty.pdf").touch()
    (docs / "zip.docx").write_bytes(b"PK\x05\x06" + b"\0" * 18)
    (docs / "junk.txt").write_bytes(bytes(range(256)) * 99)
    with (docs / "huge.txt").open("wb") as file:
        file.truncate(200 * 2**20)
    done = put(docs, shelf)
    assert len(done.problems) == 4
    assert all(line.startswith(str(docs)) and "\n" not in line for line in done.problems)
    assert len(shelf.passages) == 2
    assert set(load_manifest(docs.parent / "manifest.json").files) == {"docs/milk.txt", "docs/tea.md"}


def test_what_a_file_held_before_it_broke_is_kept_and_it_is_tried_again(docs: Path, shelf: Shelf) -> None:
    put(docs, shelf)
    (docs / "tea.md").write_bytes(b"\0")
    for _ in range(2):
        assert put(docs, shelf).problems[0].endswith("; what it held before is kept")
    assert len(shelf.passages) == 2


def test_odd_names_are_taken_and_never_lead_elsewhere(docs: Path, shelf: Shelf) -> None:
    names = ["with space.md", "🫖 tea.md", "up\\..\\..\\x.md", "a\nb\x1b[31m.md", "-rf.md", "%2e%2e%2f.md"]
    for name in names:
        (docs / name).write_text("Text.")
    (Path(os.fsdecode(os.fsencode(docs) + b"/bad\xff.md"))).write_text("Text.")
    done = add([docs / ".." / "docs"], docs.parent / "manifest.json", shelf)
    assert done.problems == []
    assert set(shelf.texts) == {"docs/tea.md", "docs/milk.txt", "docs/with space.md", "docs/🫖 tea.md",
                                "docs/up\\..\\..\\x.md", "docs/a b[31m.md", "docs/-rf.md", "docs/%2e%2e%2f.md",
                                "docs/bad.md"}  # fmt: skip
    assert put(docs, shelf).files["unchanged"] == 9


def test_a_name_cannot_bring_template_tokens_into_the_prompt(docs: Path, shelf: Shelf) -> None:
    (docs / "a<|im_end|>.md").write_text("Text.")
    put(docs, shelf, recipe=Recipe(template_tokens=("<|im_end|>",)))
    assert "docs/a .md" in shelf.texts
    assert not any("im_end" in p.title for p in shelf.passages.values())


def test_links_are_followed_within_the_folder_only_and_loops_are_not_walked(docs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("Secret.")
    (docs / "loop").symlink_to(docs)
    (docs / "self.md").symlink_to(docs / "self.md")
    (docs / "out.md").symlink_to(tmp_path / "secret.md")
    (docs / "away").symlink_to(tmp_path)
    (docs / "again.md").symlink_to(docs / "tea.md")
    (docs / "..data").mkdir()
    (docs / "..data" / "mounted.md").write_text("As Kubernetes mounts a ConfigMap.")
    (docs / "mounted.md").symlink_to(docs / "..data" / "mounted.md")
    found = find_files([docs])
    assert [f.path.name for f in found.files] == ["milk.txt", "tea.md", "mounted.md"]
    assert found.problems == [f"{docs}/self.md: a link that leads nowhere; mend or remove it"]
    assert found.notes == [f"{docs}: 2 links lead out of the folder (away, out.md); add what is meant by its name"]


def test_hidden_files_and_other_kinds_are_passed_over_and_told(docs: Path) -> None:
    for name in (".hidden.md", "~$open.docx", "photo.PNG", "Makefile"):
        (docs / name).write_text("x")
    (docs / ".git").mkdir()
    (docs / ".git" / "x.md").write_text("x")
    found = find_files([docs])
    assert len(found.files) == 2
    assert found.notes[0].startswith(f"{docs}: 2 files of other kinds passed over (")


def test_each_file_comes_in_once_however_often_it_is_named(docs: Path) -> None:
    assert len(find_files([docs, docs / "tea.md", docs.parent, docs]).files) == 2


def test_what_is_no_file_is_one_line(docs: Path) -> None:
    os.mkfifo(docs / "pipe.md")
    found = find_files([Path("/dev/null"), docs / "pipe.md", docs / "none.md", docs / "a.png", docs])
    assert [line.partition(": ")[2].partition(";")[0] for line in found.problems] == [
        "not a file but a device or a pipe", "not a file but a device or a pipe", "no such file or folder",
        "no such file or folder",
    ]  # fmt: skip
    assert len(found.files) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_line_and_what_it_held_is_not_gone(docs: Path, shelf: Shelf) -> None:
    (docs / "inner").mkdir()
    (docs / "inner" / "a.md").write_text("A.")
    put(docs, shelf)
    (docs / "inner").chmod(0)
    try:
        done = put(docs, shelf, sync=True)
    finally:
        (docs / "inner").chmod(0o755)
    assert done.files["gone"] == 0
    assert "the folder cannot be read" in done.problems[0]


def test_what_a_folder_that_cannot_be_listed_held_is_not_gone() -> None:
    found = Found(folders=["/d"], unread=["/d/inner"])
    assert found.looked_through("/d/a.md")
    assert not found.looked_through("/d/inner/a.md")
    assert not found.looked_through("/d2/a.md")


def test_a_broken_manifest_is_one_line(docs: Path, shelf: Shelf) -> None:
    (docs.parent / "manifest.json").write_text("{")
    with pytest.raises(BrogueError, match="no list of files that can be read; remove it and add the documents again"):
        put(docs, shelf)


# --- killed

KILLED = """
    import sys, time
    from pathlib import Path
    from assistant.knowledge_add import add
    import assistant.knowledge_add as module
    module._BATCH = 3

    class Disk:
        def __init__(self, folder): self.folder = folder
        def upsert(self, passages, tell):
            print(flush=True)
            for p in passages:
                (self.folder / p.id).write_text(p.text); time.sleep(0.002)
        def delete(self, ids):
            for one in ids:
                (self.folder / one).unlink(missing_ok=True); time.sleep(0.002)

    root = Path(sys.argv[1])
    add([root / "docs"], root / "manifest.json", Disk(root / "shelf"), sync=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_leaves_each_passage_exactly_once(docs: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = 0
    for turn in range(10):
        for i in range(20):
            (docs / f"{i}.md").write_text(f"# File {i}\n\nText {(turn * i) % 7}.\n\n# More\n\nTurn {turn}.")
        (docs / f"{turn}.md").unlink()
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()  # the first batch is being stored
            time.sleep(0.013 * turn)
            killed += process.poll() is None
            process.kill()
    assert killed > 3  # else it was over too soon to say anything
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    clean = Shelf()
    add([docs], tmp_path / "clean.json", clean)
    assert {p.name: p.read_text() for p in shelf.iterdir()} == {i: p.text for i, p in clean.passages.items()}


def test_two_at_once_are_refused_in_one_line(docs: Path, shelf: Shelf) -> None:
    class Slow(Shelf):
        def upsert(self, passages: Sequence[Passage], tell: Tell = print) -> None:
            with pytest.raises(BrogueError, match="another 'brogue knowledge add' is at work"):
                put(docs, shelf)
            super().upsert(passages, tell)

    assert put(docs, Slow()).stored == 2
