"""How many adapters one engine bears: tokens/s through the gateway with 1 to 12 of them active on 4 slots.

Run `python -m benchmarks.adapters` with nothing else running. A real `brogue up` is started in a temporary home that
borrows the configured home's models; twelve random rank-8 adapters are imported into it. In each round the same number
of streams is spread over 1, 2, … adapters. One JSON line each, medians over the rounds: tokens/s, its ratio to one
adapter, seconds to the first token, and the longest queue for a slot that /ready showed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx

from adapters.base_model import prepare
from benchmarks.load import run_streams
from benchmarks.lora_cpu import PROMPT, random_adapter
from data.home import Home
from data.settings import load_settings
from serve.engine import free_port


class Sample(NamedTuple):
    """One measurement."""

    tokens_per_s: float
    first_token_s: float  # median over the streams
    last_first_token_s: float  # of the stream that waited longest
    waiting: int  # most requests that waited for a slot


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--active", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 8, 10, 12])
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=64, help="output tokens of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with gateway(max(options.active)) as (url, names):
        rounds: list[dict[int, Sample]] = []
        for _ in range(options.rounds + 1):  # the first round warms up
            rounds.append(
                {n: asyncio.run(measure(url, names[:n], options.streams, options.tokens)) for n in options.active}
            )
        report(rounds[1:])


@contextlib.contextmanager
def gateway(adapters: int) -> Iterator[tuple[str, list[str]]]:
    """A running Brogue with so many adapters: its URL and what clients call them."""
    configured = Home.from_environment()
    base = prepare(load_settings(configured.settings_file).base_model, configured, lambda _: None)
    with TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.assistants.mkdir(parents=True)  # there are assistants already, if none: no example is made
        home.models.symlink_to(configured.models)
        home.settings_file.write_text(f"base_model = {json.dumps(base.path)}\n", encoding="utf-8")
        names = [f"random-{number}" for number in range(adapters)]
        for seed, name in enumerate(names):
            brogue(home, "adapters", "import", str(random_adapter(base, Path(folder) / name, seed)), "--as", name)
        port = free_port()
        try:
            brogue(home, "up", "--port", str(port), "--page-port", str(free_port()))
            yield f"http://127.0.0.1:{port}", [f"{name}@stable" for name in names]
        finally:
            brogue(home, "down")


def brogue(home: Home, *words: str) -> None:
    """Run a command in that home."""
    env = os.environ | {"BROGUE_HOME": str(home.root)}
    subprocess.run([sys.executable, "-m", "assistant.cli", *words], env=env, check=True, stdout=subprocess.DEVNULL)


async def measure(url: str, names: list[str], streams: int, tokens: int) -> Sample:
    """The streams spread over the adapters, all at once."""
    waiting = 0

    async def watch() -> None:
        nonlocal waiting
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                waiting = max(waiting, (await client.get(f"{url}/ready")).json()["slots"]["waiting"])
                await asyncio.sleep(0.25)

    watcher = asyncio.create_task(watch())
    models = (names * streams)[:streams]
    load = await run_streams(url, "any", models, PROMPT, tokens, chat=True)
    watcher.cancel()
    return Sample(load.tokens_per_s, statistics.median(load.first_token_s), max(load.first_token_s), waiting)


def report(rounds: list[dict[int, Sample]]) -> None:
    """One line for each number of adapters."""
    first = min(rounds[0])
    for active in rounds[0]:
        samples = [one[active] for one in rounds]
        line = {"active": active, "tokens_per_s": round(statistics.median(s.tokens_per_s for s in samples), 1)}
        ratio = statistics.median(one[active].tokens_per_s / one[first].tokens_per_s for one in rounds)
        line |= {f"of_{first}": round(ratio, 2), "waiting": max(s.waiting for s in samples)}
        line["first_token_s"] = round(statistics.median(s.first_token_s for s in samples), 2)
        line["last_first_token_s"] = round(statistics.median(s.last_first_token_s for s in samples), 2)
        print(json.dumps(line | {"rounds": [round(s.tokens_per_s, 1) for s in samples]}), flush=True)


if __name__ == "__main__":
    main()
