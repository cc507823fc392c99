"""Files that the homes of several gateways have in common: a table says which there are, their bytes lie with the
artefacts, and every home holds a copy.

The table is the truth. A change is put there first and into the home then, under a lock of the home's; a home that
lacks it brings itself up to date (`pull`). So a kill at any moment leaves the old state or the new one, here and there.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from data.artefacts import Artefacts
from data.errors import BrogueError
from data.home import Home, sha256_of, write_json
from data.judgements import now
from data.store import Store
from data.store_schema import SharedFileRow

CHANNEL = "brogue_shared"  # of PostgreSQL's NOTIFY: something was published
AGAIN_S = 30.0  # so long what could not be fetched is let be
ASIDE = ".mine"  # what was changed here and not published is kept under this ending when another's change comes
_PUBLISHING = 7_236_402_318  # PostgreSQL's advisory lock: revisions become visible in their order
_UNCHANGING = re.compile(r"adapters/[^/]+/\d+/")  # a version's folder
_SHARED = re.compile(r"(adapters|assistants|knowledge)/")  # nothing else of a home is written here


@dataclass(frozen=True)
class Pulled:
    """What a look at the table brought."""

    changed: list[str] = field(default_factory=list)  # paths
    problems: list[str] = field(default_factory=list)  # one line each; tried again at the next look


@dataclass
class _Known:
    """`<home>/shared.json`: how far this home has come."""

    revision: int = 0  # all up to here was brought here
    files: dict[str, str | None] = field(default_factory=dict)  # path → SHA-256 as it was when it came


class Shared:
    """The shared files of one home. Any number of processes of the home may use it at once."""

    def __init__(self, store: Store, artefacts: Artefacts, home: Home) -> None:
        self.store = store
        self._artefacts, self._home = artefacts, home
        self._failed: dict[tuple[str, int], tuple[str, float]] = {}  # path, revision → what was wrong, and when

    def listed(self) -> dict[str, SharedFileRow]:
        """What there is, by path below the home."""
        with self.store.reading() as session:
            rows = session.scalars(select(SharedFileRow).where(SharedFileRow.sha256.is_not(None)))
            return {row.path: row for row in rows.all()}

    def pull(self) -> Pulled:
        """Bring what others have changed. Raises `StoreDown`."""
        with self._alone():
            known, pulled = self._known(), Pulled()
            with self.store.reading() as session:
                query = select(SharedFileRow).where(SharedFileRow.revision > known.revision)
                rows = [(r.path, r.revision, r.sha256) for r in session.scalars(query.order_by(SharedFileRow.revision))]
            broken: set[str] = set()  # folders: of a version that lacks a file the card must not come
            for path, revision, sha256 in rows:
                folder = str(Path(path).parent)
                try:
                    if folder not in broken and self._tried(path, revision, sha256, known):
                        pulled.changed.append(path)
                except BrogueError as error:
                    pulled.problems.append(f"{path}: {error}")
                    broken.add(folder)
                if not broken:
                    known.revision = revision
            if rows:
                self._write_known(known)
            return pulled

    @contextmanager
    def changing(self, what: str, under: str) -> Iterator[None]:
        """The newest state of what lies below the folder `under` is here, and nobody else changes `what` meanwhile."""
        with self.store.writing() as session:
            session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 7))"), {"what": what})
            for problem in self.pull().problems:
                if problem.startswith(f"{under}/"):
                    raise BrogueError(f"this home is not up to date with the others: {problem}")
            yield

    def publish(self, files: Mapping[str, Path | None], then: Callable[[], object] = lambda: None) -> None:
        """Put files (path below the home → what it is to hold, or none: it goes) there for all, then do `then` here.

        They become visible in the order given, all at once. Raises `BrogueError`, and then nothing was changed.
        """
        hashes = {path: None if source is None else self._artefacts.put(source) for path, source in files.items()}
        with self._alone():
            with self.store.writing() as session:
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PUBLISHING})
                newest = session.scalar(select(func.max(SharedFileRow.revision))) or 0
                rows = [
                    {"path": path, "revision": newest + number, "sha256": sha256, "changed": now()}
                    for number, (path, sha256) in enumerate(hashes.items(), 1)
                ]
                if rows:
                    query = insert(SharedFileRow).values(rows)
                    changed = {name: query.excluded[name] for name in ("revision", "sha256", "changed")}
                    session.execute(query.on_conflict_do_update(index_elements=["path"], set_=changed))
                    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
            then()
            known = self._known()
            known.files |= hashes
            self._write_known(known)

    def publish_folder(self, folder: str, last: str, without: Collection[str] = ()) -> None:
        """Let the others have a folder as it is here, its file `last` after all others. What is gone goes, bytes too.

        Locks and the parts of it in `without` stay at home.
        """
        root = self._home.root / folder
        found = [one.relative_to(root) for one in root.rglob("*") if one.is_file() and one.suffix != ".lock"]
        mine = {f"{folder}/{one.as_posix()}": root / one for one in found if one.parts[0] not in without}
        known = {path: row.sha256 for path, row in self.listed().items() if path.startswith(f"{folder}/")}
        changed: dict[str, Path | None] = {p: f for p, f in mine.items() if known.get(p) != sha256_of(f)}
        changed = dict(sorted(changed.items(), key=lambda item: item[0] == f"{folder}/{last}"))
        self.publish(changed | dict.fromkeys(known.keys() - mine.keys()))
        held = {row.sha256 for row in self.listed().values()}
        for sha256 in {known[path] for path in known if path not in mine or path in changed} - held:
            if sha256 is not None:
                self._artefacts.remove(sha256)

    def _tried(self, path: str, revision: int, sha256: str | None, known: _Known) -> bool:
        """`_take`, but what has just failed is not fetched again so soon."""
        why, when = self._failed.get((path, revision), ("", -AGAIN_S))
        if time.monotonic() - when < AGAIN_S:
            raise BrogueError(why)
        try:
            changed = self._take(path, sha256, known)
        except BrogueError as error:
            self._failed[path, revision] = str(error), time.monotonic()
            raise
        self._failed.pop((path, revision), None)
        return changed

    def _take(self, path: str, sha256: str | None, known: _Known) -> bool:
        """Let the home hold what the table says; whether that was a change. No path leads out of the home."""
        target = self._home.root / path
        if known.files.get(path, "") == sha256 and target.is_file() == (sha256 is not None):
            return False  # it came already; what was edited here since then stays
        if not _SHARED.match(path) or not target.resolve().is_relative_to(self._home.root.resolve()):
            raise BrogueError("files of that place are not shared; whoever may write to the database put it there")
        here = sha256_of(target) if target.is_file() else None
        if here != sha256:
            if here is not None and _UNCHANGING.match(path):
                raise BrogueError(
                    "a version of that number with other content is here already; export it, remove its folder while "
                    "nothing runs here, and import it under another name"
                )
            if here is not None and here != known.files.get(path):
                os.replace(target, _beside(target))  # nobody else has it
            if sha256 is None:
                target.unlink(missing_ok=True)
            else:
                self._artefacts.get(sha256, target)
        known.files[path] = sha256
        return here != sha256

    def _alone(self) -> AbstractContextManager[None]:
        return _locked(self._home.root / ".shared.lock")

    def _known(self) -> _Known:
        try:
            return _Known(**json.loads(self._file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return _Known()  # all is looked at again, and what is here already is not fetched

    def _write_known(self, known: _Known) -> None:
        write_json(self._file, {"revision": known.revision, "files": known.files})

    @property
    def _file(self) -> Path:
        return self._home.root / "shared.json"


def _beside(target: Path) -> Path:
    """A name that is free."""
    names = (target.with_name(f"{target.name}{ASIDE}{number or ''}") for number in count())
    return next(name for name in names if not name.exists())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One thread of one process at a time; the kernel lets go of the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
