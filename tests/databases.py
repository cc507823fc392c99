"""Fixtures: an empty database of either kind. A module that wants them says `pytest_plugins = ["tests.databases"]`."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from data.home import Home
from data.store import Store
from data.store_open import sqlite_url
from tests.postgres import admin, wait_for


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The socket folder of a PostgreSQL server of our own; it refuses to run as root, so then it runs as nobody."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    initdb = binaries[-1] if binaries else Path(shutil.which("initdb") or "/nonexistent")
    if not initdb.exists():
        pytest.skip("no PostgreSQL server here (wanted initdb and postgres): apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="brogue-pg-"))  # tmp_path is root's alone, and too long for a socket's name
    user: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        user |= {"user": "nobody", "extra_groups": []}
    try:
        cluster = folder / "cluster"
        command = [initdb, "-D", cluster, "-A", "trust", "-U", "brogue", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, **user)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [initdb.with_name("postgres"), "-D", cluster, *options], **user | {"stdout": log, "stderr": log}
            )
        try:
            wait_for(folder)
            yield str(folder)
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, home: Home) -> str:
    """An empty database's address, of either kind."""
    if request.param == "sqlite":
        return sqlite_url(home.root / "store.db")
    folder = request.getfixturevalue("postgresql")
    name = f"t{random.SystemRandom().getrandbits(64):x}"
    with admin(folder) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return f"postgresql://brogue@/{name}?host={folder}"


@pytest.fixture
def store(home: Home, url: str) -> Iterator[Store]:
    opened = Store.open(home, url)
    yield opened
    opened.close()
