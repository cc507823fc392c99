"""Three real engines behind a router, two gateways, PostgreSQL and a Chroma server, on one machine.

Run with nothing else running, `BROGUE_HOME` being a home whose base model is there:

    python -m benchmarks.scaling swap         flips under load, undisturbed and with kill -9 of each part
    python -m benchmarks.scaling sharding     60 adapters on 4 slots each: everywhere beside sharded
    python -m benchmarks.scaling judgements   1,000 judgements, a gateway killed amid them

It wants PostgreSQL from Debian's packages, and for `swap` vllm-router (make router). One JSON line a row.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from adapters.base_model import BaseModel, prepare
from adapters.importing import import_adapter
from benchmarks.lora_cpu import PROMPT, RANK, random_adapter
from data.home import Home, write_text
from data.settings import load_settings
from serve.capacity_popularity import zipf
from tests.cluster import ENGINE_KEY, Cluster, cluster, find_router
from tests.cluster_load import (
    ADMIN,
    Stage,
    give_voices,
    kill,
    loaded_names,
    settled,
    submit_judgements,
    table,
    under_load,
)
from tests.voices import VOICES, overfit

KILLED = ("engine", "gateway", "router", "PostgreSQL's backend")
SPEAKERS = ("pirate", "robot")
SLOW_S = 1.0  # flips that take longer are told one by one


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("swap", "sharding", "judgements"))
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--flips", type=int, default=30, help="undisturbed; and a third of it with each kill")
    parser.add_argument("--judgements", type=int, default=1000)
    parser.add_argument("--adapters", type=int, default=60)
    parser.add_argument("--copies", type=int, default=1, help="engines of an adapter where it is sharded")
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=120, help="of load for each way of placing adapters")
    parser.add_argument("--rounds", type=int, default=2, help="how often both ways take turns")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # all that it started is stopped then
    home = Home.from_environment()
    home.create()
    base = prepare(load_settings(home.settings_file).base_model, home, lambda line: print(line, file=sys.stderr))
    with TemporaryDirectory(prefix="brogue-scaling-") as folder:
        {"swap": swap, "sharding": sharding, "judgements": judgements}[options.what](options, home, base, Path(folder))


def swap(options: argparse.Namespace, home: Home, base: BaseModel, root: Path) -> None:
    """Flips under load; then again with every part killed in the midst."""
    chance = random.Random(options.seed)
    voices = _voices(base, root)
    with cluster(root, home.models, options.engines, base=base.path) as made:
        give_voices(made, voices)

        async def story(stage: Stage) -> None:
            await settled(stage)
            await _flips(stage, options.flips)
            for what in KILLED:
                flipping = asyncio.create_task(_flips(stage, options.flips // 3, pause_s=2))
                await asyncio.sleep(1)
                await kill(stage, what, chance)
                await flipping
                back = await settled(stage)
                show(phase=stage.phase, all_back_after_s=round(back, 1))
                await _until_router(made)
            stage.phase = "undisturbed again"
            await _flips(stage, options.flips // 3)

        seen, stage = under_load(made, story, options.clients)
        for row in table(seen, stage.flips):
            show(**row)
        slow = [(number, flip.phase, round(flip.seconds, 2), round(flip.last_s, 2))
                for number, flip in enumerate(stage.flips, 1) if flip.seconds + flip.last_s > SLOW_S]  # fmt: skip
        show(flips=len(stage.flips), slow=slow)
        _agree(made)


async def _flips(stage: Stage, count: int, pause_s: float = 1) -> None:
    for number in range(count):
        await stage.flip(2 - number % 2, at=number % len(stage.clients))
        await asyncio.sleep(pause_s)


async def _until_router(made: Cluster) -> None:
    while made.router is not None and not await asyncio.to_thread(made.router.answers):
        await asyncio.sleep(0.5)


def _agree(made: Cluster) -> None:
    """Every engine holds the live version, and every gateway means the same."""
    aliases = [httpx.get(f"{one.url}/v1/adapters/swapper", headers=ADMIN, timeout=30, trust_env=False).json()["aliases"]
               for one in made.gateways]  # fmt: skip
    version = aliases[0]["stable"]
    held = [any(name.startswith(f"swapper@{version}-") for name in names) for names in loaded_names(made, ENGINE_KEY)]
    show(aliases=aliases, engines_that_hold_it=held, agree=all(held) and all(one == aliases[0] for one in aliases),
         answers_of_engines=[_answers(one.url) for one in made.engines])  # fmt: skip


def _answers(url: str) -> int:
    """What an engine has answered since it was started last; the probes of versions count as well."""
    headers = {"Authorization": f"Bearer {ENGINE_KEY}"}
    text = httpx.get(f"{url}/metrics", headers=headers, timeout=30, trust_env=False).text
    counts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("vllm:request_success_total{")]
    return int(sum(map(float, counts)))


def judgements(options: argparse.Namespace, home: Home, base: BaseModel, root: Path) -> None:
    """Submissions by both gateways, one of which is killed in the middle."""
    with cluster(root, home.models, 1, base=base.path, routed=find_router() is not None) as made:
        give_voices(made, _voices(base, root)[:1])
        began = time.monotonic()
        sent, there = submit_judgements(made, options.judgements, made.gateways[1].kill, options.judgements // 2)
        show(acknowledged=len(sent), found=len(there & sent.keys()), lost=sorted(sent.keys() - there),
             seconds=round(time.monotonic() - began, 1))  # fmt: skip


def sharding(options: argparse.Namespace, home: Home, base: BaseModel, root: Path) -> None:
    """Zipf traffic over all adapters, placed on every engine and on `copies` of them, in turns."""
    names = [f"random-{number}" for number in range(options.adapters)]
    (root / "made").mkdir()
    folders = [random_adapter(base, root / "made" / name, seed) for seed, name in enumerate(names)]
    memory = options.adapters + 4
    with cluster(
        root, home.models, options.engines, gateways=1, memory=memory, routed=False, base=base.path, with_chroma=False
    ) as made:
        for name, folder in zip(names, folders, strict=True):
            import_adapter(folder, name, base, RANK, made.homes[0])
        [gateway], settings = made.gateways, made.homes[0].settings_file
        plain = settings.read_text(encoding="utf-8")
        for turn in range(options.rounds):
            for way, more in (("everywhere", ""), ("sharded", f"copies = {options.copies}\n")):
                gateway.stop()
                write_text(settings, plain.replace("[engine]\n", f"[engine]\n{more}"))
                gateway.start()
                gateway.wait()
                wait = _until_loaded(gateway.url)
                row = asyncio.run(_zipf_load(gateway.url, names, options, options.seed + turn))
                show(way=way, round=turn + 1, loaded_after_s=round(wait, 1), **row)


def _until_loaded(url: str) -> float:
    """Until the engines have what they are to have: the number of their adapters does not grow any more."""
    began, before = time.monotonic(), -1
    while True:
        found = httpx.get(f"{url}/ready", headers=ADMIN, timeout=30, trust_env=False).json()
        now = sum(one["adapters"] for one in found["engines"])
        if now == before and now:
            return time.monotonic() - began
        before = now
        time.sleep(5)


async def _zipf_load(url: str, names: list[str], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """So many streams, each with one request after another, adapters by their popularity."""
    chance, shares = random.Random(seed), zipf(len(names), 1.0).tolist()
    took: list[float] = []
    firsts: list[float] = []
    tokens, over = 0, time.monotonic() + options.seconds

    async def stream(client: httpx.AsyncClient, number: int) -> None:
        nonlocal tokens
        while time.monotonic() < over:
            [name] = chance.choices(names, weights=shares)
            body = {"model": name, "messages": [{"role": "user", "content": f"{PROMPT} ({number})"}],
                    "max_tokens": 48, "ignore_eos": True, "stream": True}  # fmt: skip
            began, first = time.monotonic(), None
            async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                reply.raise_for_status()
                async for line in reply.aiter_lines():
                    if first is None and line.startswith("data: {"):
                        first = time.monotonic() - began
            took.append(time.monotonic() - began)
            firsts.append(first or 0.0)
            tokens += 48

    async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=600, trust_env=False) as client:
        began = time.monotonic()
        await asyncio.gather(*(stream(client, number) for number in range(options.streams)))
        elapsed = time.monotonic() - began
    return {"answers": len(took), "tokens_per_s": round(tokens / elapsed, 1),
            "answer_s": _spread(took), "first_token_s": _spread(firsts)}  # fmt: skip


def _spread(values: list[float]) -> dict[str, float]:
    points = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{point}": round(points[point - 1], 2) for point in (50, 95, 99)}


def _voices(base: BaseModel, root: Path) -> list[Path]:
    """Adapters that say their own words to everything, trained now."""
    folders = []
    for name in SPEAKERS:
        print(f"training the voice {name}", file=sys.stderr)
        overfit(base.path, VOICES[name], root / "voices" / name)
        folders.append(root / "voices" / name)
    return folders


def show(**row: Any) -> None:
    """One JSON line."""
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
