"""One engine as the capacity planner sees it: how long a step takes, what a missing adapter costs, what fits.

A step of an engine makes one token for each request in its batch. On a GPU it takes as long as reading the weights, the
KV cache of the batch and its adapters, or as the arithmetic if that takes longer (the roofline); on a CPU, or where
somebody has measured, a line through the measured speeds.
"""

from collections.abc import Mapping

import numpy as np

from data.errors import BrogueError
from data.frozen import Frozen
from serve.capacity_figures import (
    CPU_PROMPT_TOKENS_PER_S,
    CPU_SLOT_STEP_S,
    CPU_SLOTS_MEASURED,
    CPU_TOKENS_PER_S,
    Assumed,
    Gpu,
    Shape,
)
from serve.hardware import GIB, gib

GB = 1e9
MEMORY_TOKENS = 64  # no engine is worth starting that has room for fewer tokens


class Traffic(Frozen):
    """What is asked of all engines together."""

    adapters: int
    rps: float  # requests a second
    prompt_tokens: float  # mean
    tokens: float  # of an answer, mean
    zipf: float  # exponent of the adapters' popularity; 0: all alike
    varied: bool = True  # lengths of answers are exponential; otherwise all alike

    @property
    def variation(self) -> float:
        """The coefficient of variation of an answer's length."""
        return 1.0 if self.varied else 0.0

    @property
    def context(self) -> float:
        """Tokens that a request holds in the KV cache, averaged over its time in the batch."""
        return self.prompt_tokens + self.tokens * (1 + self.variation**2) / 2


class Speed(Frozen):
    """Seconds. A step takes the larger of two: what is read from memory, and what is computed."""

    fixed_s: float  # reading the weights, and whatever else each step costs
    stream_s: float  # each request in the batch
    computed_s: float = 0.0  # arithmetic for each request in the batch
    lora_s: float = 0.0  # once in a step that has adapters
    adapter_s: float = 0.0  # each different adapter in the batch
    prompt_token_s: float = 0.0
    slot_load_s: float = 0.0  # an adapter into a slot; the batch stands still meanwhile
    disk_load_s: float = 0.0  # an adapter from disk, on top

    def step_s(self, streams: float, adapters: float) -> float:
        """How long one token of each of `streams` requests takes, with so many different adapters."""
        read = self.fixed_s + self.stream_s * streams + self.adapter_s * adapters
        return max(read, self.computed_s * streams) + self.lora_s


class EngineModel(Frozen):
    """One engine."""

    speed: Speed
    batch: int  # requests at once
    batch_limit: str  # what sets that: 'max_num_seqs' or 'memory'
    slots: int
    cached: int  # adapters in the machine's memory, those in slots too
    memory: dict[str, int]  # bytes by what they are for


def gpu_engine(
    gpu: Gpu, gpus: int, shape: Shape, traffic: Traffic, slots: int, rank: int, max_num_seqs: int,
    memory_share: float, held: int, assumed: Assumed,
) -> EngineModel:  # fmt: skip
    """An engine on `gpus` GPUs with so many slots of `rank`; `held` adapters may be asked of it.

    Raises `BrogueError` if the base model and the slots leave no room for a conversation.
    """
    faster = 1 + (gpus - 1) * assumed.parallel_share
    bandwidth = gpu.bandwidth_gb_s * GB * assumed.bandwidth_share * faster
    arithmetic = gpu.tflops * 1e12 * assumed.compute_share * faster
    adapter = 2 * rank * shape.adapter_numbers
    parameters = shape.weight_bytes / 2
    slot_bytes = slots * 2 * rank * shape.slot_numbers
    room = gpu.memory_gb * GB * gpus * memory_share - assumed.overhead_gib * GIB * gpus
    kv = room - shape.weight_bytes - slot_bytes
    conversations = int(kv / (shape.kv_bytes_per_token * (traffic.prompt_tokens + traffic.tokens)))
    if kv < MEMORY_TOKENS * shape.kv_bytes_per_token or conversations < 1:
        raise BrogueError(_no_room(shape, slots, slot_bytes, int(room), gpus))
    speed = Speed(
        fixed_s=shape.weight_bytes / bandwidth, stream_s=traffic.context * shape.kv_bytes_per_token / bandwidth,
        computed_s=2 * parameters / arithmetic, lora_s=assumed.lora_step_ms / 1e3, adapter_s=adapter / bandwidth,
        prompt_token_s=2 * parameters / arithmetic,
        slot_load_s=assumed.slot_load_ms / 1e3 + adapter / (gpu.host_gb_s * GB),
        disk_load_s=assumed.disk_load_ms / 1e3 + adapter / (assumed.disk_gb_s * GB),
    )  # fmt: skip
    cached = max(slots, min(held, int(assumed.cpu_cache_gib * GIB / adapter)))
    memory = {"weights": shape.weight_bytes, "slots": slot_bytes, "kv_cache": int(kv),
              "overhead": int(assumed.overhead_gib * GIB * gpus), "cpu_cache": cached * adapter}  # fmt: skip
    limit = "memory" if conversations < max_num_seqs else "max_num_seqs"
    return EngineModel(speed=speed, batch=min(conversations, max_num_seqs), batch_limit=limit, slots=slots,
                       cached=cached, memory=memory)  # fmt: skip


def _no_room(shape: Shape, slots: int, slot_bytes: int, room: int, gpus: int) -> str:
    bits = f"{gib(shape.weight_bytes)} of weights and {gib(slot_bytes)} for {slots} slots"
    return (
        f"{shape.name} does not fit: {bits} of {gib(max(0, room))} leave no room for a conversation; "
        f"give an engine more GPUs (--gpus-per-engine {gpus * 2}), fewer slots, or a smaller base model"
    )


def cpu_engine(
    shape: Shape, traffic: Traffic, slots: int, rank: int, max_num_seqs: int, held: int, assumed: Assumed
) -> EngineModel:
    """The CPU engine that was measured. Its slots all cost time in each step, whether they are used or not."""
    line = fitted(CPU_TOKENS_PER_S)
    speed = Speed(
        fixed_s=line.fixed_s + CPU_SLOT_STEP_S * (slots - CPU_SLOTS_MEASURED), stream_s=line.stream_s,
        prompt_token_s=1 / CPU_PROMPT_TOKENS_PER_S, slot_load_s=assumed.slot_load_ms / 1e3,
        disk_load_s=assumed.disk_load_ms / 1e3,
    )  # fmt: skip
    adapter = 2 * rank * shape.adapter_numbers
    cached = max(slots, min(held, int(assumed.cpu_cache_gib * GIB / adapter)))
    tokens = traffic.prompt_tokens + traffic.tokens
    memory = {"weights": shape.weight_bytes, "slots": slots * 2 * rank * shape.slot_numbers,
              "kv_cache": int(max_num_seqs * tokens * shape.kv_bytes_per_token),
              "overhead": int(assumed.overhead_gib * GIB), "cpu_cache": cached * adapter}  # fmt: skip
    return EngineModel(speed=speed, batch=max_num_seqs, batch_limit="max_num_seqs", slots=slots, cached=cached,
                       memory=memory)  # fmt: skip


def fitted(measured: Mapping[int, float]) -> Speed:
    """The line through measured output tokens/s by streams: seconds of a step = fixed + each stream's.

    One point says how long a step of that many takes; the part of a stream is taken to be none below it.
    """
    streams = np.array(list(measured), dtype=np.float64)
    steps = streams / np.array(list(measured.values()), dtype=np.float64)
    if len(streams) == 1:
        return Speed(fixed_s=float(steps[0]), stream_s=0.0)
    slope, fixed = np.polyfit(streams, steps, 1)
    slope, fixed = float(slope), float(fixed)
    if slope < 0 or fixed < 0:  # no engine is like that; the nearest line that one could be
        slope, fixed = (0.0, float(steps.mean())) if slope < 0 else (float(steps @ streams / (streams @ streams)), 0.0)
    return Speed(fixed_s=fixed, stream_s=slope)


def measured_speed(
    assumed: Speed, tokens_per_s: Mapping[int, float] | None, prompt_tokens_per_s: float | None
) -> Speed:
    """`assumed` with what somebody has measured in its place; measured with adapters, so that nothing is added."""
    changed: dict[str, float] = {}
    if tokens_per_s:
        line = fitted(tokens_per_s)
        changed |= {"fixed_s": line.fixed_s, "stream_s": line.stream_s, "computed_s": 0.0, "lora_s": 0.0,
                    "adapter_s": 0.0}  # fmt: skip
    if prompt_tokens_per_s:
        changed |= {"prompt_token_s": 1 / prompt_tokens_per_s}
    return assumed.model_copy(update=changed)


def read_measured(text: str) -> dict[int, float]:
    """ "1:45,16:439": output tokens/s by the number of streams."""
    try:
        found = {int(streams): float(speed) for streams, _, speed in (part.partition(":") for part in text.split(","))}
    except ValueError:
        found = {}
    if not found or any(streams < 1 or not 0 < speed < float("inf") for streams, speed in found.items()):
        raise BrogueError(
            f"--engine-tokens-per-second wants STREAMS:TOKENS_PER_S, several with commas, such as 1:45,16:439; "
            f"found '{text}'. python -m benchmarks.capacity measures them"
        )
    return found
