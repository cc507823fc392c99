"""Keeps the base model's engines running: starts them, watches each in a thread, starts again what dies."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from data.errors import BrogueError
from serve.engine import Engine
from serve.engine_api import EngineLink, EngineState

_LOG = logging.getLogger("brogue.supervisor")
# An engine that dies again within RESTART_WINDOW_S of its start is given more and more time, and then given up.
BACK_OFF_S = (0, 2, 10, 30)
RESTART_WINDOW_S = 300


class EngineKeeper:
    """Starts an engine, watches it in a thread of its own and starts it again when it dies.

    `report` is told when something has changed.
    """

    def __init__(
        self, engine: Engine, timeout_s: int, report: Callable[[], None], on_restart: Callable[[], None]
    ) -> None:
        self.engine = engine
        self._timeout_s = timeout_s
        self._report = report
        self._on_restart = on_restart
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._now = EngineState("starting", "", starts=0)  # replaced as a whole: other threads read it

    def start(self) -> None:
        self._start_engine("starting its processes")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, then the engine."""
        self._stopping.set()
        self.engine.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def now(self) -> EngineState:
        """How the engine is, at this moment."""
        now = self._now
        if now.state == "ready" and not self.engine.is_alive():
            return replace(now, state="starting", detail=self.engine.why_dead())
        return now

    def _watch(self) -> None:
        failures, came_up = 0, False
        while True:
            began = time.monotonic()
            try:
                self.engine.wait_ready(self._timeout_s, lambda phase: self._tell("starting", phase))
                came_up = True
                self._tell("ready", "")
                while self.engine.is_alive() and not self._stopping.wait(0.5):
                    pass
                reason = self.engine.why_dead()
            except BrogueError as error:
                reason = str(error)
            if self._stopping.is_set():
                return
            _LOG.error("%s", reason)
            failures = failures + 1 if time.monotonic() - began < RESTART_WINDOW_S else 1
            if not came_up or failures > len(BACK_OFF_S):
                self._tell("dead", reason)  # it never came up, or never stays: starting it again would not help
                return
            self._tell("starting", f"again, after {reason}")
            self.engine.stop()  # what is left of its process group
            if self._stopping.wait(BACK_OFF_S[failures - 1]):
                return
            self._on_restart()
            self._start_engine(f"again, after {reason}")

    def _start_engine(self, detail: str) -> None:
        self.engine.start()
        self._now = replace(self._now, starts=self._now.starts + 1)
        self._tell("starting", detail)

    def _tell(self, state: str, detail: str) -> None:
        if (state, detail) != (self._now.state, self._now.detail):
            self._now = replace(self._now, state=state, detail=detail)
        self._report()


class EngineKeepers:
    """All engines that are started here. `report` gets how they are, in a word and a line, and their process ids."""

    def __init__(
        self, engines: Sequence[Engine], timeout_s: int, report: Callable[[str, str, list[int]], None],
        on_restart: Callable[[], None],
    ) -> None:  # fmt: skip
        self._report = report
        self._all = [EngineKeeper(engine, timeout_s, self._changed, on_restart) for engine in engines]

    def start(self) -> None:
        for keeper in self._all:
            keeper.start()

    def stop(self) -> None:
        for keeper in self._all:
            keeper.stop()

    def links(self) -> list[EngineLink]:
        """The engines as the pool meets them."""
        return [
            EngineLink(f"engine-{number}", keeper.engine.client(), keeper.now)
            for number, keeper in enumerate(self._all, 1)
        ]

    def _changed(self) -> None:
        states = [keeper.now() for keeper in self._all]
        ready = sum(state.state == "ready" for state in states)
        word = "ready" if ready else "dead" if all(state.state == "dead" for state in states) else "starting"
        lines = [
            state.detail if len(states) == 1 else f"engine-{number} {state.state}: {state.detail}"
            for number, state in enumerate(states, 1) if state.detail
        ]  # fmt: skip
        if len(states) > 1 and lines:
            lines.insert(0, f"{ready} of {len(states)} ready")
        pids = [pid for keeper in self._all if (pid := keeper.engine.pid) is not None]
        self._report(word, "; ".join(lines), pids)
