"""The admin key: who holds it may move aliases over HTTP. The gateway, the page and the command line share it.

And what is kept of other secrets.
"""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from data.errors import BrogueError
from data.home import Home

ENVIRONMENT = "BROGUE_ADMIN_KEY"
ENGINE_KEY = "BROGUE_ENGINE_KEY"  # in the environment: the key of engines that somebody else starts


def admin_key(home: Home) -> str:
    """$BROGUE_ADMIN_KEY, else what `<home>/admin.key` holds; the file is made on first use, for its owner only."""
    if key := os.environ.get(ENVIRONMENT, "").strip():
        return key
    path = home.root / "admin.key"
    if not path.exists():
        home.create()
        _make(path)
    if key := path.read_text(encoding="utf-8").strip():
        return key
    raise BrogueError(f"{path} is empty; remove it and a new key is made at the next start")


def digest(secret: str) -> str:
    """All that is kept of an API key or of a session's token: its SHA-256, as hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _make(path: Path) -> None:
    """Write a new key whole or not at all; of two processes at once, the first one's key stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".admin.key.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
