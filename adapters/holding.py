"""A lock that one process holds at a time, and who holds it; the kernel lets go of it when that process dies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import BrogueError


@contextmanager
def held(path: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """This process holds the lock at `path`. Raises `BrogueError` with what `refusal` says if another one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BrogueError(refusal()) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(path: Path) -> int | None:
    """The process that holds the lock; none if it is free."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or 0) or None
    except OSError:
        pass
    return None
