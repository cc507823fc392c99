"""The store at the command line: opened and let go of again; a day as an option."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from data.errors import BrogueError
from data.home import Home

if TYPE_CHECKING:
    from data.store import Store


@contextmanager
def opened_store(home: Home | None = None) -> "Iterator[Store]":
    """The home's store; without `home`, that of the environment's."""
    from data.store_home import open_store

    home = home or Home.from_environment()
    home.create()
    store = open_store(home)
    try:
        yield store
    finally:
        store.close()


def audit(home: Home, what: str, **more: Any) -> None:
    """Write down what an admin did at the command line; never a secret."""
    from data.audit import Audit

    Audit.of(home).write(who=f"command line of {getpass.getuser()}", what=what, result="done", **more)


def day(option: str, text: str | None) -> datetime | None:
    """What was given for `option`, such as 2026-03-01, with a time zone (UTC where none was said)."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BrogueError(f"{option} wants a day, such as 2026-03-01; found '{text}'") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
