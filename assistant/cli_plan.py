"""`brogue plan`: what training with a method would take for a base model, and whether this machine has room for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError
from data.home import Home
from data.settings import Settings, load_settings

if TYPE_CHECKING:
    from adapters.base_model import BaseModel
GIB = 1024**3
SERVED = {
    "native": "as it is",
    "converted": "as a LoRA that answers the same",
    "merged": "merged, by an engine of its own",
    "soft-prompt": "as vectors before each prompt",
    "never": "in no way",
}


class Asked(NamedTuple):
    """A training that is planned."""

    rank: int
    batch: int
    tokens: int
    rows: int
    epochs: int
    measure: bool
    options: dict[str, Any]


def plan(
    method: Annotated[str, typer.Option(help="Which weights, PEFT's names; 'all' compares the known ones.")] = "lora",
    base_model: Annotated[
        str | None, typer.Option(help="A folder or a Hugging Face id (default: brogue.toml's).")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank, and that of its relatives.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one step.")] = 8,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens in a row.")] = 256,
    rows: Annotated[int, typer.Option(min=1, help="Training rows.")] = 300,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 1,
    method_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as for brogue train; with one --method.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure the time with three steps here.")] = True,
    json: Json = False,
) -> None:
    """Tell what a training would take: parameters, memory, minutes; and whether the model fits this machine.

    Nothing is trained: three steps on random tokens are measured and thrown away.
    """
    home = Home.from_environment()
    home.create()
    settings = load_settings(home.settings_file)
    from adapters import methods, planning
    from adapters.base_model import prepare

    names = list(methods.METHODS) if method == "all" else [methods.find(method).name]
    asked = Asked(rank, batch_size, tokens, rows, epochs, measure, methods.read_options(method_option or ()))
    found: list[dict[str, Any]] = []
    with working("plan") as tell:
        base = prepare(base_model or settings.base_model, home, tell)
        for name in names:
            tell(f"counting: {name}")
            try:
                found.append(_looked_at(base, name, asked, tell))
            except BrogueError as error:  # some methods know some families only
                if len(names) == 1:
                    raise
                say(str(error))
    serving, free = _serving(settings, base), planning.free_bytes()
    if json:
        given = {"base_model": base.name, "rank": rank, "batch_size": batch_size, "tokens": tokens, "rows": rows,
                 "epochs": epochs, "free_bytes": free}  # fmt: skip
        print_json(given | {"serving": serving, "methods": found})
        return
    _print(base.name, found, serving, free, asked)


def _looked_at(base: "BaseModel", name: str, asked: Asked, tell: Callable[[str], None]) -> dict[str, Any]:
    """What one method would take."""
    from adapters import methods, planning

    method = methods.find(name)
    size = planning.size(base, method, asked.rank, asked.options)
    batch, tokens, free, four_bits = asked.batch, asked.tokens, planning.free_bytes(), method.four_bits
    need = planning.memory(base, size, batch, tokens, four_bits)
    fits = planning.largest_batch(base, size, batch, tokens, free, four_bits)
    longest = tokens if fits else planning.longest_row(base, size, tokens, free, four_bits)
    speed, steps = None, planning.steps(asked.rows, batch, asked.epochs)
    missing = methods.missing_here(method)
    if asked.measure and fits == batch and missing is None:
        tell(f"measuring three steps: {name}")
        speed = planning.measure(base, method, asked.rank, batch, tokens, asked.options)
    return {
        "method": name, "rank": asked.rank, **size.model_dump(), "memory": need.model_dump() | {"total": need.total},
        "largest_batch": fits, "longest_row": longest, "missing": missing, "steps": steps,
        "tokens_per_s": None if speed is None else round(speed.tokens_per_s, 1),
        "minutes": None if speed is None else round(steps * speed.seconds_per_step / 60, 2),
    }  # fmt: skip


def _serving(settings: Settings, base: "BaseModel") -> str:
    """Whether an engine has room for the model, and the nearest that it has room for."""
    from serve.hardware import ENGINE_OVERHEAD_BYTES, memory_of
    from serve.hardware import plan as engine_plan

    facts = base.weight_bytes, base.kv_bytes_per_token, base.context_length
    try:
        wanted = engine_plan(settings.engine, *facts)
        if wanted.device == "cpu":
            return f"fits, for conversations of up to {wanted.max_model_len} tokens"
        room = int(memory_of("gpu").total * settings.engine.gpu_memory_utilization)
        if base.weight_bytes + base.kv_bytes_per_token * wanted.max_model_len <= room:
            return f"fits the GPU, for conversations of up to {wanted.max_model_len} tokens"
    except BrogueError:
        room = memory_of("cpu").free - ENGINE_OVERHEAD_BYTES
    for length in (4096, 2048, 1024, 512, 256):
        if base.weight_bytes + base.kv_bytes_per_token * length <= room:
            return f"does not fit; the nearest that does: max_model_len = {length} under [engine] in brogue.toml"
    return f"does not fit; the nearest that does: a base model with at most {max(0, room) / GIB:.1f} GiB of weights"


def _print(name: str, found: list[dict[str, Any]], serving: str, free: int, asked: Asked) -> None:
    columns = ("method", "trained", "of all", "memory", "steps", "minutes", "served")
    lines = [
        (one["method"], f"{one['trainable']:,}", f"{one['trainable'] / one['total']:.3%}",
         f"{one['memory']['total'] / GIB:.2f} GiB", one["steps"], "-" if one["minutes"] is None else one["minutes"],
         SERVED[one["served"]])
        for one in found
    ]  # fmt: skip
    print_table(columns, lines, "no method")
    say(f"{name}: {asked.batch} rows of {asked.tokens} tokens in a step; {free / GIB:.1f} GiB are free here")
    for one in found:
        if one["missing"]:
            say(f"{one['method']}: {one['missing']}")
        elif one["largest_batch"] < asked.batch:
            say(f"{one['method']} does not fit here: {_way_out(one, found, free)}")
    say(f"serving: {serving}")


def _way_out(one: dict[str, Any], found: list[dict[str, Any]], free: int) -> str:
    """The nearest that fits: fewer rows, another method, shorter rows, a smaller model."""
    if one["largest_batch"]:
        return f"the nearest that does is --batch-size {one['largest_batch']}"
    others = [other for other in found if other["largest_batch"] and not other["missing"]]
    if others:
        best = max(others, key=lambda other: int(other["largest_batch"]))
        return f"the nearest that does is --method {best['method']} --batch-size {best['largest_batch']}"
    if one["longest_row"]:
        return f"the nearest that does is --batch-size 1 --tokens {one['longest_row']}"
    over = one["memory"]["total"] - one["memory"]["activations"] - free
    lack = f"{over / GIB:.1f} GiB are missing before the first row" if over > 0 else "there is no room for a row"
    return f"{lack}; close other programs or name a smaller --base-model (brogue plan tells of each)"
