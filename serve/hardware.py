"""What the machine offers, and the engine settings that follow from it.

Each choice can be overridden in `brogue.toml`; benchmarks/engine.py measures what the CPU choices bring.
"""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import psutil

from data.errors import BrogueError, one_line
from data.settings import EngineSettings

Part = TypeVar("Part")
GIB = 1024**3
ENGINE_OVERHEAD_BYTES = 3 * GIB  # vLLM's three processes without weights and KV cache, measured at 2.6 GiB
CPU_MAX_MODEL_LEN = 4096  # tokens; longer contexts are slow on a CPU and cost memory per stream
CPU_MAX_NUM_SEQS = 16
GPU_OVERHEAD_BYTES = 3 * GIB  # of the GPU's own memory: CUDA's context, graphs, activations of one forward pass
OWN_CONVERSATIONS = 4  # so many of full length a version's own engine keeps at a time
CORES_PER_ENGINE = 4  # engines of versions' own, if the settings do not say how many


@dataclass(frozen=True)
class EnginePlan:
    """The engine settings with every "chosen from the machine" filled in; `None` is left to vLLM."""

    device: Literal["cpu", "gpu"]
    max_model_len: int  # tokens
    max_num_seqs: int | None
    kv_cache_bytes: int | None
    cores: str | None  # as VLLM_CPU_OMP_THREADS_BIND wants them: "0-1"
    preload: Path | None  # the OpenMP runtime
    memory_bytes: int | None = None  # what it needs in all; only reckoned for a version's own engine
    gpus: str | None = None  # of several engines' plans: those of this one, as CUDA_VISIBLE_DEVICES wants them


class Memory(NamedTuple):
    """Bytes."""

    total: int
    free: int


def plan(settings: EngineSettings, weight_bytes: int, kv_bytes_per_token: int, context_length: int) -> EnginePlan:
    """Fill in what the settings leave open. Raises `BrogueError` where the memory does not suffice."""
    device = detect_device() if settings.device == "auto" else settings.device
    longest = settings.max_model_len or context_length
    if device == "gpu":
        kv = int(settings.kv_cache_gib * GIB) if settings.kv_cache_gib else None
        return EnginePlan("gpu", longest, settings.max_num_seqs, kv, None, None)
    if settings.max_model_len is None:
        longest = min(longest, CPU_MAX_MODEL_LEN)
    streams = settings.max_num_seqs or CPU_MAX_NUM_SEQS
    kv = _kv_cache_bytes(settings, weight_bytes, kv_bytes_per_token, longest, streams)
    cores = settings.cpu_cores or format_cores(_our_cores())
    return EnginePlan("cpu", longest, streams, kv, cores, find_openmp() if settings.preload_openmp else None)


def plan_all(settings: EngineSettings, weight_bytes: int, kv_bytes_per_token: int, context_length: int,
             ) -> list[EnginePlan]:  # fmt: skip
    """A plan for each engine that is to be started here: they share memory, cores and GPUs evenly."""
    one = plan(settings, weight_bytes, kv_bytes_per_token, context_length)
    if settings.count == 1:
        return [one]
    if one.device == "gpu":
        return [replace(one, gpus=",".join(share)) for share in _shares(_gpus(), settings.count, "GPUs")]
    cores = sorted(_our_cores())
    if settings.cpu_cores or len(cores) < settings.count:
        return [one] * settings.count
    return [replace(one, cores=format_cores(set(share))) for share in _shares(cores, settings.count, "cores")]


def plan_elsewhere(settings: EngineSettings, context_length: int) -> EnginePlan:
    """What is known of engines that somebody else starts."""
    return EnginePlan("gpu", settings.max_model_len or context_length, settings.max_num_seqs, None, None, None)


def _shares(whole: Sequence[Part], count: int, what: str) -> list[Sequence[Part]]:
    """Equal parts, one after another; what is left over goes to nobody."""
    each = len(whole) // count
    if not each:
        raise BrogueError(
            f"engine.count = {count} wants as many {what}, this machine has {len(whole)}; "
            "lower engine.count in brogue.toml"
        )
    return [whole[each * number : each * (number + 1)] for number in range(count)]


def _gpus() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        raise BrogueError(f"cannot tell how many GPUs there are (nvidia-smi: {one_line(error, 120)})") from error


def plan_own(settings: EngineSettings, weight_bytes: int, kv_bytes_per_token: int, context_length: int) -> EnginePlan:
    """The engine of one version that has weights of its own, beside the base model's: the same, but a small cache.

    Nothing is looked at but the settings, so that the memory can be said before there is anything to start.
    """
    device = settings.device
    if device == "auto":
        device = "gpu" if settings.urls else detect_device()  # of engines elsewhere it is not known
    longest = settings.max_model_len or (context_length if device == "gpu" else min(context_length, CPU_MAX_MODEL_LEN))
    size = 2 if settings.dtype in ("float32", "float") else 1  # weights and caches are reckoned at 2 bytes a number
    kv = kv_bytes_per_token * longest * OWN_CONVERSATIONS * size
    memory = weight_bytes * size + kv + (ENGINE_OVERHEAD_BYTES if device == "cpu" else GPU_OVERHEAD_BYTES)
    if device == "gpu":
        return EnginePlan("gpu", longest, settings.max_num_seqs, kv, None, None, memory)
    streams, cores = settings.max_num_seqs or CPU_MAX_NUM_SEQS, settings.cpu_cores or format_cores(_our_cores())
    return EnginePlan("cpu", longest, streams, kv, cores, find_openmp() if settings.preload_openmp else None, memory)


def most_own_engines(settings: EngineSettings) -> int:
    """How many versions may have an engine of their own; whether the memory suffices is asked for each."""
    chosen = settings.max_own_engines
    if chosen is None and settings.urls:
        return 0  # this machine is not where engines are
    return max(1, len(_our_cores()) // CORES_PER_ENGINE) if chosen is None else chosen


def gib(count: int) -> str:
    """A number of bytes for a person."""
    return f"{count / GIB:.1f} GiB"


def refuse_own_engine(what: str, own: EnginePlan, weight_bytes: int, settings: EngineSettings) -> None:
    """Raises `BrogueError` if this machine could never hold the engine `own` beside the base model's engine."""
    memory = memory_of(own.device)
    if own.device == "gpu":
        base = int(memory.total * settings.gpu_memory_utilization)
        way = "lower engine.gpu_memory_utilization in brogue.toml"
    else:
        base = weight_bytes + ENGINE_OVERHEAD_BYTES
        way = "name a smaller base_model or lower engine.max_model_len in brogue.toml"
    if (own.memory_bytes or 0) + base > memory.total:
        raise BrogueError(
            f"{what} takes an engine of its own: about {gib(own.memory_bytes or 0)} beside the base model's "
            f"{gib(base)}, and this machine has {gib(memory.total)}; use a method whose versions share the base "
            f"model's engine, such as lora, or {way}"
        )


def refuse_too_many(what: str, taken: Sequence[str], most: int, memory_bytes: int) -> None:
    """Raises `BrogueError` if `what` and those that have an engine of their own already are more than `most`."""
    if len(taken) + 1 > most:
        by = f"has {', '.join(taken)}" if taken else "allows none"
        raise BrogueError(
            f"{what} takes an engine of its own, and engine.max_own_engines = {most} {by}; raise it in brogue.toml "
            f"(each takes about {gib(memory_bytes)}), or promote a version that shares the base model's engine"
        )


def memory_of(device: Literal["cpu", "gpu"]) -> Memory:
    """The machine's memory, or that of its first GPU as the driver tells it."""
    if device == "cpu":
        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.available)
    command = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        total, free = (int(number) * 1024**2 for number in said.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise BrogueError(f"cannot tell how much memory the GPU has (nvidia-smi: {one_line(error, 120)})") from error
    return Memory(total, free)


def _our_cores() -> set[int]:
    return os.sched_getaffinity(0)


def detect_device() -> Literal["cpu", "gpu"]:
    """The device that the installed vLLM was built for (the set-up chose it by looking at the machine)."""
    for package, device in (("vllm-cpu", "cpu"), ("vllm", "gpu")):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        return "cpu" if device == "cpu" else "gpu"
    raise BrogueError("no vLLM is installed in this environment; run: make setup")


def _kv_cache_bytes(settings: EngineSettings, weights: int, per_token: int, longest: int, streams: int) -> int:
    """Room for every stream at full length, or less: at most half of what is free after weights and overhead."""
    available = psutil.virtual_memory().available // settings.count
    free = available - weights - ENGINE_OVERHEAD_BYTES
    smallest = per_token * longest  # vLLM refuses a cache that cannot hold one full sequence
    if settings.kv_cache_gib is not None:
        wanted = int(settings.kv_cache_gib * GIB)
        if wanted < smallest:
            raise BrogueError(
                f"engine.kv_cache_gib = {settings.kv_cache_gib} cannot hold one conversation of {longest} tokens "
                f"({smallest / GIB:.2f} GiB); raise it or lower engine.max_model_len in brogue.toml"
            )
    else:
        wanted = max(smallest, min(per_token * longest * streams, free // 2))
    if wanted > free:
        needed = weights + ENGINE_OVERHEAD_BYTES + wanted
        each, lower = (" for each", "engine.count or engine.max_model_len") if settings.count > 1 else ("", "")
        raise BrogueError(
            f"too little memory for the engine: it needs about {needed / GIB:.1f} GiB, "
            f"{available / GIB:.1f} GiB are free{each}; close other programs, "
            f"lower {lower or 'engine.max_model_len'} or name a smaller base_model in brogue.toml"
        )
    return wanted


def format_cores(cores: set[int]) -> str:
    """`{0, 1, 2, 5}` as "0-2,5"."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def find_openmp() -> Path | None:
    """Intel's OpenMP runtime where the intel-openmp wheel puts it; none on other processors."""
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    return library if library.exists() else None
