"""Runs of training as JSON, for the gateway's /v1/runs."""

import json
import threading
from typing import Any

from adapters import runs
from adapters.curves import panels
from data.errors import UnknownName
from data.home import Home


class RunsApi:
    """What the gateway is asked about runs (serve/runs.py)."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._drawing = threading.Lock()  # matplotlib's settings are the process's

    def listed(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""
        return [_fields(run) for run in runs.all_runs(self._home)]

    def described(self, id: str) -> dict[str, Any]:
        """A run with its curves."""
        run = runs.get(self._home, id)
        return _fields(run) | {"curves": [panel.model_dump() for panel in panels(runs.metrics(self._home, run.id))]}

    def pictured(self, id: str) -> bytes:
        """The curves as a PNG; `UnknownName` while there are none."""
        from assistant.run_plot import picture

        run = runs.get(self._home, id)
        with self._drawing:
            path = picture(self._home, run)
            if path is None:
                raise UnknownName(f"run {id} has measured nothing yet; ask again in a minute")
            return path.read_bytes()


def _fields(run: runs.Run) -> dict[str, Any]:
    """As JSON, where a loss that is no number is null."""
    return {"object": "run", **json.loads(run.model_dump_json()), "recipe": run.recipe}
