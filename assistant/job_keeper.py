"""Keeps the worker of fine-tuning jobs running beside the gateway: started again when it dies, stopped at the end."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

from data.home import Home
from data.settings import Settings
from serve.process import stop_process_group

_LOG = logging.getLogger("brogue.jobs")
BACK_OFF_S = (0, 2, 10, 30)  # one that dies at once is started again less and less soon
STOP_S = 15  # it has a training to stop
_LASTED_S = 300


class WorkerKeeper:
    """The worker of one home. `report` is told its process id whenever it starts."""

    def __init__(self, home: Home, settings: Settings, report: Callable[[int], None]) -> None:
        self._home, self._settings, self._report = home, settings, report
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="jobs", daemon=True)

    def start(self) -> None:
        """Start it, and watch it in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it; a job that it has goes on when it is started again."""
        self._stopping.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()
        if self._process is not None and self._process.poll() is None:
            stop_process_group(self._process.pid, STOP_S)

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._process = self._started()
            self._report(self._process.pid)
            lasted = 0.0
            while self._process.poll() is None and not self._stopping.wait(0.5):
                lasted += 0.5
            if self._stopping.is_set():
                return
            failures = 1 if lasted > _LASTED_S else failures + 1
            _LOG.error("the worker of fine-tuning jobs ended with %s; see jobs.log", self._process.returncode)
            self._stopping.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1])

    def _started(self) -> "subprocess.Popen[bytes]":
        self._home.logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "assistant.job_worker", self._settings.model_dump_json()]
        with (self._home.logs / "jobs.log").open("ab") as log:
            return subprocess.Popen(
                command, env=os.environ | {"BROGUE_HOME": str(self._home.root)}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
