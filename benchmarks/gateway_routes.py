"""The ways from a client to the scripted engine that benchmarks/gateway.py compares, each a process."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.gateway_processes import ASSISTANT, KEY, MODEL
from serve.engine import free_port

START_S = 120
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Route:
    """One way; `pid` is the process between client and engine, if there is one of ours to watch."""

    name: str
    url: str
    model: str
    key: str
    pid: int | None = None

    def cpu_s(self) -> float:
        """Processor seconds that it has taken so far, children included."""
        if self.pid is None:
            return 0.0
        process = psutil.Process(self.pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(one.user + one.system for one in times)


class Routes:
    """Starts all of them; stops them at the end of the block."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._processes: list[subprocess.Popen[bytes]] = []
        self.all: list[Route] = []

    def __enter__(self) -> "Routes":
        try:
            self._start_all()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def gateway(self) -> Route:
        return next(route for route in self.all if route.name == "gateway")

    def pace(self, first_ms: float, token_ms: float, tokens: int) -> None:
        """How fast the engine answers from now on."""
        pace = {"first_s": first_ms / 1000, "token_s": token_ms / 1000, "tokens": tokens}
        httpx.post(f"{self._engine}/pace", json=pace, trust_env=False).raise_for_status()

    def _start_all(self) -> None:
        python = [sys.executable, "-m", "benchmarks.gateway_processes"]
        port = free_port()
        engine = self._start("direct", port, [*python, "engine", str(port)], "/health", MODEL)
        self._engine = engine.url
        profile = ["-m", "cProfile", "-o", str(self._options.profile)] if self._options.profile else []
        ours = [sys.executable, *profile, "-m", "benchmarks.gateway_processes"]
        port = free_port()
        self._start("gateway", port, [*ours, "gateway", str(port), engine.url], "/ready", ASSISTANT)
        port = free_port()
        self._start("proxy", port, [*python, "proxy", str(port), engine.url], "/health", MODEL)
        if nginx := shutil.which("nginx"):
            port = free_port()
            config = self._folder / "nginx.conf"
            config.write_text(NGINX.format(folder=self._folder, port=port, engine=engine.url.rpartition(":")[2]))
            self._start("nginx", port, [nginx, "-c", str(config)], "/health", MODEL)
        if self._options.router:
            port = free_port()
            command = [str(self._options.router), "--host", "127.0.0.1", "--port", str(port)]
            self._start("vllm-router", port, [*command, "--worker-urls", engine.url], "/health", MODEL)

    def _start(self, name: str, port: int, command: list[str], ready: str, model: str) -> Route:
        wanted = self._options.only
        route = Route(name, f"http://127.0.0.1:{port}", model, KEY)
        if name != "direct" and wanted and name not in wanted:
            return route
        env = os.environ | {"BROGUE_HOME": str(self._folder / "home")}
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        self._processes.append(process)
        self._wait(process, f"{route.url}{ready}")
        route = Route(name, route.url, model, KEY, None if name == "direct" else process.pid)
        self.all.append(route)
        return route

    def _wait(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"{url} does not answer")

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
