"""What another method trained, as a LoRA that the engine can serve; kept only if it answers the same.

PEFT does the conversion (singular values of the weights' change); for some methods it is exact at a small rank, for
some near, and DoRA's leaves a part out. So the difference is measured on held-out prompts instead of believed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel  # type: ignore[import-untyped]
from peft import PeftModel, save_as_lora

from data.errors import BrogueError, one_line
from data.frozen import Frozen

BOUND = 1e-3  # nats per token in float32; exact conversions stay below 1e-5, DoRA's are above 1e-2
PROMPTS = 16  # that many sequences are compared


class Conversion(Frozen):
    """How near the LoRA is to what was trained."""

    rank: int
    kl: float  # mean over tokens of KL(trained ‖ converted), nats
    largest: float  # difference of two logits
    prompts: int


def convert(model: PeftModel, folder: Path, rank: int, sequences: Sequence[Sequence[int]]) -> Conversion:
    """Write `model`'s adapter into `folder` as a LoRA of `rank`, and measure it on token sequences.

    Raises `BrogueError` if PEFT cannot convert it, or if the LoRA differs by more than `BOUND`; the folder is left
    without files then. The model is in float32 afterwards: in bfloat16, rounding alone would make a difference of more.
    """
    if not sequences:
        raise ValueError("a conversion is measured on at least one sequence")
    # A trainer wraps the model in autocasting, which the comparison must not go through.
    model = extract_model_from_parallel(model, keep_fp32_wrapper=False).float()
    some = [list(ids) for ids in sequences[:PROMPTS]]
    before = [logits(model, ids) for ids in some]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        try:
            save_as_lora(temporary, model, rank=rank)
        except (TypeError, ValueError) as error:
            raise BrogueError(f"PEFT cannot make a LoRA of it ({one_line(error, 160)})") from error
        after = _of_lora(model, Path(temporary), some)
        found = _compared(before, after, rank)
        if not found.kl <= BOUND:
            raise BrogueError(
                f"as a LoRA of rank {rank} it answers differently: {found.kl:.2g} nats a token, wanted at most "
                f"{BOUND:g}; train with lora or miss, or at a rank whose conversion is exact (brogue plan)"
            )
        for file in Path(temporary).iterdir():
            file.rename(folder / file.name)
    return found


def logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """(tokens, vocabulary) in float32 on the CPU."""
    model.eval()
    with torch.no_grad():
        found = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0]
    return torch.Tensor(found.float().cpu())


def _of_lora(model: PeftModel, folder: Path, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Logits of the same base weights, read anew, with the LoRA."""
    from transformers import AutoModelForCausalLM

    path = model.get_base_model().config.name_or_path
    bare = AutoModelForCausalLM.from_pretrained(path, dtype=model.get_base_model().dtype).to(model.device)
    converted = PeftModel.from_pretrained(bare, str(folder))
    return [logits(converted, ids) for ids in sequences]


def _compared(before: list[torch.Tensor], after: list[torch.Tensor], rank: int) -> Conversion:
    divergences, largest = [], 0.0
    for trained, converted in zip(before, after, strict=True):
        log_p, log_q = trained.log_softmax(-1), converted.log_softmax(-1)
        divergences.append((log_p.exp() * (log_p - log_q)).sum(-1))
        largest = max(largest, float((trained - converted).abs().max()))
    return Conversion(rank=rank, kl=float(torch.cat(divergences).mean()), largest=largest, prompts=len(before))
