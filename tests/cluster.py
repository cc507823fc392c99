"""Engines, a router, gateways, PostgreSQL and a Chroma server as processes of one machine, as docs/scaling.md has them.

Whoever runs a real cluster has something that starts again what dies; here that is `Part.restart`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import psutil
from sqlalchemy import text

from data.home import Home, write_text
from serve.engine import free_port
from tests.postgres import admin, running_server

ADMIN_KEY, ENGINE_KEY = "the-owners-key", "the-engines-key"
ROUTERS = (os.environ.get("BROGUE_TEST_ROUTER", ""), str(Path(__file__).parents[1] / ".venv-router/bin/vllm-router"))
SETTINGS = """base_model = {base}
[engine]
urls = {urls}
max_model_len = 512
max_num_seqs = 8
kv_cache_gib = 0.2
max_loras = {slots}
max_cpu_loras = {memory}
max_lora_rank = 8
{more}
[store]
url = {store}
[shared]
artefacts = {artefacts}
[knowledge]
chroma_url = {chroma}
"""


def find_router() -> str | None:
    """The command of vllm-router, which has an environment of its own: make router."""
    return next((path for path in ROUTERS if path and Path(path).exists()), None)


@dataclass
class Part:
    """A process, and what belongs to it."""

    name: str
    command: list[str]
    url: str  # of what it serves
    ready: str  # path that answers 200 when it is ready
    env: dict[str, str] = field(default_factory=dict)
    log: Path = Path("/dev/null")
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; `wait` returns when it is ready."""
        with self.log.open("ab") as log:
            self.process = _started(self.command, self.env, log)

    def wait(self, seconds: float = 900) -> float:
        """Until it answers; the seconds that it took."""
        began = time.monotonic()
        while not self.answers():
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() - began < seconds, f"{self.name} is not ready: {self.log.read_text()[-3000:]}"
            time.sleep(0.2)
        return time.monotonic() - began

    def answers(self) -> bool:
        """Is it ready?"""
        try:
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
            return httpx.get(self.url + self.ready, headers=headers, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9 it, and all that it started."""
        assert self.process is not None
        try:
            parent = psutil.Process(self.process.pid)
            doomed = [*parent.children(recursive=True), parent]
        except psutil.NoSuchProcess:
            doomed = []
        for one in doomed:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        self.process.wait(60)

    def stop(self) -> None:
        """End it as its owner would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Cluster:
    """All of it. `home` of a gateway is `homes[number]`."""

    engines: list[Part]
    gateways: list[Part]
    homes: list[Home]
    router: Part | None
    chroma: Part | None
    store: str  # the database's address
    sockets: str  # PostgreSQL's folder

    def kill_database_backend(self) -> int:
        """kill -9 one of PostgreSQL's processes that serve a gateway; the server ends all others then, and recovers."""
        with admin(self.sockets) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = :name ORDER BY random() LIMIT 1"
            pid = connection.execute(text(query), {"name": self.store.partition("@/")[2].partition("?")[0]}).scalar()
        assert pid is not None
        os.kill(int(pid), signal.SIGKILL)
        return int(pid)

    def ready(self, number: int) -> dict[str, object]:
        """What a gateway says of itself and its engines."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        answer = httpx.get(f"{self.gateways[number].url}/ready", headers=headers, timeout=30, trust_env=False)
        return dict(answer.json())


@contextmanager
def cluster(
    root: Path, models: Path, engines: int = 3, gateways: int = 2, slots: int = 4, memory: int = 16,
    routed: bool = True, more: str = "", base: str = "starter", with_chroma: bool = True,
) -> Iterator[Cluster]:  # fmt: skip
    """Everything, ready; homes borrow the folder `models`. `more`: further lines of [engine]."""
    with ExitStack() as stack:
        sockets = stack.enter_context(running_server())
        assert sockets is not None, "no PostgreSQL server here: apt-get install postgresql"
        with admin(str(sockets)) as connection:
            connection.execute(text("CREATE DATABASE brogue"))
        store = f"postgresql://brogue@/brogue?host={sockets}"
        urls = [f"http://127.0.0.1:{free_port()}" for _ in range(engines)]
        chroma = _chroma(root) if with_chroma else None
        router = _router(root) if routed else None
        if router is not None:
            more += f"\nrouter = {json.dumps(router.url)}"
        settings = SETTINGS.format(
            base=json.dumps(base), urls=json.dumps(urls), store=json.dumps(store), slots=slots, memory=memory,
            more=more, artefacts=json.dumps(str(root / "artefacts")),
            chroma=json.dumps(chroma.url if chroma else "http://127.0.0.1:9"),
        )  # fmt: skip
        homes = [_home(root / f"gateway-{number}", settings, models) for number in range(1, gateways + 1)]
        own = _home(root / "engines", settings, models)
        made = Cluster(
            [_engine(own, url, root) for url in urls], [_gateway(home, root) for home in homes], homes, router, chroma,
            store, str(sockets),
        )  # fmt: skip
        parts = [*([chroma] if chroma else []), *made.engines, *([router] if router else []), *made.gateways]
        for part in reversed(parts):
            stack.callback(part.stop)
        for some in ([chroma] if chroma else [], made.engines, [router] if router else [], made.gateways):
            start(some)
        yield made


def start(parts: Sequence[Part]) -> None:
    """Start them at once, and wait for all."""
    for part in parts:
        part.start()
    for part in parts:
        part.wait()


def _home(root: Path, settings: str, models: Path) -> Home:
    home = Home(root)
    home.create()
    shutil.copytree(models, home.models, symlinks=True, copy_function=os.link)  # no second copy of the weights
    write_text(home.settings_file, settings)
    return home


def _engine(home: Home, url: str, root: Path) -> Part:
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "assistant.cli", "engine", "--port", port]
    return Part(f"engine-{port}", command, url, "/health", _env(home), root / f"engine-{port}.log")


def _gateway(home: Home, root: Path) -> Part:
    port = str(free_port())
    words = ("up", "--foreground", "--no-page", "--no-worker", "--port", port)
    command = [sys.executable, "-m", "assistant.cli", *words]
    return Part(home.root.name, command, f"http://127.0.0.1:{port}", "/ready", _env(home),
                root / f"{home.root.name}.log")  # fmt: skip


def _router(root: Path) -> Part:
    """It is told its engines by the gateways."""
    command, port = find_router(), free_port()
    assert command is not None, "no vllm-router here: make router"
    words = ["--port", str(port), "--prometheus-port", str(free_port()), "--policy", "cache_aware",
             "--balance-abs-threshold", "4", "--retry-max-retries", "2", "--health-check-interval-secs", "1",
             "--health-failure-threshold", "1", "--health-success-threshold", "1", "--cb-failure-threshold", "1",
             "--cb-timeout-duration-secs", "5"]  # fmt: skip
    return Part("router", [command, *words], f"http://127.0.0.1:{port}", "/liveness", {}, root / "router.log")


def _chroma(root: Path) -> Part:
    port = str(free_port())
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(root / "chroma"), "--port", port]
    return Part("chroma", command, f"http://127.0.0.1:{port}", "/api/v2/heartbeat", {}, root / "chroma.log")


def _env(home: Home) -> dict[str, str]:
    return {"BROGUE_HOME": str(home.root), "BROGUE_ADMIN_KEY": ADMIN_KEY, "BROGUE_ENGINE_KEY": ENGINE_KEY}


def _started(command: list[str], env: dict[str, str], log: "IO[bytes]") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def run_in(home: Home, *words: str) -> str:
    """A command of ours in a gateway's home; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "assistant.cli", *words], env=os.environ | _env(home), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
