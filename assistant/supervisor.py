"""The process behind `brogue up`: it serves the gateway, keeps the engine running and holds the page as a child.

Started as `python -m assistant.supervisor SETTINGS_JSON` in a session of its own. SIGTERM or Ctrl-C stops it and all
that it started. An engine that dies is started again on the same port and gets its adapters back before any request.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp

from adapters.base_model import BaseModel, prepare
from adapters.counting import token_counter
from adapters.registry import Registry
from adapters.template import chat_templates, template_tokens
from adapters.validation import VersionChecker
from assistant.exams_api import ExamsApi
from assistant.job_keeper import WorkerKeeper
from assistant.job_models import HomeTunables
from assistant.knowledge import Knowledge
from assistant.knowledge_answer import Answers, BaseFacts
from assistant.knowledge_api import KnowledgeApi
from assistant.loop_api import LoopApi
from assistant.prompt import HomeCatalogue
from assistant.runs_api import RunsApi
from assistant.services import Child, Services
from data.errors import BrogueError
from data.home import Home
from data.secrets import ENVIRONMENT, admin_key
from data.settings import Address, EngineSettings, Settings
from data.store_home import open_store
from data.store_users import Users
from serve.calm import calm_down
from serve.canary import Trials
from serve.engine import Engine, free_port
from serve.engine_api import EngineState
from serve.gateway import build_app
from serve.hardware import most_own_engines, plan, plan_own
from serve.loader import Limits
from serve.logs import set_up_logging
from serve.metrics import Metrics
from serve.own_engine import Base, Maker
from serve.pool import AdapterPool
from serve.process import stop_process_group
from serve.reconciler import Reconciler
from serve.recorder import Recorder
from serve.serving import serve
from serve.shadow import Shadow
from serve.soft_prompt import ENGINE_ARGS, takes_vectors
from serve.tracing import Tracing, engine_args, traces_endpoint
from serve.tuning import Tuning
from serve.watching import Telemetry

_LOG = logging.getLogger("brogue.supervisor")
# An engine that dies again within RESTART_WINDOW_S of its start is given more and more time, and then given up.
BACK_OFF_S = (0, 2, 10, 30)
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
        self._now = EngineState("starting", "", starts=0)  # replaced as a whole: other threads read it

    def start(self) -> None:
        self._start_engine("starting its processes")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, then the engine."""
        self._stopping.set()
        self.engine.stop()
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
        self._report(state, detail, self.engine.pid)


class Supervisor:
    """Everything that runs for one home folder."""

    def __init__(self, home: Home, settings: Settings, base: BaseModel) -> None:
        self._home = home
        self._settings = settings
        self._saving = threading.Lock()
        self._inner_port = free_port() if settings.gateway.has_tls else None
        self._services = Services(
            supervisor=_child(os.getpid()),
            gateway_url=f"http://127.0.0.1:{self._inner_port}" if self._inner_port else settings.gateway.url,
            listens_at=settings.gateway.url if self._inner_port else "",
            page_url=settings.page.url,
            base_model=base.name,
        )
        self._registry = Registry(home)
        chosen = plan(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
        _LOG.info("settings: %s", settings.model_dump_json())
        _LOG.info("engine plan: %s", chosen)
        self._templates = chat_templates(base.path) if takes_vectors(chosen.device, self._registry) else {}
        traces = traces_endpoint(settings.telemetry.otlp_endpoint)
        own_settings = _with_args(settings.engine, engine_args(traces))
        shared = _with_args(own_settings, ENGINE_ARGS if self._templates else ())
        engine = Engine.build(base.path, base.name, shared, chosen, home)
        self._metrics = Metrics()
        self._telemetry = Telemetry(Tracing(traces) if traces else None, settings.telemetry.log_requests)
        own = plan_own(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
        weights = Base(base.path, base.weight_bytes)
        self._maker = Maker(home, self._registry, own_settings, weights, own, self._own_engines_are)
        self._keeper = EngineKeeper(engine, settings.engine.start_timeout_s, self._engine_is, self._metrics.restart)
        self._knowledge = Knowledge(home, settings.knowledge)
        count = token_counter(base.path)
        facts = BaseFacts(lambda text: count([text])[0], chosen.max_model_len, template_tokens(base.path))
        self._app = self._build_gateway(engine, base, Answers(self._knowledge, facts), chosen.max_num_seqs)
        self._page: subprocess.Popen[bytes] | None = None
        self._worker = WorkerKeeper(home, settings, lambda pid: self._save(worker=Child.of(pid)))

    def _build_gateway(self, engine: Engine, base: BaseModel, answers: Answers, streams: int | None) -> ASGIApp:
        home, registry, settings, gateway = self._home, self._registry, self._settings.engine, self._settings.gateway
        if gateway.max_at_once is None and streams is not None:
            # The engine is never without work, and who has to wait does so here, where keys take turns.
            gateway = gateway.model_copy(update={"max_at_once": 2 * streams})
        limits = Limits(
            slots=settings.max_loras, memory=max(settings.max_cpu_loras, settings.max_loras),
            max_wait_s=self._settings.gateway.max_wait_s, own_engines=most_own_engines(settings),
        )  # fmt: skip
        check = VersionChecker(registry, base, settings.max_lora_rank, home.root)
        pool = AdapterPool(
            engine.client(), base.name, registry, self._keeper.now, check, Trials(home), self._metrics, limits,
            self._templates, self._maker,
        )  # fmt: skip
        self._catalogue = HomeCatalogue(home, base.name, base.supports_system, pool.live, answers)
        shadow = Shadow(pool, home.logs / "shadow.jsonl", self._settings.store.logging)
        store = open_store(home, self._settings.store)  # a wrong address is told now, not when somebody chats
        self._signs_in = Users(store).any()
        recorder = Recorder(lambda: store, self._metrics)
        api = KnowledgeApi(self._knowledge)
        key, exams = admin_key(home), ExamsApi(home)
        self._loops = LoopApi(home, exams)
        return build_app(
            pool, self._catalogue, Reconciler(pool), shadow, recorder, key, home, self._knowledge, api,
            RunsApi(home), exams, self._loops, settings=gateway, telemetry=self._telemetry, has_eyes=base.has_eyes,
            tuning=Tuning(self._settings.files, self._settings.jobs, HomeTunables(home, base.name, base.sha256)),
        )  # fmt: skip

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, then stop everything."""
        try:
            for version in self._registry.purge_retired():  # no engine runs that could still know them
                _LOG.info("deleted %s, which was retired", version)
            self._maker.clean()
            self._keeper.start()
            threading.Thread(target=self._warm, name="warm", daemon=True).start()
            self._page = self._start_page()
            self._save(page=_child(self._page.pid))
            self._worker.start()
            serve(self._app, self._settings.gateway, self._inner_port)  # handles both signals
        finally:
            self._worker.stop()
            if self._page is not None:
                stop_process_group(self._page.pid, grace_s=5)
            self._loops.stop()
            self._keeper.stop()
            for child in self._services.own_engines:  # the gateway has stopped them, unless it could not
                if child.is_alive():
                    stop_process_group(child.pid)
            self._home.services_file.unlink(missing_ok=True)

    def _warm(self) -> None:
        """Load what questions need while the engine starts; an assistant whose documents fail says so when asked."""
        try:
            self._knowledge.warm(_LOG.info)
            self._catalogue.warm()
            calm_down()  # once more, for the models
        except BrogueError as error:
            _LOG.error("%s", error)
        except Exception:
            _LOG.exception("the documents cannot be searched")

    def _start_page(self) -> subprocess.Popen[bytes]:
        page = self._settings.page
        command = [sys.executable, "-m", "assistant.ui", self._services.gateway_url, page.model_dump_json()]
        with (self._home.logs / "page.log").open("wb") as log:
            return subprocess.Popen(
                command, env=page_environment(page, self._home, self._signs_in), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _engine_is(self, state: str, detail: str, pid: int | None) -> None:
        engine = Child.of(pid) if pid else None
        self._save(engine_state=state, engine_detail=detail, engine=engine or self._services.engine)

    def _own_engines_are(self, pids: list[int]) -> None:
        self._save(own_engines=tuple(child for pid in pids if (child := Child.of(pid)) is not None))

    def _save(self, **changes: Any) -> None:
        with self._saving:  # the engine's watcher and the gateway both tell what runs
            services = self._services.model_copy(update=changes)
            if services != self._services or not self._home.services_file.exists():
                self._services = services
                services.save(self._home)


def _with_args(settings: EngineSettings, args: Sequence[str]) -> EngineSettings:
    """What brogue.toml says comes last, and so counts."""
    return settings.model_copy(update={"extra_args": (*args, *settings.extra_args)})


def page_environment(page: Address, home: Home, signs_in: bool = False) -> dict[str, str]:
    """The page gets the admin key where no other machine reaches it, or where it asks people who they are."""
    env = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
    is_ours = page.is_local and not page.behind_proxy
    return env | {ENVIRONMENT: admin_key(home)} if is_ours or signs_in else env


def _child(pid: int) -> Child:
    child = Child.of(pid)
    if child is None:
        raise BrogueError(f"process {pid} ended while it was being started")
    return child


def main() -> None:
    """Run the supervisor; its one argument is the effective settings as JSON."""
    # uvicorn raises the signal that ended it once more: it must end us through `finally`, not on the spot.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    home, settings = Home.from_environment(), Settings.model_validate_json(sys.argv[1])
    set_up_logging(settings.telemetry.log_format, [admin_key(home)])
    try:
        base = prepare(settings.base_model, home, _LOG.info)
        Supervisor(home, settings, base).run()
    except BrogueError as error:
        sys.exit(f"brogue: {error}")


if __name__ == "__main__":
    main()
