"""The gateway's port under 5,000 spoilt requests: nothing crashes, nothing leaks, and it goes on answering."""

import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import httpx
import psutil
import pytest

from tests.conftest import ROOT, free_port
from tests.raw_requests import SPOILERS, Sent, ask

REQUESTS, WARM_UP = 5_000, 1_500  # after which each kind has come a hundred times
AT_ONCE = 24  # connections
SEED = 2026
# Bytes of memory from the end of the warm-up on. glibc may keep what each thread once had at most, up to 100 MiB here,
# so the server is told to have few such places: what is left grows with what is kept.
MOST_GROWTH = 16 * 2**20
PATIENCE_S, TIMES = 0.04, 3  # how long to wait for an answer, and how often: the server may wait for more itself
GONE = "ASGI callable returned without completing response."  # uvicorn of a client that has gone; see serve/hangups.py


@dataclass
class Server:
    """A gateway in a process of its own."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        with suppress(httpx.HTTPError):
            body = ask()
            reply = httpx.post(f"{self.url}/v1/chat/completions", content=body, timeout=120)
            return reply.status_code == 200 and reply.json()["model"] == "reed"
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.raw_server", str(tmp_path / "served"), str(port)], cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    server = Server(process, port, log)
    deadline = time.monotonic() + 120
    while not server.answers():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    yield server
    process.terminate()
    assert process.wait(30) in (0, -15), "it stops as it should, too"


def spoilt(number: int) -> Sent:
    return SPOILERS[number % len(SPOILERS)](random.Random(f"{SEED} {number}"))


class Client:
    """Sends what is spoilt, each over a connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, sent: Sent) -> bytes:
        """All that came back."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=120) as connection:
            got = b""
            try:
                for piece in sent.pieces:
                    connection.sendall(piece)
                    time.sleep(sent.pause_s)
                if sent.end == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return got
                got = self._read(connection)
                if sent.end == "half-close":
                    connection.shutdown(socket.SHUT_WR)
                    got += self._read(connection)
            except OSError:  # it would not listen to the end, or thought that it was done
                pass
            return got

    def _read(self, connection: socket.socket) -> bytes:
        """What comes, until the connection is closed or the server has gone on with other things for a while."""
        got = b""
        connection.settimeout(PATIENCE_S)
        for _ in range(TIMES):
            with suppress(TimeoutError):
                while block := connection.recv(65_536):
                    got += block
                return got
            if got:
                return got
            assert urlopen(f"http://127.0.0.1:{self._port}/health", timeout=120).status == 200
        return got


def statuses(got: bytes) -> list[int]:
    """Of all answers in it; the bodies of ours hold no such line."""
    return [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


@pytest.mark.slow
def test_five_thousand_spoilt_requests_crash_nothing_and_memory_stays_flat(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    seen: Counter[tuple[str, int]] = Counter()
    bad: list[str] = []

    def some(numbers: range) -> None:
        client = Client(server.port)
        for number in numbers:
            got = client.send(spoilt(number))
            name = SPOILERS[number % len(SPOILERS)].__name__
            for status in statuses(got) or [0]:
                seen[name, status] += 1
                if status >= 500:
                    bad.append(f"{name} {number}: {got[:600]!r}")

    def all_of(first: int, end: int) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(some, (range(first + n, end, AT_ONCE) for n in range(AT_ONCE))))

    all_of(0, WARM_UP)
    warm, files = process.memory_info().rss, process.num_fds()
    all_of(WARM_UP, REQUESTS)
    assert server.process.poll() is None, server.log.read_text()[-3000:]
    assert server.answers()
    grown = process.memory_info().rss - warm
    by_status = Counter({status: sum(n for (_, s), n in seen.items() if s == status) for _, status in seen})
    print(f"{REQUESTS} requests, answers by status (0: none) {dict(sorted(by_status.items()))};",
          f"memory {warm / 2**20:.0f} MiB after {WARM_UP}, {grown / 2**20:+.1f} MiB since")  # fmt: skip
    assert not bad, f"{len(bad)} answers are a 5xx:\n" + "\n".join(bad[:20])
    log = server.log.read_text(errors="replace")
    wrong = [line for line in log.splitlines() if re.search("Traceback|ERROR|Exception", line) and GONE not in line]
    assert not wrong, log[-6000:]
    assert grown < MOST_GROWTH
    assert process.num_fds() <= files + AT_ONCE, "no connection is kept that its client has left"
    assert by_status[200] > 200 and by_status[400] > 1000, "both kinds got through to the routes"
