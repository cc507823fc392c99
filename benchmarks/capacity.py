"""What one engine does beside what `brogue capacity` predicts for it: tokens/s by streams, and latency under random
arrivals for many adapters on few slots.

Run `python -m benchmarks.capacity` with nothing else running. An engine (or `--engines N`, which share the machine)
starts on the configured home's base model with random rank-8 adapters; the gateway's own slots (serve/slots.py) stand
before it, the gateway does not. Two measurements calibrate (one stream, a full batch), as does the time that a missing
adapter costs; everything else is compared with what the planner predicts from these. One JSON line a row; the first
holds what to give to --engine-tokens-per-second and --assume slot_load_ms.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import numpy as np

from adapters.base_model import BaseModel, prepare
from benchmarks.load import run_streams
from benchmarks.lora_cpu import PROMPT, RANK, post, random_adapter
from data.home import Home
from data.settings import EngineSettings, load_settings
from serve.capacity import predict
from serve.capacity_engine import EngineModel, Traffic, fitted
from serve.capacity_figures import CPU_PROMPT_TOKENS_PER_S
from serve.capacity_popularity import everywhere, zipf
from serve.capacity_simulation import simulate
from serve.engine import Engine
from serve.hardware import plan
from serve.slots import Slots

PATIENT_S = 600.0
LOADS = (0.3, 0.6)  # of what a full batch is predicted to serve
LOAD_PROBES = 12  # requests of one token, to time how long an adapter takes into its slot
SIMULATED = 20_000


class Calibration(NamedTuple):
    """What is measured first and handed to the planner."""

    tokens_per_s: dict[int, float]  # of one engine, by streams
    slot_load_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="max_num_seqs")
    parser.add_argument("--adapters", type=int, default=12)
    parser.add_argument("--zipf", type=float, default=1.0)
    parser.add_argument("--streams", type=int, nargs="+", default=[2, 4, 8, 24])
    parser.add_argument("--tokens", type=int, default=48, help="output tokens of each answer")
    parser.add_argument("--seconds", type=float, default=60, help="of random arrivals at each load")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # the engines are stopped then too
    home = Home.from_environment()
    home.create()
    base = prepare(load_settings(home.settings_file).base_model, home, lambda _: None)
    with running(base, home, options) as engines:
        names = [f"random-{number}" for number in range(options.adapters)]
        found = calibrate(engines, names, options)
        model = modelled(found, options)
        given = ",".join(f"{streams}:{speed:.1f}" for streams, speed in found.tokens_per_s.items())
        show(row="calibration", engine_tokens_per_second=given, slot_load_ms=round(found.slot_load_s * 1e3, 1))
        for streams in options.streams:
            closed(engines, names, model, streams, options)
        for load in LOADS:
            opened(engines, names, model, load, options)
        again = speed(engines, names[:1], options.batch, options.tokens)
        show(row="calibration again", streams=options.batch, tokens_per_s=round(again, 1))


@contextlib.contextmanager
def running(base: BaseModel, home: Home, options: argparse.Namespace) -> Iterator[list[Engine]]:
    """Engines with all adapters in memory."""
    settings = EngineSettings(max_loras=options.slots, max_cpu_loras=options.adapters, max_lora_rank=RANK,
                              max_num_seqs=options.batch, extra_args=("--no-enable-prefix-caching",))  # fmt: skip
    chosen = plan(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    logs = [f"engine-{number}.log" for number in range(options.engines)]
    engines = [Engine.build(base.path, base.name, settings, chosen, home, log) for log in logs]
    with TemporaryDirectory() as folder:
        paths = [random_adapter(base, Path(folder) / f"random-{seed}", seed) for seed in range(options.adapters)]
        try:
            for engine in engines:
                engine.start()
            for engine in engines:
                engine.wait_ready(900, lambda _: None)
                for path in paths:
                    post(engine, "/v1/load_lora_adapter", {"lora_name": path.name, "lora_path": str(path)})
            yield engines
        finally:
            for engine in engines:
                engine.stop()


def calibrate(engines: list[Engine], names: list[str], options: argparse.Namespace) -> Calibration:
    """One stream, a full batch, and what it takes to bring an adapter into a slot."""
    speed(engines, names[:1], options.batch, 8)  # warms up
    points = {streams: speed(engines, names[:1], streams, options.tokens) / len(engines)
              for streams in (1, options.batch)}  # fmt: skip
    found, missing = (statistics.median(probes(engines[0], asked)) for asked in (names[:1], names))
    return Calibration(points, max(0.0, missing - found))


def probes(engine: Engine, names: list[str]) -> list[float]:
    """Seconds of requests for one token, one after the other, of these adapters in turn; the first round warms up."""
    took: list[float] = []
    for name in itertools.islice(itertools.cycle(names), len(names) + LOAD_PROBES):
        began = time.perf_counter()
        post(engine, "/v1/completions", {"model": name, "prompt": PROMPT, "max_tokens": 1}).raise_for_status()
        took.append(time.perf_counter() - began)
    return took[len(names) :]


def speed(engines: list[Engine], names: list[str], streams: int, tokens: int) -> float:
    """Output tokens/s of all engines, each with so many streams at once that are spread over the adapters."""

    async def all_engines() -> float:
        models = (names * streams)[:streams]
        loads = await asyncio.gather(*(run_streams(one.url, one.key, models, PROMPT, tokens) for one in engines))
        return sum(load.tokens_per_s for load in loads)

    return asyncio.run(all_engines())


def modelled(found: Calibration, options: argparse.Namespace) -> EngineModel:
    """The engine as the planner sees it."""
    line = fitted(found.tokens_per_s)
    more = {"prompt_token_s": 1 / CPU_PROMPT_TOKENS_PER_S, "slot_load_s": found.slot_load_s}
    return EngineModel(speed=line.model_copy(update=more), batch=options.batch, batch_limit="max_num_seqs",
                       slots=options.slots, cached=options.adapters, memory={})  # fmt: skip


def closed(engines: list[Engine], names: list[str], model: EngineModel, streams: int, options: argparse.Namespace
           ) -> None:  # fmt: skip
    """So many streams at once, over as many adapters as there are slots: tokens/s measured and predicted."""
    measured = speed(engines, names[: options.slots], streams, options.tokens)
    turns = [min(model.batch, streams - begun) for begun in range(0, streams, model.batch)]  # batch after batch
    predicted = streams / sum(model.speed.step_s(batch, min(batch, options.slots)) for batch in turns) * len(engines)
    show(row="closed", streams=streams, adapters=options.slots, tokens_per_s=round(measured, 1),
         predicted=round(predicted, 1), ratio=round(predicted / measured, 2))  # fmt: skip


def opened(engines: list[Engine], names: list[str], model: EngineModel, load: float, options: argparse.Namespace
           ) -> None:  # fmt: skip
    """Random arrivals over all adapters through the gateway's slots: latency measured, predicted and simulated."""
    shares, routed = zipf(len(names), options.zipf), everywhere(len(names), len(engines))
    traffic = Traffic(adapters=len(names), rps=1e-6, prompt_tokens=12, tokens=options.tokens, zipf=options.zipf,
                      varied=False)  # fmt: skip
    full = predict(model, traffic, shares, routed).full_tokens_per_s
    traffic = traffic.model_copy(update={"rps": load * full / options.tokens})
    said, simulated = predict(model, traffic, shares, routed), simulate(model, traffic, shares, routed, SIMULATED)
    took, answers_per_s = asyncio.run(arrivals(engines, names, shares, traffic, options))
    measured = {"mean_s": statistics.fmean(took), "p95_s": float(np.quantile(took, 0.95)),
                "tokens_per_s": answers_per_s * options.tokens}  # fmt: skip
    predicted = {"mean_s": said.mean_s, "p95_s": said.p95_s, "tokens_per_s": said.tokens_per_s}
    show(row="open", adapters=len(names), slots=options.slots, load=load, rps=round(traffic.rps, 2),
         requests=len(took), slot_waiting=round(said.slot_waiting, 3), measured=rounded(measured),
         predicted=rounded(predicted), simulated=rounded({name: getattr(simulated, name) for name in
                                                          ("mean_s", "p95_s")}))  # fmt: skip


async def arrivals(engines: list[Engine], names: list[str], shares: Any, traffic: Traffic,
                   options: argparse.Namespace) -> tuple[list[float], float]:  # fmt: skip
    """Seconds that each request took, and answers a second between the first arrival and the last end."""
    chance, gates = random.Random(7), [Slots(options.slots) for _ in engines]
    jobs: list[asyncio.Task[float]] = []
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(engine.client()) for engine in engines]
        began = time.perf_counter()
        while time.perf_counter() - began < options.seconds:
            number, [name] = len(jobs), chance.choices(names, weights=shares.tolist())
            at = chance.randrange(len(engines))
            jobs.append(asyncio.create_task(one(clients[at], gates[at], name, number, options.tokens)))
            await asyncio.sleep(chance.expovariate(traffic.rps))
        took = await asyncio.gather(*jobs)
        return list(took), len(took) / (time.perf_counter() - began)


async def one(client: httpx.AsyncClient, gate: Slots, name: str, number: int, tokens: int) -> float:
    """Seconds of one request, its wait for a slot included."""
    began = time.perf_counter()
    await gate.enter(name, time.monotonic() + PATIENT_S)
    try:
        body = {"model": name, "prompt": f"{PROMPT} ({number})", "max_tokens": tokens, "ignore_eos": True}
        (await client.post("/v1/completions", json=body)).raise_for_status()
    finally:
        gate.leave(name)
    return time.perf_counter() - began


def rounded(values: dict[str, float]) -> dict[str, float]:
    """For printing."""
    return {name: round(value, 2) for name, value in values.items()}


def show(**row: Any) -> None:
    """One JSON line."""
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
