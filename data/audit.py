"""`<home>/logs/audit.jsonl`: what admins did, one JSON object a line, for the owner's eyes. It holds no secrets."""

import json
import os
from pathlib import Path
from typing import Any

from data.home import Home
from data.judgements import now


class Audit:
    """Appends; any number of processes may at once, since each line is one write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, home: Home) -> "Audit":
        """The log of a home folder."""
        return cls(home.logs / "audit.jsonl")

    def write(self, who: str, what: str, result: int | str, **more: Any) -> None:
        """One action: who did what, what came of it, what else is to be known. Fields without a value are left out."""
        line = {"when": now().isoformat(timespec="milliseconds"), "who": who, "what": what, "result": result}
        line |= {name: value for name, value in more.items() if value is not None}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        finally:
            os.close(handle)
