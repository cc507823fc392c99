"""Version folders that hold no plain LoRA: a soft prompt, or what is merged into the base model. No torch, no PEFT.

Which tensors a kind of PEFT's has is known to PEFT only; merging looks at that (adapters/merging.py).
"""

from pathlib import Path
from typing import Any

from adapters.base_model import BaseModel
from adapters.lora_config import CONFIG, bad_numbers, unserved, wrong_task
from adapters.tensors import DTYPES, Tensor, numbers_are_finite
from data.errors import one_line

PROMPT = "prompt_embeddings"
SOFT_PROMPTS = ("PROMPT_TUNING", "P_TUNING", "CPT")
INSIDE = ("PREFIX_TUNING", "CARTRIDGE", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT")  # they work inside the layers
INTEGERS = ("I64", "I32", "I16", "I8", "U8", "BOOL")  # some kinds say which numbers they change


def soft_prompt_problems(path: Path, header: dict[str, Tensor], config: dict[str, Any], base: BaseModel) -> list[str]:
    """Why the vectors in the file `path` could not stand before a prompt of the base model."""
    kind, count = config.get("peft_type"), config.get("num_virtual_tokens")
    if kind not in SOFT_PROMPTS:
        return [f"it is of PEFT's type {one_line(kind, 40)}; wanted one of {', '.join(SOFT_PROMPTS)} as a soft prompt"]
    if found := wrong_task(config):
        return found
    if type(count) is not int or not 1 <= count < base.context_length:
        most = base.context_length - 1
        return [f"num_virtual_tokens in {CONFIG} is {one_line(count, 40)}; wanted a whole number from 1 to {most}"]
    if set(header) != {PROMPT}:
        held = ", ".join(sorted(header)[:3]) or "nothing"
        return [f"{path.name} holds {one_line(held, 120)}; wanted {PROMPT} and nothing else"]
    right = (count, _hidden(base))
    if header[PROMPT].shape != right:
        shape, wanted = (" × ".join(map(str, s)) for s in (header[PROMPT].shape, right))
        return [f"{PROMPT} has shape {shape}; base model {base.name} and {CONFIG} want {wanted}"]
    return bad_numbers_in(path, header)


def merged_problems(path: Path, header: dict[str, Tensor], config: dict[str, Any]) -> list[str]:
    """Why what lies in the file `path` could not be merged into a base model, as far as that is seen without PEFT."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or not kind or kind in (*SOFT_PROMPTS, *INSIDE):
        return [f"it is of PEFT's type {one_line(kind, 40)}, which cannot be merged into a base model"]
    if found := wrong_task(config):
        return found
    if kind == "LORA" and (found := [*unserved(config, merged=True), *bad_numbers(config, None)]):
        return found
    odd = [name for name in header if not name.startswith("base_model.")]
    if odd or not header:
        return [
            f"{path.name} holds {one_line(odd[0], 120) if odd else 'nothing'}; wanted PEFT's tensors (base_model.…)"
        ]
    return bad_numbers_in(path, header, (*DTYPES, *INTEGERS))


def bad_numbers_in(path: Path, header: dict[str, Tensor], dtypes: tuple[str, ...] = DTYPES) -> list[str]:
    """Tensors of another dtype, or that hold no numbers."""
    found = [
        f"{name} holds {tensor.dtype} numbers; wanted {', '.join(DTYPES)}"
        for name, tensor in header.items()
        if tensor.dtype not in dtypes
    ]
    return found or [
        f"{name} holds NaN or infinite numbers; its training went wrong, train it again"
        for name, tensor in header.items()
        if tensor.dtype in DTYPES and not numbers_are_finite(path, tensor)
    ]


def _hidden(base: BaseModel) -> int:
    """Numbers of a token's vector: what the first layer that looks tokens up gives."""
    return base.modules[base.embeddings[0]][0]
