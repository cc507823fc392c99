"""The tests' own PostgreSQL server, from Debian's packages: started, spoken to, stopped."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine


def admin(folder: str) -> Any:
    """A connection to the server's own database."""
    url = f"postgresql+psycopg://brogue@/postgres?host={folder}"
    return create_engine(url, isolation_level="AUTOCOMMIT").connect()


def wait_for(folder: Path) -> None:
    """Until the server there takes connections."""
    for _ in range(2400):  # two minutes
        try:
            admin(str(folder)).close()
            return
        except Exception:
            time.sleep(0.05)
    raise AssertionError((folder / "log").read_text())


@contextmanager
def running_server() -> Iterator[Path | None]:
    """The socket folder of a server of our own, none if PostgreSQL is not installed. As root, it runs as nobody."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    initdb = binaries[-1] if binaries else Path(shutil.which("initdb") or "/nonexistent")
    if not initdb.exists():
        yield None
        return
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
            yield folder
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
