"""What runs: the state file that the supervisor keeps and `up`, `down` and `status` read; how all of it is stopped."""

import json
import os
import signal
import socket
import time

import psutil

from data.errors import BrogueError
from data.home import Home, write_json
from data.secrets import admin_key
from data.settings import Address, Frozen
from serve.process import stop_process_group


class Child(Frozen):
    """A process, named so that a reused process id is not mistaken for it."""

    pid: int
    created: float  # seconds since the epoch, as psutil gives it

    @classmethod
    def of(cls, pid: int) -> "Child | None":
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class Parts(Frozen):
    """What runs beside the gateway."""

    page: bool = True
    worker: bool = True  # of fine-tuning jobs


class Services(Frozen):
    """What `brogue up` started."""

    supervisor: Child
    engines: tuple[Child, ...] = ()  # of the base model; none where they run elsewhere
    own_engines: tuple[Child, ...] = ()  # of versions that have one of their own, and what makes their weights
    page: Child | None = None
    worker: Child | None = None  # of fine-tuning jobs
    gateway_url: str  # for this machine's own; without TLS, whatever others need
    listens_at: str = ""  # where others find the gateway, if it is not the same
    page_url: str  # empty where no page was wanted
    base_model: str
    engine_state: str = "starting"  # starting, ready, dead
    engine_detail: str = ""

    @property
    def public_url(self) -> str:
        """Where clients find the gateway."""
        return self.listens_at or self.gateway_url

    @property
    def children(self) -> list[Child]:
        """All that runs, or ran; each but the supervisor was started by it."""
        return [
            child
            for child in (self.worker, *self.own_engines, *self.engines, self.page, self.supervisor)
            if child is not None
        ]

    def save(self, home: Home) -> None:
        write_json(home.services_file, self.model_dump(mode="json"))


def load_services(home: Home) -> Services | None:
    """What runs, or none. A file that a crash left behind counts only while something in it is alive."""
    try:
        services = Services.model_validate(json.loads(home.services_file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return services if any(child.is_alive() for child in services.children) else None


def running_gateway(home: Home) -> tuple[str, str] | None:
    """Address and admin key of the gateway that runs for this home, or none."""
    services = load_services(home)
    if services is None or not services.supervisor.is_alive():
        return None
    return services.gateway_url, admin_key(home)


def stop_services(home: Home, timeout_s: float = 30) -> bool:
    """Stop everything that `brogue up` started, also what a killed supervisor left behind; false if nothing ran."""
    services = load_services(home)
    if services is not None:
        if services.supervisor.is_alive():
            os.kill(services.supervisor.pid, signal.SIGTERM)
            _wait_gone(services.supervisor, timeout_s)
        latest = load_services(home) or services  # the engine may have been restarted meanwhile
        for child in latest.children:
            if child.is_alive():
                stop_process_group(child.pid)
    home.services_file.unlink(missing_ok=True)
    return services is not None


def stop_others(home: Home) -> bool:
    """Stop the engines of other base models that a killed `brogue advise` left behind; false if there were none."""
    found = [Home(path.parent) for path in home.root.glob("advice/*/other/*/services.json")]
    return any(list(map(stop_services, found)))


def _wait_gone(child: Child, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)


def require_free(what: str, address: Address) -> None:
    """Raises `BrogueError` if somebody listens at `address` already, or it is not ours to listen at."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise BrogueError(
                f"{what} cannot listen at {address.host}:{address.port} ({error.strerror}); "
                f"stop the program that uses it or set port in [{what}] of brogue.toml"
            ) from error
