"""Whether the engine can serve what a method trains, asked before training; and the form in which it is written after.

The engine takes LoRA. Methods that are a LoRA of a small rank are converted, and the conversion is measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import methods
from adapters.base_model import BaseModel
from adapters.registry import Served
from data.errors import BrogueError

if TYPE_CHECKING:
    from peft import PeftModel

LEARNS_ANSWERS = ("sft", "instruct", "labelled")  # recipes that know nothing of LoRA


def check(base: BaseModel, name: str, rank: int, recipe: str, goes_on: bool, max_rank: int) -> None:
    """Raises `BrogueError` for a method that could not be trained by this recipe, or not be served."""
    if name == "lora":
        return
    method = methods.find(name)
    if goes_on or (recipe not in LEARNS_ANSWERS):
        way = "a version to go on from has its method already" if goes_on else f"the recipe '{recipe}' takes lora only"
        raise BrogueError(f"the method '{name}' cannot be used here: {way}; leave --method out")
    from adapters.planning import size

    how = size(base, method, rank).served
    if how not in ("native", "converted"):
        fitting = ", ".join(other for other in methods.METHODS if methods.lora_rank(methods.find(other), 1))
        raise BrogueError(
            f"the engine could not serve what '{name}' trains ({_why(how)}), so nothing is trained; "
            f"choose one of {fitting}. See: brogue plan --method all"
        )
    exact = _exact(method, rank)
    if exact > max_rank:
        most = max(smaller for smaller in range(1, rank) if _exact(method, smaller) <= max_rank)
        raise BrogueError(
            f"'{name}' at rank {rank} is a LoRA of rank {exact}, above engine.max_lora_rank = {max_rank}; "
            f"give --rank {most} or less, or raise max_lora_rank under [engine] in brogue.toml"
        )


def _exact(method: methods.Method, rank: int) -> int:
    exact = methods.lora_rank(method, rank)
    assert exact is not None  # check() refuses the others
    return exact


def _why(how: methods.Serving) -> str:
    if how == "merged":
        return "it changes the base model's own weights in a way that no small LoRA is equal to"
    return "it needs a prompt of its own kind" if how == "soft-prompt" else "it works inside the model's layers"


def write(model: "PeftModel", folder: Path, name: str, rank: int,
          compared: Sequence[Mapping[str, Any]]) -> tuple[int, Served, dict[str, float]]:  # fmt: skip
    """Write what was trained as the engine takes it: (the LoRA's rank, how it is served, how near it is if converted).

    A conversion is measured on the `input_ids` of `compared`. Raises `BrogueError` if it is not near enough.
    """
    method = methods.find(name)
    if methods.is_lora(method):
        model.save_pretrained(str(folder), selected_adapters=["default"])
        return rank, "native", {}
    from adapters.converting import convert

    exact = _exact(method, rank)
    found = convert(model, folder, exact, [example["input_ids"] for example in compared])
    return exact, "converted", {"converted_kl": found.kl, "converted_logit": round(found.largest, 4)}
