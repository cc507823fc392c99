"""The files that `brogue knowledge add` is given: named ones, and those in folders.

Within a folder, hidden files are passed over and links are followed only to files of the same folder: nothing comes in
that was not added, and no loop of links is walked.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assistant.documents import cleaner
from assistant.loaders import SUFFIXES, file_type
from data.errors import DataError


@dataclass(frozen=True)
class SourceFile:
    """A file as the walk found it."""

    path: Path  # absolute
    size: int  # bytes
    mtime_ns: int
    depth: int = 1  # so many last parts of the path are its name in what was added

    @property
    def key(self) -> str:
        """The path as text that can be written as UTF-8, whatever bytes it is made of."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


@dataclass
class Found:
    """The files, and one line for each thing that was asked for and is not among them."""

    files: list[SourceFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  # looked through, with files in them
    unread: list[str] = field(default_factory=list)  # folders within them that could not be listed

    def looked_through(self, key: str) -> bool:
        """Would the file have been found if it were still there? Not in a folder that is empty now: see find_files."""
        return any(_within(key, f) for f in self.folders) and not any(_within(key, f) for f in self.unread)


def one_clear_line(text: object) -> str:
    """A message about files on one line, without what names of files can hold: control characters, broken bytes."""
    return " ".join(cleaner()(str(text)).split())


def find_files(paths: Sequence[Path]) -> Found:
    """The files at `paths`, each once, in order of their names.

    A folder without any file may be a drive that is not mounted, so what it once held does not count as gone.
    """
    found = Found()
    seen = set[Path]()
    for given in paths:
        path = Path(os.path.abspath(given))
        path = path.parent.resolve() / path.name
        try:
            if path.is_dir():
                _Walk(path, found, seen).run()
            else:
                _named(path, found, seen)
        except OSError as error:
            found.problems.append(f"{given}: cannot be read ({error.strerror})")
        except DataError as error:
            found.problems.append(str(error))
    found.problems[:] = map(one_clear_line, found.problems)
    found.notes[:] = map(one_clear_line, found.notes)
    return found


def sha256_of(file: SourceFile) -> str:
    """The hash of a file's content."""
    with file.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _within(key: str, folder: str) -> bool:
    return key == folder or key.startswith(folder.rstrip("/") + "/")


def _named(path: Path, found: Found, seen: set[Path]) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder; look at the name, or remove it from the knowledge") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a file but a device or a pipe; wanted documents")
    file_type(path)
    if path.resolve() not in seen:
        seen.add(path.resolve())
        found.files.append(SourceFile(path, status.st_size, status.st_mtime_ns))


class _Walk:
    """One folder, looked through."""

    def __init__(self, root: Path, found: Found, seen: set[Path]) -> None:
        self.root, self.found, self.seen = root, found, seen
        self.inside = root.resolve()
        self.others = Counter[str]()  # suffixes of files that are no documents
        self.outward = list[str]()  # links that lead out of the folder

    def run(self) -> None:
        before, links = len(self.found.files), list[Path]()
        known = len(self.seen)
        for folder, folders, names in os.walk(self.root, onerror=self._unread):
            folders[:] = sorted(name for name in folders if self._enter(Path(folder, name)))
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink():
                    links.append(path)
                else:
                    self._take(path)
        for path in links:
            self._take_link(path)
        self._report(len(self.found.files) - before, len(self.seen) - known)

    def _enter(self, folder: Path) -> bool:
        if folder.is_symlink():
            if not folder.resolve().is_relative_to(self.inside):
                self.outward.append(str(folder.relative_to(self.root)))
            return False
        return not folder.name.startswith(".")

    def _take_link(self, path: Path) -> None:
        if path.name.startswith("."):
            return
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop
            self.found.problems.append(f"{path}: a link that leads nowhere; mend or remove it")
            return
        if not target.is_relative_to(self.inside):
            self.outward.append(str(path.relative_to(self.root)))
        elif target.is_file():
            self._take(path)

    def _take(self, path: Path) -> None:
        if path.name.startswith((".", "~$")):  # "~$": what Word keeps while a document is open
            return
        try:
            status = path.stat()
        except OSError as error:
            self.found.problems.append(f"{path}: cannot be read ({error.strerror})")
            return
        if path.suffix.lower() not in SUFFIXES or not stat.S_ISREG(status.st_mode):
            self.others[path.suffix.lower() or "no ending"] += 1
        elif (target := path.resolve()) not in self.seen:
            self.seen.add(target)
            depth = len(path.relative_to(self.root).parts) + (1 if self.root.name else 0)
            self.found.files.append(SourceFile(path, status.st_size, status.st_mtime_ns, depth))

    def _unread(self, error: OSError) -> None:
        self.found.unread.append(SourceFile(Path(error.filename), 0, 0).key)
        self.found.problems.append(f"{error.filename}: the folder cannot be read ({error.strerror})")

    def _report(self, files: int, taken: int) -> None:
        if files or taken:
            self.found.folders.append(SourceFile(self.root, 0, 0).key)
        elif not self.found.unread:
            what = "only files of other kinds" if self.others else "empty"
            self.found.problems.append(f"{self.root}: no documents in this folder ({what}); wanted {_wanted()}")
        if files and self.others:
            kinds = ", ".join(kind for kind, _ in self.others.most_common(5))
            self.found.notes.append(f"{self.root}: {self.others.total()} files of other kinds passed over ({kinds})")
        if self.outward:
            names = ", ".join(sorted(self.outward)[:3]) + (", …" if len(self.outward) > 3 else "")
            count = f"{len(self.outward)} links lead" if len(self.outward) > 1 else "a link leads"
            self.found.notes.append(f"{self.root}: {count} out of the folder ({names}); add what is meant by its name")


def _wanted() -> str:
    return ", ".join(SUFFIXES)
