"""What keeping every answer costs the gateway: requests through it to an engine that answers at once, in process.

    python -m benchmarks.recording [--requests 1000] [--words 64]

Prints a JSON line for each way of logging ("none" drops every answer), best of three rounds in turn: our own
milliseconds per request as the header x-brogue-overhead-ms says (p50, p95), milliseconds until the last byte (p50),
and requests per second, with 8 clients at once. After each round the store must hold every answer.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from data.home import Home, write_text
from data.store_home import open_store
from serve.recorder import Answered, Recorder
from tests.fakes import FakeEngine, FakeGateway

CLIENTS, ROUNDS = 8, 3
MODES = ("none", "off", "full", "redacted")
QUESTION = "I am ann@example.org and my parcel has not come. Where is it? " * 4


class _Dropping(Recorder):
    def record(self, answer: Answered) -> None:
        pass


async def measure(mode: str, stream: bool, requests: int, words: int) -> dict[str, float]:
    """One round in a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        write_text(home.settings_file, f'[store]\nlogging = "{"full" if mode == "none" else mode}"\n')
        open_store(home).close()  # its tables are made before the clock starts
        gateway = FakeGateway(home, FakeEngine(words=words))
        if mode == "none":
            gateway.recorder.__class__ = _Dropping
        async with gateway.running() as client:
            figures = await _ask_all(client, stream, requests)
        if mode != "none":
            store = open_store(home)
            assert len(store.responses()) == requests + CLIENTS, "an answer is missing"
            store.close()
        return figures


async def _ask_all(client: httpx.AsyncClient, stream: bool, requests: int) -> dict[str, float]:
    body = {"model": "base", "messages": [{"role": "user", "content": QUESTION}], "user": "ann", "stream": stream}
    ours: list[float] = []
    whole: list[float] = []

    async def ask(count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            reply = await client.post("/v1/chat/completions", json=body)
            whole.append((time.perf_counter() - began) * 1000)
            ours.append(float(reply.headers["x-brogue-overhead-ms"]))

    await asyncio.gather(*(ask(1) for _ in range(CLIENTS)))
    ours.clear()
    whole.clear()
    began = time.perf_counter()
    await asyncio.gather(*(ask(requests // CLIENTS) for _ in range(CLIENTS)))
    seconds = time.perf_counter() - began
    return {
        "overhead_ms_p50": round(statistics.median(ours), 2),
        "overhead_ms_p95": round(statistics.quantiles(ours, n=20)[-1], 2),
        "answer_ms_p50": round(statistics.median(whole), 2),
        "requests_per_s": round(requests / seconds, 1),
    }


def main() -> None:
    """Measure all ways in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--words", type=int, default=64)
    options = parser.parse_args()
    requests = options.requests // CLIENTS * CLIENTS
    for stream in (False, True):
        rounds: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
        for _ in range(ROUNDS):
            for mode in MODES:
                rounds[mode].append(asyncio.run(measure(mode, stream, requests, options.words)))
        for mode, found in rounds.items():
            best = max(found, key=lambda one: one["requests_per_s"])
            print(json.dumps({"logging": mode, "stream": stream, "words": options.words} | best))


if __name__ == "__main__":
    main()
