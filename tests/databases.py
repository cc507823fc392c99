"""Fixtures: an empty database of either kind. A module that wants them says `pytest_plugins = ["tests.databases"]`."""

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from data.home import Home
from data.store import Store
from data.store_open import sqlite_url
from tests.postgres import admin, running_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The socket folder of a PostgreSQL server of our own; it refuses to run as root, so then it runs as nobody."""
    with running_server() as folder:
        if folder is None:
            pytest.skip("no PostgreSQL server here (wanted initdb and postgres): apt-get install postgresql")
        yield str(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, home: Home) -> str:
    """An empty database's address, of either kind."""
    if request.param == "sqlite":
        return sqlite_url(home.root / "store.db")
    address: str = request.getfixturevalue("new_postgresql")
    return address


@pytest.fixture
def new_postgresql(postgresql: str) -> str:
    """An empty database's address."""
    name = f"t{random.SystemRandom().getrandbits(64):x}"
    with admin(postgresql) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return f"postgresql://brogue@/{name}?host={postgresql}"


@pytest.fixture
def store(home: Home, url: str) -> Iterator[Store]:
    opened = Store.open(home, url)
    yield opened
    opened.close()
