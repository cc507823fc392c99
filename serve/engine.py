"""The vLLM engine: one child process group on loopback, started, watched, explained and stopped.

vLLM is never imported here; it is the OpenAI-compatible server of the installed package, started as a process with a
random key that only the gateway knows. Its log goes to `<home>/logs/engine.log`.
"""

import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from data.errors import BrogueError
from data.home import Home
from data.settings import Address, EngineSettings
from serve.engine_log import death_reason, phase
from serve.engine_transport import EngineTransport
from serve.hardware import EnginePlan
from serve.process import stop_process_group
from serve.tracing import TracedTransport

FIRST_PORT = 20_000  # what people choose themselves is mostly below
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
NOWHERE = "nowhere.invalid"  # a domain that never exists: without any domain vLLM would fetch from all of them
KEEP_ALIVE_S = 2  # vLLM closes a connection after 5 idle seconds; a request must not be sent into that moment
Progress = Callable[[str], None]


def free_port() -> int:
    """A TCP port on loopback that is free now.

    It is bound seconds later, so it is none of those that the system hands out meanwhile by itself, to whoever connects
    somewhere or binds port 0; where it hands out nearly all of them, it is one of its own.
    """
    known = range(FIRST_PORT, _first_handed_out())
    for port in random.sample(known, min(len(known), 100)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_handed_out() -> int:
    try:
        return int(PORT_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768  # Linux's own choice


@dataclass(frozen=True)
class Place:
    """Where an engine listens, and the key that it wants."""

    port: int
    key: str
    host: str = "127.0.0.1"

    @classmethod
    def own(cls) -> "Place":
        """One that nobody but us knows."""
        return cls(free_port(), secrets.token_urlsafe(32))


def command_line(
    model_path: str, name: str, port: int, settings: EngineSettings, plan: EnginePlan, adapters: bool = True,
    host: str = "127.0.0.1",
) -> list[str]:  # fmt: skip
    """vLLM's command line, with or without LoRA.

    The key is not in it (other users can read command lines): it goes by environment.
    """
    # `vllm serve` needs package metadata named "vllm", which the CPU wheel lacks; the module works with both.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model_path, "--served-model-name", name, "--host", host, "--port", str(port)]
    command += ["--middleware", "serve.engine_door.EngineDoor"]
    command += ["--allowed-media-domains", *(settings.media_domains or (NOWHERE,))]
    command += ["--dtype", settings.dtype, "--max-model-len", str(plan.max_model_len)]
    if settings.tool_call_parser != "none":  # without one vLLM refuses even calls that it holds the model to
        command += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser]
    if adapters:
        command += ["--enable-lora", "--max-loras", str(settings.max_loras)]
        command += ["--max-lora-rank", str(settings.max_lora_rank)]
        command += ["--max-cpu-loras", str(max(settings.max_cpu_loras, settings.max_loras))]
    if plan.max_num_seqs is not None:
        command += ["--max-num-seqs", str(plan.max_num_seqs)]
    if plan.kv_cache_bytes is not None:
        command += ["--kv-cache-memory-bytes", str(plan.kv_cache_bytes)]
    if plan.device == "gpu":
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    else:
        command += ["--worker-cls", "serve.cpu_worker.Worker"]
    return command + list(settings.extra_args)


def environment(home: Home, key: str, plan: EnginePlan) -> dict[str, str]:
    """The child's environment: our key, no telemetry, no hub, every cache inside the home folder."""
    env = dict(os.environ)
    env |= {
        "VLLM_API_KEY": key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_LOGGING_LEVEL": "INFO",  # its phases are read from its log; importing TRL sets ERROR
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",  # as the gateway's own, where traces are wanted
        "OTEL_SERVICE_NAME": "vllm",
        "XDG_CACHE_HOME": str(home.root / "cache"),
        "XDG_CONFIG_HOME": str(home.root / "cache" / "config"),
        "VLLM_CACHE_ROOT": str(home.root / "cache" / "vllm"),
    }
    if plan.cores is not None:
        env["VLLM_CPU_OMP_THREADS_BIND"] = plan.cores
    if plan.gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = plan.gpus
    if plan.preload is not None:
        env["LD_PRELOAD"] = ":".join(filter(None, [str(plan.preload), env.get("LD_PRELOAD")]))
    return env


def engine_client(url: str, key: str) -> httpx.AsyncClient:
    """A client of the engine there; an empty key is not sent. A long queue before the first token is not a failure."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(
        base_url=url, headers=headers, timeout=httpx.Timeout(600, connect=5),
        transport=TracedTransport(EngineTransport(KEEP_ALIVE_S)), trust_env=False,
    )  # fmt: skip


class Engine:
    """One running vLLM server. `start`, `wait_ready`, then `stop`; `url` and `key` are for the gateway."""

    def __init__(
        self, command: list[str], env: dict[str, str], log_file: Path, port: int, host: str = "127.0.0.1"
    ) -> None:
        self.url = Address(host=host, port=port).url
        self.key = env["VLLM_API_KEY"]
        self.log_file = log_file
        self._command = command
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @classmethod
    def build(
        cls, model_path: str, name: str, settings: EngineSettings, plan: EnginePlan, home: Home,
        log: str = "engine.log", adapters: bool = True, place: Place | None = None,
    ) -> "Engine":  # fmt: skip
        """An engine for the model in folder `model_path`, not yet started; without `adapters` it takes none."""
        place = place or Place.own()
        command = command_line(model_path, name, place.port, settings, plan, adapters, place.host)
        return cls(command, environment(home, place.key, plan), home.logs / log, place.port, place.host)

    def client(self) -> httpx.AsyncClient:
        """A client with its key."""
        return engine_client(self.url, self.key)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process in a session of its own, so that everything it starts can be stopped with it."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".previous.log"))
        self._log = self.log_file.open("wb")
        self._process = subprocess.Popen(
            self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def wait_ready(self, timeout_s: float, progress: Progress) -> None:
        """Wait until the engine answers; tell what it is doing. Raises `BrogueError` with the reason if it dies."""
        deadline = time.monotonic() + timeout_s
        while not self._healthy():
            if not self.is_alive():
                raise BrogueError(self.why_dead())
            if time.monotonic() > deadline:
                raise BrogueError(self.why_late(timeout_s))
            progress(self.phase())
            time.sleep(0.5)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def why_dead(self) -> str:
        """One line: how the engine ended and the root cause that its log names."""
        code = self._process.poll() if self._process else None
        return f"the engine stopped: {death_reason(self._read_log(), code)} (log: {self.log_file})"

    def why_late(self, timeout_s: float) -> str:
        """One line for an engine that does not get ready."""
        return (
            f"the engine was not ready after {timeout_s:.0f} s, last seen {self.phase()}; "
            f"see {self.log_file} or raise engine.start_timeout_s in brogue.toml"
        )

    def phase(self) -> str:
        """What it is doing while it starts, in a person's words."""
        return phase(self._read_log())

    def stop(self) -> None:
        """Stop the engine and everything it started; returns when all of it is gone."""
        if self._process is not None:
            stop_process_group(self._process.pid)
            self._process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _read_log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""
