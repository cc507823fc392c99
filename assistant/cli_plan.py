"""`brogue plan`: what training with a method would take for a base model, and whether this machine has room for it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError
from data.home import Home
from data.settings import Settings, load_settings

if TYPE_CHECKING:
    from adapters.base_model import BaseModel
    from adapters.planning import Memory, Size, Speed

GIB = 1024**3
SERVED = {
    "native": "as it is",
    "converted": "as a LoRA that answers the same",
    "merged": "merged into a copy of the base model only",
    "soft-prompt": "not yet",
    "never": "not by this engine",
}


def plan(
    method: Annotated[str, typer.Option(help="Which weights, PEFT's names; 'all' compares the known ones.")] = "lora",
    base_model: Annotated[
        str | None, typer.Option(help="A folder or a Hugging Face id [default: brogue.toml's].")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank, and that of its relatives.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one step.")] = 8,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens in a row.")] = 256,
    rows: Annotated[int, typer.Option(min=1, help="Training rows.")] = 300,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 1,
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
    with working("plan") as tell:
        base = prepare(base_model or settings.base_model, home, tell)
        found = []
        for name in names:
            tell(f"counting: {name}")
            one = methods.find(name)
            size = planning.size(base, one, rank)
            need = planning.memory(base, size, batch_size, tokens)
            fits = planning.largest_batch(base, size, batch_size, tokens, planning.free_bytes())
            speed = None
            if measure and fits == batch_size:
                tell(f"measuring three steps: {name}")
                speed = planning.measure(base, one, rank, batch_size, tokens)
            found.append(_facts(name, rank, size, need, fits, speed, planning.steps(rows, batch_size, epochs)))
        free = planning.free_bytes()
    serving = _serving(settings, base)
    if json:
        asked = {"base_model": base.name, "rank": rank, "batch_size": batch_size, "tokens": tokens, "rows": rows,
                 "epochs": epochs, "free_bytes": free}  # fmt: skip
        print_json(asked | {"serving": serving, "methods": found})
        return
    _print(base.name, found, serving, free, batch_size, tokens)


def _facts(name: str, rank: int, size: "Size", need: "Memory", fits: int, speed: "Speed | None",
           steps: int) -> dict[str, Any]:  # fmt: skip
    return {
        "method": name, "rank": rank, **size.model_dump(), "memory": need.model_dump() | {"total": need.total},
        "largest_batch": fits, "steps": steps,
        "tokens_per_s": None if speed is None else round(speed.tokens_per_s, 1),
        "minutes": None if speed is None else round(steps * speed.seconds_per_step / 60, 2),
    }  # fmt: skip


def _serving(settings: Settings, base: "BaseModel") -> str:
    """Whether the engine has room for the model, and what would give it some."""
    from serve.hardware import plan as engine_plan

    try:
        wanted = engine_plan(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    except BrogueError as error:
        return f"does not fit: {error}"
    return f"fits, for conversations of up to {wanted.max_model_len} tokens"


def _print(name: str, found: list[dict[str, Any]], serving: str, free: int, batch: int, tokens: int) -> None:
    columns = ("method", "trained", "of all", "memory", "steps", "minutes", "served")
    lines = [
        (one["method"], f"{one['trainable']:,}", f"{one['trainable'] / one['total']:.3%}",
         f"{one['memory']['total'] / GIB:.2f} GiB", one["steps"], "-" if one["minutes"] is None else one["minutes"],
         SERVED[one["served"]])
        for one in found
    ]  # fmt: skip
    print_table(columns, lines, "no method")
    say(f"{name}: {batch} rows of {tokens} tokens in a step; {free / GIB:.1f} GiB are free here")
    for one in found:
        if one["largest_batch"] < batch:
            say(f"{one['method']} does not fit here: {_way_out(one['largest_batch'])}")
    say(f"serving: {serving}")


def _way_out(largest: int) -> str:
    if largest:
        return f"the nearest that does is --batch-size {largest}"
    return "not a single row; use fewer --tokens, close other programs, or name a smaller --base-model"
