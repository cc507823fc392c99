"""How the registry's files are written: under a lock, whole, and where several homes share them to the others first."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.home import Home, as_json, sha256_of, staged
from data.sharing import Publish, Sharing

CARD = "card.json"


class RegistryFiles:
    """The files of one home's `adapters` folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._sharing = Sharing(home)

    @contextmanager
    def locked(self, adapter: str, what: str) -> Iterator[Publish]:
        """One process at a time, of all homes that share; the kernel lets go of the lock when its holder dies."""
        folder = self._home.adapters / adapter
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{what}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self._sharing.changing(f"{adapter}/{what}", self.relative(folder)) as publish:
                yield publish

    def refresh(self) -> None:
        """Bring what other homes have changed."""
        self._sharing.refresh()

    def put(self, publish: Publish, path: Path, value: Any) -> None:
        """Let `path` hold `value` as JSON."""
        with staged(path, as_json(value)) as temporary:
            publish({self.relative(path): temporary}, lambda: temporary.replace(path))

    def relative(self, path: Path) -> str:
        """A path as the other homes know it."""
        return path.relative_to(self._home.root).as_posix()

    def of_version(self, folder: Path, target: Path) -> dict[str, Path | None]:
        """What is in a new version's folder, by where it will be; the card last: it says that the version is there."""
        files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == CARD)
        return {self.relative(target / path.relative_to(folder)): path for path in files}


def stamp(path: Path) -> tuple[int, int]:
    """Differs whenever the file was written anew."""
    try:
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_ino
    except FileNotFoundError:
        return 0, 0


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file in a version folder but its card."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
