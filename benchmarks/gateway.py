"""What our gateway costs between a client and the engine, beside no gateway and other proxies, in one run.

    python -m benchmarks.gateway [--streams 1 50 200] [--seconds 10] [--rounds 3] [--router PATH]
    python -m benchmarks.gateway --soak 600                       mixed load, the gateway's memory sampled
    python -m benchmarks.gateway --engine URL --key KEY --gateway URL --model NAME    a running `brogue up`

The engine is scripted: each stream's first token after --first-ms, then a token every --token-ms. Routes take turns, so
that what else the machine does hits all of them: direct, our gateway, a plain proxy of Starlette and httpx, nginx and
vllm-router where there are any. One JSON line for each route and load; `added_*` is against direct in the same rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.gateway_load import Order
from benchmarks.gateway_processes import ASSISTANT, KEY, MODEL
from benchmarks.gateway_routes import Route, Routes

SATURATING = 32  # clients at once, where requests per second are counted
WARM_S = 60  # of a soak, before memory counts
SAMPLE_S = 5


def load(order: Order) -> dict[str, Any]:
    """Run a load in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gateway_load", json.dumps(order.__dict__)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def take_turns(routes: Sequence[Route], rounds: int, **order: Any) -> dict[str, dict[str, Any]]:
    """The same load on each route in turn, `rounds` times; by route, all rounds' figures together."""
    found: dict[str, dict[str, Any]] = {
        route.name: {"first_s": [], "whole_s": [], "done": 0, "failed": 0, "elapsed_s": 0.0, "cpu_s": 0.0}
        for route in routes
    }
    for number in range(rounds):
        for route in routes if number % 2 == 0 else reversed(routes):
            before = route.cpu_s()
            result = load(Order(route.url, route.model, route.key, **order))
            for key, value in (result | {"cpu_s": route.cpu_s() - before}).items():
                found[route.name][key] += value
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """In milliseconds."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def latency(found: dict[str, dict[str, Any]], **about: Any) -> list[dict[str, Any]]:
    """Lines that compare each route with direct."""
    lines: list[dict[str, Any]] = []
    direct = found["direct"]
    for name, one in found.items():
        line: dict[str, Any] = {"route": name, **about, "answers": len(one["whole_s"]), "failed": one["failed"]}
        for what, key in (("first", "first_s"), ("whole", "whole_s")):
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                value = quantile(one[key], share)
                line[f"{what}_ms_{label}"] = round(value, 2)
                if name != "direct":
                    line[f"added_{what}_ms_{label}"] = round(value - quantile(direct[key], share), 2)
        lines.append(line | _cpu(one))
    return lines


def rates(found: dict[str, dict[str, Any]], **about: Any) -> list[dict[str, Any]]:
    """Lines with answers per second, and each route's share of direct's.

    So many clients that ask again at once get clients / (mean seconds of an answer) a second. To count answers would be
    coarse: a real engine writes all clients' at the same pace, and in a round they have one more each, or not.
    """
    clients = about.get("clients") or about["streams"]
    direct = clients / statistics.fmean(found["direct"]["whole_s"])
    lines = []
    for name, one in found.items():
        rate = clients / statistics.fmean(one["whole_s"])
        line = {"route": name, **about, "requests_per_s": round(rate, 1), "of_direct": round(rate / direct, 3)}
        lines.append(line | {"failed": one["failed"]} | _cpu(one))
    return lines


def _cpu(one: dict[str, Any]) -> dict[str, float]:
    return {"cpu_ms_per_answer": round(one["cpu_s"] * 1000 / max(1, one["done"]), 3)}


def compare(routes: Routes, options: argparse.Namespace) -> None:
    """Added latency at each number of streams, then requests per second."""
    for streams in options.streams:
        routes.pace(options.first_ms, options.token_ms, options.tokens)
        ramp = (options.first_ms + options.token_ms * options.tokens) / 1000  # the streams begin evenly spread
        about = {"streams": streams, "token_ms": options.token_ms, "tokens": options.tokens}
        order = {"streams": streams, "seconds": options.seconds, "max_tokens": options.tokens, "ramp_s": ramp}
        _print(latency(take_turns(routes.all, options.rounds, **order), **about))
    routes.pace(0, 0, options.tokens)
    for stream in (False, True):
        order = {"streams": SATURATING, "seconds": options.seconds, "max_tokens": options.tokens, "stream": stream}
        about = {"stream": stream, "clients": SATURATING, "tokens": options.tokens}
        _print(rates(take_turns(routes.all, options.rounds, **order), **about))


def soak(routes: Routes, options: argparse.Namespace) -> None:
    """Mixed load for so long; what the gateway's memory does after the first minute."""
    routes.pace(options.first_ms, options.token_ms, options.tokens)
    ours, share = routes.gateway, options.soak / 2
    process, samples = psutil.Process(ours.pid), []
    most, few = options.soak_streams, max(1, options.soak_streams // 5)
    orders = [
        Order(ours.url, ours.model, ours.key, most, options.soak, max_tokens=options.tokens),
        Order(ours.url, ours.model, ours.key, few, share, stream=False, max_tokens=options.tokens),
        Order(ours.url, MODEL, ours.key, few, options.soak, extra={"stream_options": {"include_usage": True}}),
        Order(ours.url, "nobody", ours.key, 1, options.soak),  # refused, every time
    ]
    command = [sys.executable, "-m", "benchmarks.gateway_load"]
    # A pipe takes 64 KiB only, and would be read at the end.
    told = [tempfile.TemporaryFile("w+") for _ in orders]  # noqa: SIM115  # closed when they are read
    loads = [
        subprocess.Popen([*command, json.dumps(order.__dict__)], stdout=file)
        for order, file in zip(orders, told, strict=True)
    ]
    began = time.monotonic()
    while any(one.poll() is None for one in loads) and time.monotonic() - began < options.soak + 60:
        time.sleep(SAMPLE_S)
        httpx.get(f"{ours.url}/metrics", timeout=30, trust_env=False)  # as Prometheus does
        samples.append((time.monotonic() - began, process.memory_info().rss / 2**20))
    results = []
    for one, file in zip(loads, told, strict=True):
        one.wait()
        with file:
            file.seek(0)
            results.append(json.loads(file.read()))
    warm = [mib for at, mib in samples if at >= min(WARM_S, options.soak / 4)]
    tenth = max(1, len(warm) // 10)
    first, last = statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])
    line = {
        "soak_s": options.soak, "streams": most, "answers": sum(r["done"] for r in results),
        "failed": [r["failed"] for r in results], "rss_mib_warm": round(first, 1), "rss_mib_end": round(last, 1),
        "growth": round(last / first - 1, 4),
        "rss_mib": [round(mib, 1) for _, mib in samples[:: max(1, len(samples) // 40)]],
    }  # fmt: skip
    _print([line])


def compare_real(options: argparse.Namespace) -> None:
    """Throughput of a real engine, bare and through the gateway in front of it."""
    routes = [
        Route("direct", options.engine, options.base or options.model, options.key),
        Route("gateway", options.gateway, options.model, options.gateway_key),
    ]
    extra = {"ignore_eos": True, "temperature": 0}
    for streams in options.streams:
        order = {"streams": streams, "seconds": options.seconds, "max_tokens": options.tokens, "extra": extra}
        found = take_turns(routes, options.rounds, **order)
        about = {"engine": "real", "streams": streams, "tokens": options.tokens}
        _print([one | two for one, two in zip(latency(found, **about), rates(found, **about), strict=True)])


def _print(lines: Sequence[dict[str, Any]]) -> None:
    for line in lines:
        print(json.dumps(line), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument("--seconds", type=float, default=10, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-ms", type=float, default=100, help="the scripted engine's time to the first token")
    parser.add_argument("--token-ms", type=float, default=50, help="its time between tokens")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--router", type=Path, help="the command vllm-router, to be measured too")
    parser.add_argument("--only", nargs="+", help="of the routes, beside direct")
    parser.add_argument("--soak", type=float, help="seconds of mixed load, in the place of all else")
    parser.add_argument("--soak-streams", type=int, default=40, help="at once, beside others a fifth as many")
    parser.add_argument("--profile", type=Path, help="write a cProfile of our gateway there (it slows it down)")
    parser.add_argument("--engine", help="the address of a real engine")
    parser.add_argument("--key", default=KEY, help="its key")
    parser.add_argument("--base", help="the model's name there; none: as --model")
    parser.add_argument("--gateway", help="the address of the gateway in front of it")
    parser.add_argument("--gateway-key", default="any")
    parser.add_argument("--model", default=ASSISTANT, help="the model's name at the gateway")
    options = parser.parse_args()
    if options.engine:
        compare_real(options)
        return
    with tempfile.TemporaryDirectory() as folder, Routes(Path(folder), options) as routes:
        if options.soak:
            soak(routes, options)
        else:
            compare(routes, options)


if __name__ == "__main__":
    main()
