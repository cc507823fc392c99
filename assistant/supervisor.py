"""The process behind `brogue up`: it serves the gateway, keeps the engine running and holds the page as a child.

Started as `python -m assistant.supervisor SETTINGS_JSON PARTS_JSON` in a session of its own. SIGTERM or Ctrl-C stops it
and all that it started. An engine that dies is started again on the same port and gets its adapters back before any
request.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from starlette.types import ASGIApp

from adapters.base_model import BaseModel, prepare
from adapters.counting import token_counter
from adapters.registry import Registry
from adapters.template import template_tokens
from adapters.validation import VersionChecker
from assistant.engines import engines_of, with_args
from assistant.exams_api import ExamsApi
from assistant.job_keeper import WorkerKeeper
from assistant.job_models import HomeTunables
from assistant.knowledge import Knowledge
from assistant.knowledge_answer import Answers, BaseFacts
from assistant.knowledge_api import KnowledgeApi
from assistant.loop_api import LoopApi
from assistant.page_process import page_command, page_environment
from assistant.prompt import HomeCatalogue
from assistant.runs_api import RunsApi
from assistant.services import Child, Parts, Services
from data.errors import BrogueError
from data.home import Home
from data.secrets import admin_key
from data.settings import Settings
from data.sharing import follower_of
from data.store_home import open_store
from data.store_users import Users
from serve.calm import calm_down
from serve.canary import Trials
from serve.engine import free_port
from serve.gateway import build_app
from serve.hardware import most_own_engines, plan_own
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
from serve.tracing import Tracing, engine_args, traces_endpoint
from serve.tuning import Tuning
from serve.watching import Telemetry

_LOG = logging.getLogger("brogue.supervisor")
LOOK_S = 1.0  # how often engines that are elsewhere are asked how they are, for `brogue status`


class Supervisor:
    """Everything that runs for one home folder."""

    def __init__(self, home: Home, settings: Settings, base: BaseModel, parts: Parts) -> None:
        self._home = home
        self._settings = settings
        self._parts = parts
        self._saving = threading.Lock()
        self._inner_port = free_port() if settings.gateway.has_tls else None
        self._services = Services(
            supervisor=_child(os.getpid()),
            gateway_url=f"http://127.0.0.1:{self._inner_port}" if self._inner_port else settings.gateway.url,
            listens_at=settings.gateway.url if self._inner_port else "",
            page_url=settings.page.url if parts.page else "",
            base_model=base.name,
        )
        self._registry = Registry(home)
        _LOG.info("settings: %s", settings.model_dump_json())
        self._metrics = Metrics()
        traces = traces_endpoint(settings.telemetry.otlp_endpoint)
        engine = with_args(settings.engine, engine_args(traces))
        self._engines = engines_of(home, engine, base, self._registry, self._engines_are, self._metrics.restart)
        self._telemetry = Telemetry(Tracing(traces) if traces else None, settings.telemetry.log_requests)
        own = plan_own(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
        weights = Base(base.path, base.weight_bytes)
        self._maker = Maker(home, self._registry, engine, weights, own, self._own_engines_are)
        self._knowledge = Knowledge(home, settings.knowledge)
        count = token_counter(base.path)
        longest = self._engines.plan.max_model_len
        facts = BaseFacts(lambda text: count([text])[0], longest, template_tokens(base.path))
        self._pool = self._build_pool(base)
        self._app = self._build_gateway(base, Answers(self._knowledge, facts))
        self._page: subprocess.Popen[bytes] | None = None
        self._worker = WorkerKeeper(home, settings, lambda pid: self._save(worker=Child.of(pid)))

    def _build_pool(self, base: BaseModel) -> AdapterPool:
        settings = self._settings.engine
        limits = Limits(
            slots=settings.max_loras, memory=max(settings.max_cpu_loras, settings.max_loras),
            max_wait_s=self._settings.gateway.max_wait_s, copies=settings.copies, quorum=settings.quorum,
            own_engines=most_own_engines(settings),
        )  # fmt: skip
        check = VersionChecker(self._registry, base, settings.max_lora_rank, self._home.root)
        return AdapterPool(
            self._engines.links, base.name, self._registry, check, Trials(self._home), self._metrics, limits,
            self._engines.templates or {}, self._maker, self._engines.router,
        )  # fmt: skip

    def _build_gateway(self, base: BaseModel, answers: Answers) -> ASGIApp:
        home, gateway, pool = self._home, self._settings.gateway, self._pool
        if gateway.max_at_once is None and (streams := self._engines.plan.max_num_seqs) is not None:
            # The engines are never without work, and who has to wait does so here, where keys take turns.
            gateway = gateway.model_copy(update={"max_at_once": 2 * streams * self._settings.engine.engines})
        self._catalogue = HomeCatalogue(home, base.name, base.supports_system, pool.live, answers)
        shadow = Shadow(pool, home.logs / "shadow.jsonl", self._settings.store.logging)
        store = open_store(home, self._settings.store)  # a wrong address is told now, not when somebody chats
        self._signs_in = Users(store).any()
        recorder = Recorder(lambda: store, self._metrics)
        api = KnowledgeApi(self._knowledge)
        key, exams = admin_key(home), ExamsApi(home)
        self._loops = LoopApi(home, exams)
        reconciler = Reconciler(pool)
        self._follower = follower_of(home, self._settings, store, reconciler.wake)
        return build_app(
            pool, self._catalogue, reconciler, shadow, recorder, key, home, self._knowledge, api,
            RunsApi(home), exams, self._loops, settings=gateway, telemetry=self._telemetry, has_eyes=base.has_eyes,
            tuning=Tuning(self._settings.files, self._settings.jobs, HomeTunables(home, base.name, base.sha256)),
        )  # fmt: skip

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, then stop everything."""
        try:
            if not self._settings.engine.urls:  # no engine runs that could still know what was retired
                for version in self._registry.purge_retired():
                    _LOG.info("deleted %s, which was retired", version)
            self._maker.clean()
            self._engines.start()
            if self._settings.engine.urls:
                threading.Thread(target=self._watch_elsewhere, name="elsewhere", daemon=True).start()
            threading.Thread(target=self._warm, name="warm", daemon=True).start()
            if self._follower is not None:
                self._follower.start()
            if self._parts.page:
                self._page = self._start_page()
                self._save(page=_child(self._page.pid))
            if self._parts.worker:
                self._worker.start()
            serve(self._app, self._settings.gateway, self._inner_port)  # handles both signals
        finally:
            self._worker.stop()
            if self._page is not None:
                stop_process_group(self._page.pid, grace_s=5)
            if self._follower is not None:
                self._follower.stop()
            self._loops.stop()
            self._engines.stop()
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
        command = page_command(self._services.gateway_url, page)
        with (self._home.logs / "page.log").open("wb") as log:
            return subprocess.Popen(
                command, env=page_environment(page, self._home, self._signs_in), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _watch_elsewhere(self) -> None:
        """The pool asks engines how they are that nobody here keeps; it says so for `brogue status`."""
        while True:
            why, router = self._pool.why_closed(), self._pool.replicas.router
            missing = [
                self._pool.replicas.why_missing(),
                f"router: {router.detail}" if router and router.detail else "",
            ]
            self._engines_are("starting" if why else "ready", why or "; ".join(filter(None, missing)), [])
            time.sleep(LOOK_S)

    def _engines_are(self, state: str, detail: str, pids: list[int]) -> None:
        engines = tuple(child for pid in pids if (child := Child.of(pid)) is not None)
        self._save(engine_state=state, engine_detail=detail, engines=engines or self._services.engines)

    def _own_engines_are(self, pids: list[int]) -> None:
        self._save(own_engines=tuple(child for pid in pids if (child := Child.of(pid)) is not None))

    def _save(self, **changes: Any) -> None:
        with self._saving:  # the engine's watcher and the gateway both tell what runs
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
    """Run the supervisor; its arguments are the effective settings, and what is to run beside the gateway, as JSON."""
    # uvicorn raises the signal that ended it once more: it must end us through `finally`, not on the spot.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    home, settings = Home.from_environment(), Settings.model_validate_json(sys.argv[1])
    parts = Parts.model_validate_json(sys.argv[2])
    set_up_logging(settings.telemetry.log_format, [admin_key(home)])
    try:
        base = prepare(settings.base_model, home, _LOG.info)
        Supervisor(home, settings, base, parts).run()
    except BrogueError as error:
        sys.exit(f"brogue: {error}")


if __name__ == "__main__":
    main()
