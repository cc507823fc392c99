"""Speaking to the tests' own PostgreSQL server."""

import time
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
