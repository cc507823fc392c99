"""A dataset's folder changes whole or not at all: when a process is killed, and when several write at once.

Rows are written to a folder `.new.<name>.*` beside the datasets, which takes the dataset's place at the end. Writers
take turns for that moment by a lock on the datasets' folder; a lock on the file that is being written tells a writer
that is at work from one that was killed, whose leftovers the next one clears away.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from data.errors import BrogueError
from data.home import Home

RECORDS, CARD = "records.jsonl", "card.json"


def refuse_existing(home: Home, name: str, replace: bool) -> None:
    """One line if dataset `name` is there and is not to be overwritten."""
    if (home.datasets / name).exists() and not replace:
        raise BrogueError(f"dataset '{name}' exists already; choose another name or add --replace")


@contextmanager
def new_dataset_folder(home: Home, name: str, replace: bool) -> Iterator[tuple[Path, TextIO]]:
    """A folder and its open records file, which become dataset `name` when the block succeeds and vanish otherwise."""
    refuse_existing(home, name, replace)
    home.datasets.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        _clear(home)
        temporary = Path(tempfile.mkdtemp(dir=home.datasets, prefix=f".new.{name}."))
        file = (temporary / RECORDS).open("w", encoding="utf-8", newline="\n")
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        with file:
            yield temporary, file
            file.flush()
            temporary.chmod(0o755)
            with _alone(home):
                refuse_existing(home, name, replace)
                _swap(home, name, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def mend(home: Home) -> None:
    """Finish what a killed process began: its half written folders go, a dataset that it was replacing comes back."""
    if home.datasets.exists():
        with _alone(home):
            _clear(home)


def _swap(home: Home, name: str, temporary: Path) -> None:
    old, folder = home.datasets / f".old.{name}", home.datasets / name
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _clear(home: Home) -> None:
    for old in home.datasets.glob(".old.*"):
        folder = home.datasets / old.name.removeprefix(".old.")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for unfinished in home.datasets.glob(".new.*"):
        if not _is_locked(unfinished / RECORDS):
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Nobody else is in here, in any process. Held for moments only."""
    folder = os.open(home.datasets, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
