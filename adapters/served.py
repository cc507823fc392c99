"""How the engine can serve what a method trains, asked before training; and the form in which it is written after.

LoRA is served as it is. Methods that are a LoRA of a small rank are converted, and the conversion is measured. Soft
prompts are put before each prompt by the gateway. All others are merged into a copy of the base model when they are
first served, which takes an engine of its own; that the merged model answers the same is measured here, too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import methods
from adapters.base_model import BaseModel
from adapters.methods import Serving
from adapters.registry import AdapterCard, Served
from data.errors import BrogueError

if TYPE_CHECKING:
    from peft import PeftModel

LEARNS_ANSWERS = ("sft", "instruct", "labelled")  # recipes that know nothing of LoRA
Options = Mapping[str, Any]


def check(base: BaseModel, name: str, rank: int, recipe: str, goes_on: bool, max_rank: int,
          options: Options | None = None) -> Serving:  # fmt: skip
    """How it will be served. Raises `BrogueError` for a method that could not be trained by this recipe, or served."""
    options = options or {}
    if name == "lora" and not options:
        return "native"
    method = methods.find(name)
    if goes_on or (recipe not in LEARNS_ANSWERS):
        way = "a version to go on from has its method already" if goes_on else f"the recipe '{recipe}' takes lora only"
        out = "--method" if name != "lora" else "--method-option"
        raise BrogueError(f"the method '{name}' cannot be used here: {way}; leave {out} out")
    if (missing := methods.missing_here(method)) is not None:
        raise BrogueError(f"the method '{name}' cannot be used here: {missing}")
    from adapters.planning import size

    how = size(base, method, rank, options).served
    if how == "never":
        raise BrogueError(
            f"nothing could serve what '{name}' trains: it works inside the model's layers, where neither a LoRA nor "
            "other weights nor a longer prompt are equal to it; nothing is trained. See: brogue plan --method all"
        )
    exact = methods.lora_rank(method, rank) if how in ("native", "converted") else None
    if exact is not None and exact > max_rank:
        fitting = [smaller for smaller in range(1, rank) if (methods.lora_rank(method, smaller) or rank) <= max_rank]
        raise BrogueError(
            f"'{name}' at rank {rank} is a LoRA of rank {exact}, above engine.max_lora_rank = {max_rank}; "
            f"give --rank {max(fitting)} or less, or raise max_lora_rank under [engine] in brogue.toml"
        )
    return how


def refuse_start(card: AdapterCard) -> None:
    """Raises `BrogueError` for a version that training cannot go on from."""
    if card.served in ("soft-prompt", "merged"):
        raise BrogueError(
            f"{card.name} was trained with {card.method}; training goes on from LoRA versions only. Leave --from away, "
            f"and train it anew on all of the data: --method {card.method}"
        )


def write(model: "PeftModel", folder: Path, name: str, rank: int,
          compared: Sequence[Mapping[str, Any]]) -> tuple[int, Served, dict[str, float]]:  # fmt: skip
    """Write what was trained as it will be served: (the LoRA's rank, how it is served, how near that is if measured).

    Conversions and merging are measured on the `input_ids` of `compared`. What no LoRA is near enough to is served
    merged; raises `BrogueError` if that answers differently, too.
    """
    method = methods.find(name)
    heads = model.active_peft_config.task_type != "CAUSAL_LM"  # reward models and classifiers: no engine takes them
    if method.peft_type == "LORA" and (heads or methods.is_plain(model)):
        model.save_pretrained(str(folder), selected_adapters=["default"])
        return rank, "native", {}
    if model.active_peft_config.is_prompt_learning:
        from adapters.soft_prompts import save

        save(model, folder)
        return rank, "soft-prompt", {}
    from adapters.converting import Differs, convert, merging

    sequences, exact = [example["input_ids"] for example in compared], methods.lora_rank(method, rank)
    if exact is not None:
        try:
            found = convert(model, folder, exact, sequences)
            return exact, "converted", {"converted_kl": found.kl, "converted_logit": round(found.largest, 4)}
        except Differs:
            pass  # so it is served from merged weights
    found = merging(model, folder, sequences)
    return rank, "merged", {"merged_kl": found.kl, "merged_logit": round(found.largest, 4)}
