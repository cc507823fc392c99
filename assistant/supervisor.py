"""The process behind `brogue up`: it serves the gateway, keeps the engine running and holds the page as a child.

Started as `python -m assistant.supervisor SETTINGS_JSON` in a session of its own. SIGTERM or Ctrl-C stops it and all
that it started. An engine that dies is started again on the same port; its adapters come back with the next request.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import uvicorn

from adapters.base_model import BaseModel, prepare
from adapters.registry import Registry
from assistant.prompt import HomeCatalogue
from assistant.services import Child, Services
from data.errors import BrogueError
from data.home import Home
from data.settings import Settings
from serve.engine import Engine
from serve.gateway import ENGINE_TIMEOUT, build_app
from serve.hardware import plan
from serve.pool import AdapterPool
from serve.process import stop_process_group

_LOG = logging.getLogger("brogue.supervisor")
RESTARTS_IN_A_ROW = 3  # an engine that dies again within RESTART_WINDOW_S of its start is not started for ever
RESTART_WINDOW_S = 300


class EngineKeeper:
    """Starts the engine, watches it in a thread of its own and starts it again when it dies."""

    def __init__(
        self, engine: Engine, timeout_s: int, report: Callable[..., None], on_restart: Callable[[], None]
    ) -> None:
        self.engine = engine
        self._timeout_s = timeout_s
        self._report = report
        self._on_restart = on_restart
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._state = "starting"
        self._detail = ""

    def start(self) -> None:
        self.engine.start()
        self._tell("starting", "starting its processes")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, then the engine."""
        self._stopping.set()
        self.engine.stop()
        self._thread.join(timeout=10)

    def why_down(self) -> str | None:
        """The reason while the engine is not ready, none while it is."""
        if self._state == "ready" and not self.engine.is_alive():
            return self.engine.why_dead()
        return None if self._state == "ready" else f"{self._state}: {self._detail}"

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
            if not came_up or failures > RESTARTS_IN_A_ROW:
                self._tell("dead", reason)  # it never came up, or never stays: starting it again would not help
                return
            self._tell("starting", f"again, after {reason}")
            self.engine.stop()  # what is left of its process group
            self._on_restart()
            self.engine.start()

    def _tell(self, state: str, detail: str) -> None:
        if (state, detail) != (self._state, self._detail):
            self._state, self._detail = state, detail
            self._report(state, detail, self.engine.pid)


class Supervisor:
    """Everything that runs for one home folder."""

    def __init__(self, home: Home, settings: Settings, base: BaseModel) -> None:
        self._home = home
        self._settings = settings
        self._services = Services(
            supervisor=_child(os.getpid()),
            gateway_url=settings.gateway.url,
            page_url=settings.page.url,
            base_model=base.name,
        )
        chosen = plan(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
        _LOG.info("settings: %s", settings.model_dump_json())
        _LOG.info("engine plan: %s", chosen)
        engine = Engine.build(base.path, base.name, settings.engine, chosen, home)
        client = httpx.AsyncClient(
            base_url=engine.url, headers={"Authorization": f"Bearer {engine.key}"}, timeout=ENGINE_TIMEOUT,
            limits=httpx.Limits(max_connections=None), trust_env=False,
        )  # fmt: skip
        self._pool = AdapterPool(client, Registry(home), base.name, base.sha256, settings.engine.max_lora_rank)
        self._keeper = EngineKeeper(engine, settings.engine.start_timeout_s, self._engine_is, self._pool.forget)
        self._app = build_app(self._pool, HomeCatalogue(home, base.name, base.supports_system), self._keeper.why_down)
        self._page: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, then stop everything."""
        address = self._settings.gateway
        config = uvicorn.Config(
            self._app, host=address.host, port=address.port, log_level="warning", timeout_graceful_shutdown=5
        )
        try:
            self._keeper.start()
            self._page = self._start_page()
            self._save(page=_child(self._page.pid))
            uvicorn.Server(config).run()  # handles both signals
        finally:
            if self._page is not None:
                stop_process_group(self._page.pid, grace_s=5)
            self._keeper.stop()
            self._home.services_file.unlink(missing_ok=True)

    def _start_page(self) -> subprocess.Popen[bytes]:
        page = self._settings.page
        command = [sys.executable, "-m", "assistant.ui", self._settings.gateway.url, page.host, str(page.port)]
        with (self._home.logs / "page.log").open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _engine_is(self, state: str, detail: str, pid: int | None) -> None:
        engine = Child.of(pid) if pid else None
        self._save(engine_state=state, engine_detail=detail, engine=engine or self._services.engine)

    def _save(self, **changes: Any) -> None:
        services = self._services.model_copy(update=changes)
        if services != self._services or not self._home.services_file.exists():
            self._services = services
            services.save(self._home)


def _child(pid: int) -> Child:
    child = Child.of(pid)
    if child is None:
        raise BrogueError(f"process {pid} ended while it was being started")
    return child


def main() -> None:
    """Run the supervisor; its one argument is the effective settings as JSON."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # uvicorn raises the signal that ended it once more: it must end us through `finally`, not on the spot.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    home, settings = Home.from_environment(), Settings.model_validate_json(sys.argv[1])
    try:
        base = prepare(settings.base_model, home, _LOG.info)
        Supervisor(home, settings, base).run()
    except BrogueError as error:
        sys.exit(f"brogue: {error}")


if __name__ == "__main__":
    main()
