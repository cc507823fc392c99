"""What each CPU choice of the engine brings: run `python -m benchmarks.engine` with nothing else running.

Variants are started in turn on the same model; medians over the rounds; one JSON line a variant, ratios to `all`.
"""

import argparse
import asyncio
import json
import statistics
import time

from adapters.base_model import BaseModel, prepare
from benchmarks.load import run_streams
from data.home import Home
from data.settings import EngineSettings, load_settings
from serve.engine import Engine
from serve.hardware import plan
from serve.soft_prompt import ENGINE_ARGS

VARIANTS = {
    "all": EngineSettings(),
    "no-openmp-preload": EngineSettings(preload_openmp=False),
    "vllm-binds-cores": EngineSettings(cpu_cores="auto"),  # vLLM's own rule: all cores but one
    "neither": EngineSettings(preload_openmp=False, cpu_cores="auto"),
    "takes-vectors": EngineSettings(extra_args=ENGINE_ARGS),  # as `brogue up` starts it, for soft prompts
}
PROMPT = "Write a long letter to a gardener about the weather."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="output tokens of each stream")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    home = Home.from_environment()
    home.create()
    base = prepare(load_settings(home.settings_file).base_model, home, print)
    reference: dict[str, float] = {}
    for name in options.variants:
        result = measure(name, base, home, options.streams, options.rounds, options.tokens)
        reference = reference or result
        ratios = {f"{key}_ratio": round(value / reference[key], 2) for key, value in result.items()}
        print(json.dumps({"variant": name, **result, **ratios}), flush=True)


def measure(name: str, base: BaseModel, home: Home, streams: list[int], rounds: int, tokens: int) -> dict[str, float]:
    """Start-up seconds and the median tokens/s at each number of streams, one warm-up round before."""
    settings = VARIANTS[name]
    chosen = plan(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    engine = Engine.build(base.path, base.name, settings, chosen, home)
    began = time.perf_counter()
    engine.start()
    try:
        engine.wait_ready(600, lambda _: None)
        result = {"start_s": round(time.perf_counter() - began, 1)}
        for count in streams:
            loads = [
                asyncio.run(run_streams(engine.url, engine.key, [base.name] * count, PROMPT, tokens))
                for _ in range(rounds + 1)
            ]
            median = statistics.median(load.tokens_per_s for load in loads[1:])
            result[f"tokens_per_s_{count}"] = round(median, 1)
        return result
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
