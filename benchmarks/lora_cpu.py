"""LoRA on a CPU engine: Brogue's wrapper, vLLM's own and the base model, side by side.

Run `python -m benchmarks.lora_cpu` with nothing else running. Engines are started in turn (each wrapper at each
`max_lora_rank`); in each round every mix follows the base model on the same engine, so that a busy machine disturbs
both. Four random rank-8 adapters on all linear layers fill all four slots. One JSON line a measurement, medians over
the rounds: `of_base` is the median of the rounds' ratios to the base, `of_stock` the ratio to vLLM's own wrapper.
A measurement during which other processes took more than a twentieth of the cores is repeated; `others` is the
largest share that was let pass after all.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import psutil

from adapters.base_model import BaseModel, prepare
from benchmarks.load import run_streams
from data.home import Home
from data.settings import EngineSettings, load_settings
from serve.engine import Engine
from serve.hardware import plan

ADAPTERS = [f"random-{number}" for number in range(4)]
RANK = 8
WRAPPERS = {"stock": "PunicaWrapperCPU", "brogue": "MaskedLoRA"}  # and how vLLM's log names them
PROMPT = "Write a long letter to a gardener about the weather."
LONG_PROMPT = "plant " * 1000
LONG_PROMPT_TOKENS = 1000

QUIET = 0.05  # share of the cores that other processes may take during a measurement
ATTEMPTS = 3

Key = tuple[str, int]  # mix, streams; 0 streams stands for the first token of a long prompt


class Sample(NamedTuple):
    """One measurement, and the share of all cores that other processes took meanwhile."""

    value: float
    others: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="output tokens of each stream")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--max-lora-rank", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--wrappers", nargs="+", choices=list(WRAPPERS), default=list(WRAPPERS))
    parser.add_argument("--quick", action="store_true", help="one round at rank 8 with 16 tokens, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens, options.max_lora_rank = 1, 16, [RANK]
    home = Home.from_environment()
    home.create()
    base = prepare(load_settings(home.settings_file).base_model, home, lambda _: None)
    stock: dict[tuple[int, Key], float] = {}
    with TemporaryDirectory() as folder:
        paths = [random_adapter(base, Path(folder) / name, seed) for seed, name in enumerate(ADAPTERS)]
        for rank in options.max_lora_rank:
            for wrapper in options.wrappers:
                with running(wrapper, rank, base, home, paths) as engine:
                    rounds = measure(engine, base.name, options.streams, options.rounds, options.tokens)
                    report(wrapper, rank, rounds, stock, engine)


def random_adapter(base: BaseModel, folder: Path, seed: int) -> Path:
    """A PEFT folder with small random weights for every linear layer of the base model's blocks."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator, tensors, modules = torch.Generator().manual_seed(seed), {}, set()
    for file in sorted(Path(base.path).glob("*.safetensors")):
        with safe_open(str(file), "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  (no mapping)
                shape = weights.get_slice(name).get_shape()
                module = name.removesuffix(".weight")
                if len(shape) != 2 or ".layers." not in name:
                    continue
                tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, shape[1], generator=generator)
                small = torch.randn(shape[0], RANK, generator=generator) * 1e-3
                tensors[f"base_model.model.{module}.lora_B.weight"] = small
                modules.add(module.rsplit(".", 1)[-1])
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none",
              "target_modules": sorted(modules), "base_model_name_or_path": base.path}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@contextlib.contextmanager
def running(wrapper: str, rank: int, base: BaseModel, home: Home, adapters: list[Path]) -> Iterator[Engine]:
    """An engine with the wrapper and all adapters loaded, stopped afterwards."""
    # Without the prefix cache, or the second prompt of 1,000 tokens would cost nothing.
    settings = EngineSettings(
        max_loras=len(adapters), max_lora_rank=rank, extra_args=("--no-enable-prefix-caching",)
    )  # fmt: skip
    chosen = plan(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    with plugins(wrapper):
        engine = Engine.build(base.path, base.name, settings, chosen, home)
    engine.start()
    try:
        engine.wait_ready(900, lambda _: None)
        if f"Using {WRAPPERS[wrapper]}" not in engine.log_file.read_text(encoding="utf-8"):
            raise SystemExit(f"the engine did not take the {wrapper} wrapper; is the plugin installed? make setup")
        for folder in adapters:
            body = {"lora_name": folder.name, "lora_path": str(folder)}
            post(engine, "/v1/load_lora_adapter", body).raise_for_status()
        yield engine
    finally:
        engine.stop()


@contextlib.contextmanager
def plugins(wrapper: str) -> Iterator[None]:
    """vLLM's own switch for plugins while the engine's environment is put together: none for the stock wrapper."""
    before = os.environ.pop("VLLM_PLUGINS", None)
    if wrapper == "stock":
        os.environ["VLLM_PLUGINS"] = ""
    try:
        yield
    finally:
        os.environ.pop("VLLM_PLUGINS", None)
        if before is not None:
            os.environ["VLLM_PLUGINS"] = before


def post(engine: Engine, path: str, body: dict[str, Any]) -> httpx.Response:
    """One request to the engine, with its key."""
    headers = {"Authorization": f"Bearer {engine.key}"}
    return httpx.post(f"{engine.url}{path}", json=body, headers=headers, timeout=600, trust_env=False)


def mixes(base: str, streams: int) -> dict[str, list[str]]:
    """The model of each stream, by mix; those that need more streams than there are are left out."""
    found = {"base": [base] * streams, "one adapter": ADAPTERS[:1] * streams}
    if streams >= len(ADAPTERS):
        found["four adapters"] = (ADAPTERS * streams)[:streams]
        found["half base"] = ([base, ADAPTERS[0]] * streams)[:streams]
    return found


def measure(engine: Engine, base: str, streams: list[int], rounds: int, tokens: int) -> list[dict[Key, Sample]]:
    """For each round and (mix, streams) the tokens/s; for (mix, 0) the seconds to a long prompt's first token."""
    prompt = long_prompt(engine, base)

    def speed(models: list[str], count: int) -> float:
        return asyncio.run(run_streams(engine.url, engine.key, models, PROMPT, count)).tokens_per_s

    def first_token(models: list[str]) -> float:
        return asyncio.run(run_streams(engine.url, engine.key, models, prompt, 1)).first_token_s[0]

    found: list[dict[Key, Sample]] = []
    for attempts in [1] + [ATTEMPTS] * rounds:  # the first round only warms up
        one: dict[Key, Sample] = {}
        for count in streams:
            for mix, models in mixes(base, count).items():
                one[mix, count] = undisturbed(engine, partial(speed, models, tokens), attempts)
        for mix, models in mixes(base, 1).items():
            one[mix, 0] = undisturbed(engine, partial(first_token, models), attempts)
        found.append(one)
    return found[1:]


def undisturbed(engine: Engine, job: Callable[[], float], attempts: int) -> Sample:
    """Measure while the machine is quiet, or else the least disturbed of several attempts."""
    samples: list[Sample] = []
    while len(samples) < attempts and (not samples or samples[-1].others > QUIET):
        if samples:
            time.sleep(1)
        began, (busy, ours) = time.perf_counter(), cpu_seconds(engine)
        value = job()
        after_busy, after_ours = cpu_seconds(engine)
        foreign = (after_busy - busy) - (after_ours - ours)
        samples.append(Sample(value, max(0.0, foreign / (time.perf_counter() - began) / (os.cpu_count() or 1))))
    return min(samples, key=lambda sample: sample.others)


def cpu_seconds(engine: Engine) -> tuple[float, float]:
    """Seconds that all cores together were busy since boot (stolen by the host too), and those of engine and client."""
    times = psutil.cpu_times()
    leader = psutil.Process(engine.pid)
    ours = [process.cpu_times() for process in (leader, *leader.children(recursive=True), psutil.Process())]
    return sum(times) - times.idle - times.iowait - times.guest, sum(one.user + one.system for one in ours)


def long_prompt(engine: Engine, base: str) -> str:
    """Text of about 1,000 tokens in this model's vocabulary."""
    tokens = post(engine, "/tokenize", {"model": base, "prompt": LONG_PROMPT}).json()["count"]
    words = LONG_PROMPT.split()
    return " ".join(words[: len(words) * LONG_PROMPT_TOKENS // tokens])


def report(
    wrapper: str, rank: int, rounds: list[dict[Key, Sample]], stock: dict[tuple[int, Key], float], engine: Engine
) -> None:
    """Print one engine's measurements; remember the stock wrapper's for those that follow."""
    memory = peak_memory_gib(engine)
    for key in rounds[0]:
        (mix, count), values = key, [one[key].value for one in rounds]
        value = statistics.median(values)
        line: dict[str, Any] = {"wrapper": wrapper, "max_lora_rank": rank, "mix": mix}
        line |= {"streams": count, "tokens_per_s": round(value, 1)} if count else {"first_token_s": round(value, 3)}
        if mix != "base":
            line["of_base"] = round(statistics.median(one[key].value / one["base", count].value for one in rounds), 2)
        if wrapper == "stock":
            stock[rank, key] = value
        elif (rank, key) in stock:
            line["of_stock"] = round(value / stock[rank, key], 2)
        line |= {"rounds": [round(v, 3) for v in values], "peak_gib": memory}
        print(json.dumps(line | {"others": round(max(one[key].others for one in rounds), 2)}), flush=True)


def peak_memory_gib(engine: Engine) -> float:
    """The sum of the peaks of the engine's processes (shared pages counted in each, so an upper bound)."""
    leader = psutil.Process(engine.pid)
    total_kib = 0
    for process in [leader, *leader.children(recursive=True)]:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        total_kib += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
    return round(total_kib / 1024**2, 2)


if __name__ == "__main__":
    main()
