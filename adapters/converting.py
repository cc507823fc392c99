"""What another method trained, as a LoRA or as whole weights that an engine can serve; only if it answers the same.

PEFT does the conversion (singular values of the weights' change) and the merging; for some methods a LoRA is exact at a
small rank, for some near, and DoRA's leaves a part out. So the difference is measured on held-out prompts instead of
believed.
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


class Differs(BrogueError):
    """The other form answers differently."""


class Conversion(Frozen):
    """How near the other form is to what was trained."""

    kl: float  # mean over tokens of KL(trained ‖ other form), nats; 0 where rounding made it less
    largest: float  # difference of two logits
    prompts: int


def convert(model: PeftModel, folder: Path, rank: int, sequences: Sequence[Sequence[int]]) -> Conversion:
    """Write `model`'s adapter into `folder` as a LoRA of `rank`, and measure it on token sequences.

    Raises `Differs` if PEFT cannot convert it, or if the LoRA differs by more than `BOUND`; the folder is left without
    files then. The model is in float32 afterwards: in bfloat16, rounding alone would make a difference of more.
    """
    model, some = _plain(model), _some(sequences)
    before = [logits(model, ids) for ids in some]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        try:
            save_as_lora(temporary, model, rank=rank)
        except (TypeError, ValueError) as error:
            raise Differs(f"PEFT cannot make a LoRA of it ({one_line(error, 160)})") from error
        found = _compared(before, _of_lora(model, Path(temporary), some), f"as a LoRA of rank {rank}")
        for file in Path(temporary).iterdir():
            file.rename(folder / file.name)
    return found


def merging(model: PeftModel, folder: Path, sequences: Sequence[Sequence[int]]) -> Conversion:
    """Write `model`'s adapter into `folder` as PEFT saves it, and measure the model that it is merged into.

    Raises `BrogueError` if PEFT cannot merge it, `Differs` if the whole differs by more than `BOUND`. Uses `model` up.
    """
    from adapters.merging import merged_model

    model, some = _plain(model), _some(sequences)
    model.save_pretrained(str(folder), selected_adapters=["default"])
    before = [logits(model, ids) for ids in some]
    whole = merged_model(model)
    return _compared(before, [logits(whole, ids) for ids in some], "merged into its base model")


def _plain(model: PeftModel) -> PeftModel:
    """In float32, and without the trainer's autocasting, which a comparison must not go through."""
    return extract_model_from_parallel(model, keep_fp32_wrapper=False).float()


def _some(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    if not sequences:
        raise ValueError("what is written is measured on at least one sequence")
    return [list(ids) for ids in sequences[:PROMPTS]]


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


def _compared(before: list[torch.Tensor], after: list[torch.Tensor], what: str) -> Conversion:
    divergences, largest = [], 0.0
    for trained, other in zip(before, after, strict=True):
        log_p, log_q = trained.log_softmax(-1), other.log_softmax(-1)
        divergences.append((log_p.exp() * (log_p - log_q)).sum(-1))
        largest = max(largest, float((trained - other).abs().max()))
    kl = float(torch.cat(divergences).mean())
    found = Conversion(kl=0.0 if kl < 0 else kl, largest=largest, prompts=len(before))
    if not found.kl <= BOUND:
        raise Differs(f"{what} it answers differently: {found.kl:.2g} nats a token, wanted at most {BOUND:g}")
    return found
