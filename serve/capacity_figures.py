"""What the capacity planner takes for granted, in one place: data sheets of GPUs, sizes of models, our own curves.

Nothing here about GPUs has been measured by us: memory, bandwidth and arithmetic are the makers', how much of them an
engine reaches is an assumption (`Assumed`), and each can be replaced. The CPU engine's speed is measured
(docs/upstream-cpu-lora.md).
"""

from typing import Any, Final

from pydantic import Field, ValidationError

from data.errors import BrogueError
from data.frozen import Frozen
from data.settings import first_problem


class Gpu(Frozen):
    """One GPU as its data sheet has it. A GB is a thousand million bytes here: the driver shows a little more."""

    memory_gb: float
    bandwidth_gb_s: float  # of its own memory
    tflops: float  # bfloat16, dense: half of what data sheets print for sparse matrices
    host_gb_s: float  # to the machine's memory, one direction
    max_num_seqs: int  # requests in one batch, vLLM's own choice for an API server on it
    source: str


GPUS: Final[dict[str, Gpu]] = {
    "l4": Gpu(
        memory_gb=24, bandwidth_gb_s=300, tflops=121, host_gb_s=32, max_num_seqs=256, source="NVIDIA L4 data sheet"
    ),
    "a10": Gpu(
        memory_gb=24, bandwidth_gb_s=600, tflops=125, host_gb_s=32, max_num_seqs=256, source="NVIDIA A10 data sheet"
    ),
    "l40s": Gpu(
        memory_gb=48, bandwidth_gb_s=864, tflops=362, host_gb_s=32, max_num_seqs=256, source="NVIDIA L40S data sheet"
    ),
    "a100": Gpu(
        memory_gb=80,
        bandwidth_gb_s=2039,
        tflops=312,
        host_gb_s=32,
        max_num_seqs=256,
        source="NVIDIA A100 80GB SXM data sheet",
    ),
    "h100": Gpu(
        memory_gb=80,
        bandwidth_gb_s=3350,
        tflops=989,
        host_gb_s=64,
        max_num_seqs=1024,
        source="NVIDIA H100 SXM data sheet",
    ),
    "h200": Gpu(
        memory_gb=141,
        bandwidth_gb_s=4800,
        tflops=989,
        host_gb_s=64,
        max_num_seqs=1024,
        source="NVIDIA H200 SXM data sheet",
    ),
    "b200": Gpu(
        memory_gb=180,
        bandwidth_gb_s=8000,
        tflops=2250,
        host_gb_s=64,
        max_num_seqs=1024,
        source="NVIDIA DGX B200 data sheet, / 8",
    ),
}


class Assumed(Frozen):
    """Figures that were not measured on a GPU by us; `--assume NAME=VALUE` replaces one."""

    bandwidth_share: float = Field(0.6, gt=0, le=1, description="of GPU bandwidth, decoding")
    compute_share: float = Field(0.4, gt=0, le=1, description="of TFLOPS, reading prompts")
    parallel_share: float = Field(0.85, gt=0, le=1, description="of each GPU added to an engine")
    overhead_gib: float = Field(3, ge=0, description="CUDA, graphs, activations")
    lora_step_ms: float = Field(2, ge=0, description="each step; Punica (2023)")
    slot_load_ms: float = Field(5, ge=0, description="beside copying its bytes")
    disk_load_ms: float = Field(50, ge=0, description="beside reading its bytes")
    disk_gb_s: float = Field(1, gt=0, description="adapters from disk")
    cpu_cache_gib: float = Field(32, gt=0, description="adapters in RAM, an engine")


def read_assumed(pairs: list[str]) -> Assumed:
    """`Assumed` with what NAME=VALUE pairs replace."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise BrogueError(f"--assume wants NAME=VALUE, found '{pair}'; such as --assume bandwidth_share=0.7")
        given[name.strip()] = value.strip()
    try:
        return Assumed.model_validate(given)
    except ValidationError as error:
        raise BrogueError(f"--assume {first_problem(error, Assumed)}") from error


class Shape(Frozen):
    """What counts of a base model."""

    name: str
    weight_bytes: int
    kv_bytes_per_token: int
    adapter_numbers: int  # of an adapter of rank 1 on all linear layers of the blocks
    slot_numbers: int  # that vLLM keeps room for in a slot, for each of max_lora_rank


def shape_of(
    name: str, hidden: int, layers: int, heads: int, kv_heads: int, head: int, inner: int, vocabulary: int, tied: bool
) -> Shape:
    """From a config.json, for the architecture that Llama, Qwen and most others share, in bfloat16."""
    queries, keys = heads * head, kv_heads * head
    linear = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden),
              (hidden, inner), (hidden, inner), (inner, hidden))  # fmt: skip
    embedding = hidden * vocabulary
    weights = layers * sum(a * b for a, b in linear) + embedding * (1 if tied else 2)
    numbers = layers * sum(a + b for a, b in linear)
    return Shape(name=name, weight_bytes=2 * weights, kv_bytes_per_token=2 * 2 * layers * keys,
                 adapter_numbers=numbers, slot_numbers=numbers + 2 * (hidden + vocabulary))  # fmt: skip


SHAPES: Final[dict[str, Shape]] = {
    "135m": shape_of("135m (SmolLM2)", 576, 30, 9, 3, 64, 1536, 49152, True),
    "0.6b": shape_of("0.6b (Qwen3)", 1024, 28, 16, 8, 128, 3072, 151936, True),
    "1.7b": shape_of("1.7b (Qwen3)", 2048, 28, 16, 8, 128, 6144, 151936, True),
    "4b": shape_of("4b (Qwen3)", 2560, 36, 32, 8, 128, 9728, 151936, True),
    "8b": shape_of("8b (Qwen3)", 4096, 36, 32, 8, 128, 12288, 151936, False),
    "14b": shape_of("14b (Qwen3)", 5120, 40, 40, 8, 128, 17408, 151936, False),
    "32b": shape_of("32b (Qwen3)", 5120, 64, 64, 8, 128, 25600, 151936, False),
    "70b": shape_of("70b (Llama 3)", 8192, 80, 64, 8, 128, 28672, 128256, False),
}

# Our CPU engine, two cores (AMD EPYC with AVX-512 bf16), SmolLM2-135M in bfloat16, rank-8 adapters in four slots:
# output tokens/s by streams. docs/upstream-cpu-lora.md, 2026-11-21.
CPU_TOKENS_PER_S: Final[dict[int, float]] = {1: 45.0, 4: 157.0, 16: 439.0}
CPU_SLOTS_MEASURED: Final = 4
CPU_SLOT_STEP_S: Final = (63e-6 - 42e-6) / (16 - 4) * 120  # a slot more, each of 120 modules (the table 'masked')
CPU_PROMPT_TOKENS_PER_S: Final = 1000 / 0.55  # its first token of a prompt of 1,000
CPU_SHAPE: Final = "135m"
