"""`brogue capacity`: how many engines a traffic needs that asks for many adapters, and what sharding these changes."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError, unknown
from data.home import Home
from data.settings import STARTER_MODEL, Settings, load_settings

if TYPE_CHECKING:
    from serve.capacity_engine import EngineModel, Traffic
    from serve.capacity_figures import Shape
    from serve.capacity_plan import Plan
    from serve.capacity_simulation import Simulated

SIMULATED_REQUESTS = 20_000


def capacity(
    adapters: Annotated[int, typer.Option(min=1, max=10_000, help="Adapters that are asked for.")],
    rps: Annotated[float, typer.Option(min=0.001, max=1e6, help="Requests a second, to all of them.")],
    tokens: Annotated[float, typer.Option(min=1, max=1e6, help="Tokens of an answer, mean.")] = 300,
    prompt_tokens: Annotated[float, typer.Option(min=0, max=1e6, help="Tokens of a prompt, mean.")] = 500,
    zipf: Annotated[
        float, typer.Option(min=0, max=5, help="How uneven adapters are asked for: the k-th in proportion to k^-ZIPF.")
    ] = 1.0,
    p95: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that 95 of 100 whole answers shall take at most.")
    ] = None,
    same_length: Annotated[bool, typer.Option(help="All answers are equally long (else exponential).")] = False,
    gpu: Annotated[str | None, typer.Option(help="Such as h100; none: the CPU engine that was measured.")] = None,
    gpus_per_engine: Annotated[int, typer.Option(min=1, max=64, help="GPUs that share the base model.")] = 1,
    base: Annotated[str | None, typer.Option(help="0.6b to 70b, or as base_model (default: brogue.toml's).")] = None,
    rank: Annotated[int | None, typer.Option(min=1, max=512, help="LoRA rank (default: max_lora_rank).")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Slots of an engine (default: chosen).")] = None,
    engines: Annotated[int | None, typer.Option(min=1, max=1024, help="Engines (default: as few as do).")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, max=4096, help="Requests in one batch.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Engines of a sharded adapter; popular ones get more.")] = 2,
    engine_tokens_per_second: Annotated[
        str | None, typer.Option(help="Measured speed by streams, such as 1:45,16:439.")
    ] = None,
    prompt_tokens_per_second: Annotated[float | None, typer.Option(min=0.001, help="Measured, of prompts.")] = None,
    assume: Annotated[list[str] | None, typer.Option(help="NAME=VALUE in place of an assumed figure.")] = None,
    simulate: Annotated[bool, typer.Option(help="Simulate the plans too, request by request.")] = False,
    json: Json = False,
) -> None:
    """Tell how many engines a traffic needs, with how many slots, how long answers take, and what runs out first.

    Every adapter on every engine, and each on a few, side by side. Nothing is started or measured.
    """
    from serve.capacity_engine import Traffic
    from serve.capacity_figures import read_assumed
    from serve.capacity_plan import Goal, plan
    from serve.capacity_popularity import sharded

    settings = load_settings(Home.from_environment().settings_file)
    assumed = read_assumed(assume or [])
    traffic = Traffic(adapters=adapters, rps=rps, prompt_tokens=prompt_tokens, tokens=tokens, zipf=zipf,
                      varied=not same_length)  # fmt: skip
    goal = Goal(p95_s=p95)
    with working("capacity") as tell:
        shape = _shape(base or settings.base_model, tell)
        measured = (engine_tokens_per_second, prompt_tokens_per_second)
        build = _builder(gpu, gpus_per_engine, shape, traffic, rank, max_num_seqs, settings, measured, assumed)
        tell("every adapter on every engine")
        plans = {"everywhere": plan(build, traffic, goal, slots, engines)}
        if plans["everywhere"].engines > 1:
            tell("each adapter on a few")
            plans["sharded"] = plan(
                build,
                traffic,
                goal,
                slots,
                engines,
                lambda s, count: sharded(s, count, replicas),
                plans["everywhere"].engines,
            )
        simulated = _simulated(plans, traffic, replicas, tell) if simulate else {}
    figures = _figures(gpu, shape, settings, measured, assumed)
    if json:
        print_json(_as_json(traffic, plans, simulated, figures))
        return
    _print(plans, simulated, figures)
    _notes(plans, goal.words, gpu, measured[0], simulate)


def _shape(base: str, tell: Callable[[str], None]) -> "Shape":
    """What counts of the base model: known by its size, or looked at as `brogue up` would."""
    from serve.capacity_figures import CPU_SHAPE, SHAPES, Shape

    if base == STARTER_MODEL or base.lower() in SHAPES:
        return SHAPES[CPU_SHAPE if base == STARTER_MODEL else base.lower()]
    home = Home.from_environment()
    from adapters.base_model import on_disk, prepare

    if on_disk(base, home) is None:
        sizes = ", ".join(SHAPES)
        raise BrogueError(
            f"no base model '{base}' on this machine; name a size ({sizes}), a folder, or fetch it first: "
            f"brogue plan --base-model {base}"
        )
    model = prepare(base, home, tell)
    blocks = [sum(shape) for name, shape in model.modules.items()
              if name not in model.embeddings and not name.endswith("lm_head")]  # fmt: skip
    return Shape(name=model.name, weight_bytes=model.weight_bytes, kv_bytes_per_token=model.kv_bytes_per_token,
                 adapter_numbers=sum(blocks), slot_numbers=sum(map(sum, model.modules.values())))  # fmt: skip


def _builder(gpu: str | None, gpus: int, shape: "Shape", traffic: "Traffic", rank: int | None, max_num_seqs: int | None,
             settings: Settings, measured: tuple[str | None, float | None],
             assumed: Any) -> Callable[[int, int], "EngineModel"]:  # fmt: skip
    """Makes an engine with so many slots that so many adapters may be asked of."""
    from serve.capacity_engine import cpu_engine, gpu_engine, measured_speed, read_measured
    from serve.capacity_figures import CPU_SHAPE, GPUS, SHAPES
    from serve.hardware import CPU_MAX_NUM_SEQS

    if gpu is not None and gpu.lower() not in GPUS:
        raise unknown("GPU", gpu, list(GPUS), "Give its figures with the nearest one: --gpu h100 --assume …")
    if gpu is None and shape != SHAPES[CPU_SHAPE] and measured[0] is None:
        raise BrogueError(
            f"no speed is known of {shape.name} on a CPU; name a GPU (--gpu h100), or measure one engine: "
            "python -m benchmarks.capacity, then --engine-tokens-per-second"
        )
    speeds = read_measured(measured[0]) if measured[0] else None
    rank, engine = rank or settings.engine.max_lora_rank, settings.engine
    streams = max_num_seqs or engine.max_num_seqs

    def build(slots: int, held: int) -> "EngineModel":
        if gpu is None:
            made = cpu_engine(shape, traffic, slots, rank, streams or CPU_MAX_NUM_SEQS, held, assumed)
        else:
            card = GPUS[gpu.lower()]
            made = gpu_engine(card, gpus, shape, traffic, slots, rank, streams or card.max_num_seqs,
                              engine.gpu_memory_utilization, held, assumed)  # fmt: skip
        return made.model_copy(update={"speed": measured_speed(made.speed, speeds, measured[1])})

    return build


def _simulated(plans: "dict[str, Plan]", traffic: "Traffic", replicas: int,
               tell: Callable[[str], None]) -> "dict[str, Simulated]":  # fmt: skip
    from serve.capacity_popularity import everywhere, sharded, zipf
    from serve.capacity_simulation import simulate

    shares, found = zipf(traffic.adapters, traffic.zipf), {}
    for name, plan in plans.items():
        if plan.found.load >= 1:
            continue  # its queues would grow for ever
        tell(f"simulating {SIMULATED_REQUESTS:,} requests: {name}")
        routed = everywhere(len(shares), plan.engines) if name == "everywhere" else sharded(
            shares, plan.engines, replicas)  # fmt: skip
        found[name] = simulate(plan.engine, traffic, shares, routed, SIMULATED_REQUESTS)
    return found


def _figures(gpu: str | None, shape: "Shape", settings: Settings, measured: tuple[str | None, float | None],
             assumed: Any) -> list[tuple[str, str, str]]:  # fmt: skip
    """What the plan takes for granted: name, value, where it is from."""
    from serve.capacity_figures import CPU_PROMPT_TOKENS_PER_S, CPU_TOKENS_PER_S, GPUS, Assumed

    rows = [("weights", f"{shape.weight_bytes / 1e9:.2f} GB", shape.name),
            ("KV cache, a token", f"{shape.kv_bytes_per_token / 1024:.1f} KiB", shape.name)]  # fmt: skip
    if gpu is None:
        speeds = ",".join(f"{streams}:{speed:g}" for streams, speed in CPU_TOKENS_PER_S.items())
        rows += [("tokens/s by streams", speeds, "docs/upstream-cpu-lora.md"),
                 ("prompt tokens/s", f"{CPU_PROMPT_TOKENS_PER_S:.0f}", "docs/upstream-cpu-lora.md")]  # fmt: skip
    else:
        card = GPUS[gpu.lower()]
        numbers = {"GPU memory": f"{card.memory_gb:g} GB", "GPU bandwidth": f"{card.bandwidth_gb_s:g} GB/s",
                   "GPU arithmetic": f"{card.tflops:g} TFLOPS", "RAM to GPU": f"{card.host_gb_s:g} GB/s"}  # fmt: skip
        rows += [(name, value, card.source) for name, value in numbers.items()]
        rows.append(("gpu_memory_utilization", f"{settings.engine.gpu_memory_utilization:g}", "brogue.toml"))
    if measured[0]:
        rows = [row for row in rows if row[0] != "tokens/s by streams"]
        rows.append(("tokens/s by streams", measured[0], "--engine-tokens-per-second"))
    if measured[1]:
        rows = [row for row in rows if row[0] != "prompt tokens/s"]
        rows.append(("prompt tokens/s", f"{measured[1]:g}", "--prompt-tokens-per-second"))
    cpu_only = {"bandwidth_share", "compute_share", "parallel_share", "lora_step_ms", "disk_gb_s"}
    for name, value in assumed.model_dump().items():
        if gpu is not None or name not in cpu_only:
            given = name in assumed.model_fields_set
            rows.append((name, f"{value:g}", "--assume" if given else
                         f"assumed: {Assumed.model_fields[name].description}"))  # fmt: skip
    return rows


def _print(plans: "dict[str, Plan]", simulated: "dict[str, Simulated]", figures: list[tuple[str, str, str]]) -> None:
    columns, cells = ["", ], []  # fmt: skip
    for name, plan in plans.items():
        columns.append(name)
        cells.append(_cells(plan))
        if name in simulated:
            columns.append("simulated")
            cells.append(_simulated_cells(simulated[name]))
    rows = [(label, *(column.get(label, "") for column in cells)) for label in cells[0]]
    print_table(columns, rows, "")
    typer.echo()
    print_table(("taken for granted", "value", "from"), figures, "")


def _cells(plan: "Plan") -> dict[str, str]:
    found, memory = plan.found, plan.engine.memory
    gib = {name: f"{count / 1024**3:.1f}" for name, count in memory.items()}
    return {
        "engines": str(plan.engines),
        "slots, an engine": str(plan.engine.slots),
        "adapters, an engine": str(plan.adapters_held),
        "batch, at most": str(plan.engine.batch),
        "batch, mean": f"{found.in_service:.1f}",
        "load, busiest engine": f"{found.load:.0%}",
        "found in a slot": f"{found.hit_rate:.0%}",
        "fetched from disk": f"{found.disk_rate:.0%}",
        "wait for a slot": f"{found.slot_waiting:.1%}",
        "wait for the batch": f"{found.waiting:.1%}",
        "mean wait": _seconds(found.mean_wait_s),
        "p95 wait": _seconds(found.p95_wait_s),
        "p95 first token": _seconds(found.first_token_s),
        "p50 answer": _seconds(found.p50_s),
        "p95 answer": _seconds(found.p95_s),
        "tokens/s": f"{found.tokens_per_s:,.0f}",
        "tokens/s, full": f"{found.full_tokens_per_s:,.0f}",
        "enough up to, rps": f"{plan.most_rps:,.0f}" if plan.most_rps >= 100 else f"{plan.most_rps:.3g}",
        "runs out first": plan.limit,
        "weights+slots+KV, GiB": f"{gib['weights']}+{gib['slots']}+{gib['kv_cache']}",
        "adapters in RAM": f"{plan.engine.cached}, {gib['cpu_cache']} GiB",
    }


def _simulated_cells(found: "Simulated") -> dict[str, str]:
    return {
        "found in a slot": f"{found.hit_rate:.0%}", "fetched from disk": f"{found.disk_rate:.0%}",
        "wait for a slot": f"{found.slot_waiting:.1%}",
        "mean wait": _seconds(found.mean_wait_s), "p95 wait": _seconds(found.p95_wait_s),
        "p50 answer": _seconds(found.p50_s), "p95 answer": _seconds(found.p95_s),
    }  # fmt: skip


def _seconds(value: float) -> str:
    return "never ends" if math.isinf(value) else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _notes(plans: "dict[str, Plan]", goal: str, gpu: str | None, measured: str | None, simulated: bool) -> None:
    for name, plan in plans.items():
        if not plan.met:
            say(f"{name}: not enough ({goal}); leave out --engines to see how many are")
        if plan.rough and not simulated:
            say(f"{name}: with so much waiting for slots the formulas are rough; add --simulate, or give more --slots")
    if "sharded" not in plans:
        say("one engine suffices, so there is nothing to shard")
    if gpu is not None and measured is None:
        say("GPU speeds are reckoned from data sheets, not measured; measure one engine, then give "
            "--engine-tokens-per-second (docs/capacity.md)")  # fmt: skip


def _as_json(traffic: "Traffic", plans: "dict[str, Plan]", simulated: "dict[str, Simulated]",
             figures: list[tuple[str, str, str]]) -> dict[str, Any]:  # fmt: skip
    taken = [{"name": name, "value": value, "from": source} for name, value, source in figures]
    found = {name: plan.model_dump() | {"rough": plan.rough} for name, plan in plans.items()}
    for name, one in simulated.items():
        found[name]["simulated"] = vars(one)
    result: dict[str, Any] = _finite({"traffic": traffic.model_dump(), "plans": found})
    return result | {"taken_for_granted": taken}


def _finite(value: Any) -> Any:
    """JSON knows no infinity: none stands for what never ends."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value
