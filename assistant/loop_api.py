"""The loop as JSON for the gateway's /v1/adapters/NAME/loop, and the start of a retrain as a process of its own."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from adapters import loop
from adapters.loop import Round
from adapters.registry import Registry
from assistant.exams_api import ExamsApi, in_short
from data.errors import BrogueError, one_line, unknown
from data.home import Home
from data.settings import load_settings
from serve.exams import Wish
from serve.process import stop_process_group

SHOWN = 20  # rounds and versions, the newest
COMMAND = (sys.executable, "-m", "assistant.cli")


class LoopApi:
    """What the gateway is asked about the loop (serve/exams.py). It stops what it started when the gateway ends."""

    def __init__(self, home: Home, exams: ExamsApi) -> None:
        self.command = COMMAND
        self._home, self._exams = home, exams
        self._registry = Registry(home)
        self._starting = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}  # by adapter, as they were started here

    def history(self, adapter: str) -> dict[str, Any]:
        """How the adapter got better, and what is going on now."""
        self._require(adapter)
        known, problem = self._rounds(adapter)
        latest = known[-1] if known else None
        return {
            "object": "loop", "adapter": adapter, "running": self._is_running(adapter),
            "said": self._said(adapter), "problem": problem or self._failed(adapter, latest),
            "unfinished": bool(latest and not latest.complete),
            "rounds": [_fields(one) for one in reversed(known[-SHOWN:])],
            "versions": self._versions(adapter), **self._judgements(adapter, known),
        }  # fmt: skip

    def retrain(self, adapter: str, wish: Wish) -> dict[str, Any]:
        """Start `brogue retrain`, which goes on with an unfinished round. Raises `BrogueError` while one runs."""
        self._require(adapter)
        with self._starting:
            if busy := next((name for name in self._registry.adapters() if self._is_running(name)), None):
                raise BrogueError(f"{busy} is being retrained now; one at a time: wait until it has ended")
            words = self._words(adapter, wish)
            log = self._log(adapter)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                self._running[adapter] = subprocess.Popen(
                    [*self.command, *words], env=os.environ | {"BROGUE_HOME": str(self._home.root)},
                    stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        return self.history(adapter)

    def stop(self) -> None:
        """End what was started here and still runs; the same command goes on where it was."""
        for process in self._running.values():
            if process.poll() is None:
                stop_process_group(process.pid, grace_s=5)

    def _words(self, adapter: str, wish: Wish) -> list[str]:
        known, _ = self._rounds(adapter)
        if wish == Wish() and known and not known[-1].complete:
            return loop.arguments(known[-1].asked)
        given = ["retrain", adapter, *(["--auto"] if wish.auto else [])]
        given += [] if wish.recipe is None else ["--recipe", wish.recipe]
        return given + ([] if wish.canary is None else ["--canary", str(wish.canary)])

    def _rounds(self, adapter: str) -> tuple[list[Round], str | None]:
        try:
            return loop.rounds(self._home, adapter), None
        except BrogueError as error:  # of a broken file the page tells, and shows the rest
            return [], str(error)

    def _is_running(self, adapter: str) -> bool:
        process = self._running.get(adapter)
        return (process is not None and process.poll() is None) or loop.holder(self._home, adapter) is not None

    def _failed(self, adapter: str, latest: Round | None) -> str | None:
        """Why the retrain that was started last ended too early."""
        if self._is_running(adapter):
            return None
        process = self._running.get(adapter)
        if process is not None and process.poll() not in (0, None):
            return self._said(adapter).removeprefix("brogue: ") or f"it ended with {process.returncode}"
        return latest.error if latest is not None and not latest.complete else None

    def _said(self, adapter: str) -> str:
        """The last line of its log."""
        try:
            lines = self._log(adapter).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((one_line(line, 400) for line in reversed(lines) if line.strip()), "")

    def _versions(self, adapter: str) -> list[dict[str, Any]]:
        """The versions that exist, the oldest first, each with its latest exam."""
        exams = self._exams.all(adapter)
        done = []
        for number in self._registry.versions(adapter)[-SHOWN:]:
            exam = next((one for one in exams if one.names["version"] == f"{adapter}@{number}"), None)
            done.append({"version": number, "exam": exam and in_short(exam)})
        return done

    def _judgements(self, adapter: str, known: list[Round]) -> dict[str, Any]:
        """How many new ones there are, and how many a retrain wants."""
        from assistant.retrain import new_judgements

        wanted = load_settings(self._home.settings_file).loop.min_judgements
        try:
            since = loop.learnt_until(self._registry.resolve(adapter), known)
            return {"judgements": new_judgements(self._home, adapter, since), "wanted": wanted}
        except BrogueError:  # no stable version, or a store that is away
            return {"judgements": None, "wanted": wanted}

    def _log(self, adapter: str) -> Path:
        return self._home.logs / f"retrain-{adapter}.log"

    def _require(self, adapter: str) -> None:
        known = self._registry.adapters()
        if adapter not in known:
            raise unknown("adapter", adapter, known, f"Train one: brogue train {adapter} --data NAME")


def _fields(one: Round) -> dict[str, Any]:
    """A round with what a person asks of it first."""
    more = {
        "id": one.id, "names": one.names, "complete": one.complete, "version": one.version, "where": loop.where(one),
        "minutes": round(sum(step.minutes for step in one.steps.values()), 1),
    }  # fmt: skip
    return {"object": "round", **json.loads(one.model_dump_json()), **more}
