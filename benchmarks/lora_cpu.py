"""LoRA on a CPU engine: Brogue's wrapper, vLLM's own and the base model, side by side.

Run `python -m benchmarks.lora_cpu` with nothing else running. Engines are started in turn (each wrapper at each
`max_lora_rank`); in each round every mix follows the base model on the same engine, so that a busy machine disturbs
both. Four random rank-8 adapters on all linear layers fill all four slots. One JSON line a measurement, medians over
the rounds: `of_base` is the median of the rounds' ratios to the base, `of_stock` the ratio to vLLM's own wrapper.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from adapters.base_model import BaseModel, prepare
from benchmarks.load import Load, run_streams
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

Key = tuple[int, str, int]  # max_lora_rank, mix, streams; 0 streams stands for the first token of a long prompt


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
    stock: dict[Key, float] = {}
    with TemporaryDirectory() as folder:
        paths = [random_adapter(base, Path(folder) / name, seed) for seed, name in enumerate(ADAPTERS)]
        for rank in options.max_lora_rank:
            for wrapper in options.wrappers:
                with running(wrapper, rank, base, home, paths) as engine:
                    rounds = asyncio.run(measure(engine, base.name, options.streams, options.rounds, options.tokens))
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


async def measure(
    engine: Engine, base: str, streams: list[int], rounds: int, tokens: int
) -> list[dict[tuple[str, int], float]]:
    """For each round and (mix, streams) the tokens/s; for (mix, 0) the seconds to a long prompt's first token."""
    prompt = long_prompt(engine, base)

    async def load(models: list[str], text: str, count: int) -> Load:
        return await run_streams(engine.url, engine.key, models, text, count)

    found: list[dict[tuple[str, int], float]] = []
    for number in range(rounds + 1):
        one: dict[tuple[str, int], float] = {}
        for count in streams:
            for mix, models in mixes(base, count).items():
                one[mix, count] = (await load(models, PROMPT, tokens if number else 4)).tokens_per_s
        for mix, models in mixes(base, 1).items():
            one[mix, 0] = (await load(models, prompt, 1)).first_token_s[0]
        found.append(one)
    return found[1:]  # the first only warms up


def long_prompt(engine: Engine, base: str) -> str:
    """Text of about 1,000 tokens in this model's vocabulary."""
    tokens = post(engine, "/tokenize", {"model": base, "prompt": LONG_PROMPT}).json()["count"]
    words = LONG_PROMPT.split()
    return " ".join(words[: len(words) * LONG_PROMPT_TOKENS // tokens])


def report(
    wrapper: str, rank: int, rounds: list[dict[tuple[str, int], float]], stock: dict[Key, float], engine: Engine
) -> None:
    """Print one engine's measurements; remember the stock wrapper's for those that follow."""
    memory = peak_memory_gib(engine)
    for mix, count in rounds[0]:
        value = statistics.median(one[mix, count] for one in rounds)
        line: dict[str, Any] = {"wrapper": wrapper, "max_lora_rank": rank, "mix": mix}
        line |= {"streams": count, "tokens_per_s": round(value, 1)} if count else {"first_token_s": round(value, 3)}
        if mix != "base":
            line["of_base"] = round(statistics.median(one[mix, count] / one["base", count] for one in rounds), 2)
        if wrapper == "stock":
            stock[rank, mix, count] = value
        elif (rank, mix, count) in stock:
            line["of_stock"] = round(value / stock[rank, mix, count], 2)
        line["rounds"] = [round(one[mix, count], 3) for one in rounds]
        print(json.dumps(line | {"peak_gib": memory, "load_1m": round(os.getloadavg()[0], 1)}), flush=True)


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
