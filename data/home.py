"""Where Brogue keeps its state: paths under `$BROGUE_HOME`, and writes that a kill cannot leave half done."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import BrogueError, one_line

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = tuple(os.strerror(number) for number in _FULL)  # as libraries that are not Python's own report it
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


@dataclass(frozen=True)
class Home:
    """The folder that holds everything (`$BROGUE_HOME`, else `.brogue` in the working folder)."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Home":
        return cls(Path(os.environ.get("BROGUE_HOME") or ".brogue").absolute())

    @property
    def settings_file(self) -> Path:
        return self.root / "brogue.toml"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def assistants(self) -> Path:
        return self.root / "assistants"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def files(self) -> Path:
        """What was uploaded by /v1/files, each under its id; data/store_files.py."""
        return self.root / "files"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def examples(self) -> Path:
        """Vectors of datasets' training questions, a folder each; made again where they are missing."""
        return self.root / "cache" / "examples"

    @property
    def services_file(self) -> Path:
        """What `brogue up` started: process ids, addresses. Present while something runs."""
        return self.root / "services.json"

    def create(self) -> None:
        """Make the folder and prove that it can be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise BrogueError(
                f"cannot write to the home folder {self.root} ({error.strerror}); "
                "set BROGUE_HOME to a folder you may write to"
            ) from error


def check_name(kind: str, name: str) -> str:
    """`name` if it can be a folder name and a model name, else a one-line error."""
    if not re.match(NAME_PATTERN, name):
        raise BrogueError(
            f"'{name}' cannot name {kind}: lower-case letters, digits, '.', '_' and '-' only, at most 63, "
            "and a letter or digit first"
        )
    return name


@contextmanager
def staged(path: Path, text: str) -> Iterator[Path]:
    """A file beside `path` that holds `text`, to take its place by a rename; what is left of it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a temporary file in the same folder, then a rename."""
    with staged(path, text) as temporary:
        os.replace(temporary, path)


def as_json(value: Any) -> str:
    """`value` as the files of the home hold it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, written atomically."""
    write_text(path, as_json(value))


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, to take its place by a rename; what is left of it vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds, and vanishes otherwise."""
    with staged_folder(target) as temporary:
        yield temporary
        temporary.rename(target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def full_disk(error: BaseException) -> str | None:
    """What to say of an error which means that no more could be written; none for every other error."""
    full = isinstance(error, OSError) and error.errno in _FULL
    if not full and not any(words in str(error) for words in _FULL_WORDS):
        return None
    return f"the disk is full, or a quota or limit is reached ({one_line(error, 160)}); make room and try again"
