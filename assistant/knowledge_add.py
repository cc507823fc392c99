"""Bringing documents into a knowledge: read what is new or changed, store its passages, take away what is stale.

A batch's passages stand in the manifest before they are stored, so that a kill at any moment leaves nothing in the
store that the next run does not know of; that run does the batch again, and storing twice changes nothing.
"""

import fcntl
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from assistant.chunking import Chunking, Count, Passage, count_words, cut
from assistant.documents import cleaner
from assistant.knowledge_files import SourceFile, find_files, one_clear_line, sha256_of
from assistant.knowledge_plan import Action, FileEntry, Manifest, State, load_manifest, plan, save_manifest
from assistant.loaders import load
from data.errors import BrogueError, unknown

if TYPE_CHECKING:
    from assistant.embeddings import Embedder

Tell = Callable[[str], None]

LOADERS = 1  # counted up when loaders or chunking give other passages than before: then all files are read again
_MARKS = 8  # tokens: the model's own marks, and what joining pieces may cost
_BATCH = 1000  # passages between two writes of the manifest


class Store(Protocol):
    """Where passages are kept. Both calls may be repeated."""

    def upsert(self, passages: Sequence[Passage], tell: Tell = ...) -> None:
        """Store them; one with a known id takes the old one's place."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove them; unknown ids are no error."""


@dataclass(frozen=True)
class Recipe:
    """How files become passages."""

    chunking: Chunking = Chunking()
    count: Count = count_words
    counted_in: str = "words"  # names what `count` counts: the embedding model's identity
    template_tokens: tuple[str, ...] = ()  # of the base model's chat template

    @property
    def identity(self) -> str:
        """The same for recipes that give the same passages."""
        whole = (LOADERS, self.chunking.model_dump_json(), self.counted_in, sorted(self.template_tokens))
        return hashlib.sha256(repr(whole).encode()).hexdigest()


def recipe_for(embedder: "Embedder", template_tokens: Sequence[str] = ()) -> Recipe:
    """Passages that the embedding model reads to their end; models that read much get small ones all the same."""
    room = max(16, embedder.max_tokens - _MARKS)
    chunking = Chunking(max_tokens=min(Chunking().max_tokens, room))
    return Recipe(chunking, embedder.count_tokens, embedder.identity.model_dump_json(), tuple(template_tokens))


@dataclass
class Added:
    """What came of it: files by state, passages, and one line for each file that was left out or read in part."""

    files: Counter[State] = field(default_factory=Counter)
    stored: int = 0  # passages written
    removed: int = 0  # passages taken away
    passages: int = 0  # in the knowledge afterwards
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add(
    paths: Sequence[Path],
    manifest_file: Path,
    store: Store,
    recipe: Recipe | None = None,
    sync: bool = False,
    tell: Tell = lambda _: None,
) -> Added:
    """Bring the passages of `paths` (files, folders) into `store`; with `sync` those of files that are gone go too.

    A file that cannot be read is a line in `problems`, and what an earlier version of it gave stays.
    """
    recipe, done = recipe or Recipe(), Added()
    with _alone(manifest_file):
        tell("looking for files")
        found = find_files(paths)
        done.problems, done.notes = found.problems, found.notes
        work = _Work(manifest_file, store, recipe, done, tell)
        actions = plan(work.manifest, found, recipe.identity, _digest, cleaner(recipe.template_tokens))
        done.files.update(action.state for action in actions)
        work.touch([a for a in actions if a.state == "touched"])
        work.read([a for a in actions if a.state in ("new", "changed")])
        work.gone([a.source for a in actions if a.state == "gone"], sync)
        done.passages = work.manifest.passages
    return done


def remove(names: Sequence[str], manifest_file: Path, store: Store) -> Added:
    """Take documents out of a knowledge: by the names they are cited with, or folders of those."""
    done = Added()
    with _alone(manifest_file):
        work = _Work(manifest_file, store, Recipe(), done, lambda _: None)
        sources = list[str]()
        for name in names:
            found = [s for s in work.manifest.files if s == name or s.startswith(name.rstrip("/") + "/")]
            if not found:
                raise unknown("document", name, list(work.manifest.files)[:9], "See all: brogue knowledge list")
            sources += found
        done.files["gone"] = len(set(sources))
        work.gone(list(dict.fromkeys(sources)), sync=True)
        done.passages = work.manifest.passages
    return done


@contextmanager
def _alone(manifest_file: Path) -> Iterator[None]:
    """One `add` at a time for each knowledge; the system lets go of the lock when a process dies."""
    manifest_file.parent.mkdir(parents=True, exist_ok=True)
    with manifest_file.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrogueError(
                "another 'brogue knowledge add' is at work on these documents; wait until it is done and run it again"
            ) from None
        yield


def _digest(file: SourceFile) -> str:
    """The hash of a file; '' where it cannot be read or was written just now: then it is read again next time."""
    try:
        digest, now = sha256_of(file), file.path.stat()
    except OSError:
        return ""
    return digest if (now.st_size, now.st_mtime_ns) == (file.size, file.mtime_ns) else ""


class _Work:
    """Does the actions and keeps the manifest in step with the store."""

    def __init__(self, manifest_file: Path, store: Store, recipe: Recipe, done: Added, tell: Tell) -> None:
        self.manifest_file, self.store, self.recipe, self.done, self.tell = manifest_file, store, recipe, done, tell
        self.manifest = load_manifest(manifest_file)
        self.batch = list[tuple[str, FileEntry, list[Passage]]]()

    def touch(self, actions: Sequence[Action]) -> None:
        """Remember the new times, so that these files need not be hashed again."""
        times = {a.source: a.file.mtime_ns for a in actions if a.file}
        if times:
            old = self.manifest.files
            self._write({source: old[source].model_copy(update={"mtime_ns": ns}) for source, ns in times.items()})

    def read(self, actions: Sequence[Action]) -> None:
        """Read files and store their passages, batch by batch."""
        waiting = 0
        for number, action in enumerate(actions, 1):
            assert action.file  # only what is gone has none
            self.tell(f"{number} of {len(actions)} files, {self.done.stored:,} passages: {action.source}")
            passages = self._passages(action.source, action.file)
            waiting += passages
            if waiting >= _BATCH:
                self._store()
                waiting = 0
        self._store()

    def gone(self, sources: Sequence[str], sync: bool) -> None:
        """Take away the passages of deleted files, or say that they are still there."""
        if sources and not sync:
            names = ", ".join(sources[:3]) + (", …" if len(sources) > 3 else "")
            subject = f"{len(sources)} files are gone" if len(sources) > 1 else "a file is gone"
            self.done.notes.append(f"{subject} ({names}), its passages are kept; to remove them add --sync")
            return
        ids = [id for source in sources for id in self.manifest.files[source].passages]
        if sources:
            self.store.delete(ids)
            self.done.removed += len(ids)
            self._write({}, without=set(sources))

    def _passages(self, source: str, file: SourceFile) -> int:
        """Put one file's passages into the batch; a file that cannot be read becomes a line."""
        try:
            document = load(file.path, source, self.recipe.template_tokens)
            sha256 = _digest(file)
        except BrogueError as error:
            kept = "; what it held before is kept" if source in self.manifest.files else ""
            self.done.problems.append(one_clear_line(f"{error}{kept}"))
            return 0
        self.done.notes += map(one_clear_line, document.notes)
        passages = cut(document, self.recipe.count, self.recipe.chunking)
        entry = FileEntry(
            path=file.key, size=file.size, mtime_ns=file.mtime_ns, sha256=sha256, recipe=self.recipe.identity,
            passages=tuple(p.id for p in passages),
        )  # fmt: skip
        self.batch.append((source, entry, passages))
        return len(passages)

    def _store(self) -> None:
        if not self.batch:
            return
        batch, self.batch = self.batch, []
        old = {source: self._known(source) for source, _, _ in batch}
        both = {s: tuple(dict.fromkeys([*old[s], *entry.passages])) for s, entry, _ in batch}
        self._write({s: entry.model_copy(update={"sha256": "", "passages": both[s]}) for s, entry, _ in batch})
        new = (passage for _, _, passages in batch for passage in passages)
        while some := list(islice(new, _BATCH)):
            self.store.upsert(some, self.tell)
            self.done.stored += len(some)
        stale = [id for source, entry, _ in batch for id in set(old[source]) - set(entry.passages)]
        if stale:
            self.store.delete(stale)
            self.done.removed += len(stale)
        self._write({source: entry for source, entry, _ in batch})

    def _known(self, source: str) -> tuple[str, ...]:
        entry = self.manifest.files.get(source)
        return entry.passages if entry else ()

    def _write(self, entries: dict[str, FileEntry], without: Collection[str] = ()) -> None:
        files = {s: e for s, e in (self.manifest.files | entries).items() if s not in without}
        self.manifest = Manifest(files=files)
        save_manifest(self.manifest_file, self.manifest)
