"""The fast paths of training on a processor give what PyTorch's and PEFT's own give."""

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import make_model

pytestmark = pytest.mark.slow


def make(folder: Path, family: str, dtype: str) -> Any:
    """A tiny model with a LoRA that changes something."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    }  # fmt: skip
    if family == "Gemma3":
        size |= {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
    name = "Gemma3ForCausalLM" if family == "Gemma3" else f"{family}ForCausalLM"
    path = make_model(folder / family, getattr(transformers, name), **size)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch() -> dict[str, Any]:
    """Three rows, the shorter ones padded on the right; the loss is on their ends only."""
    import torch

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 25, (3, 21), generator=generator)
    lengths = torch.tensor([21, 17, 9])
    mask = (torch.arange(21) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :6] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model: Any, given: dict[str, Any], fast: bool) -> tuple[float, Any]:
    import torch

    from adapters.trainer_cpu import token_losses

    model.zero_grad()
    labels = given["labels"][:, 1:].flatten()
    logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits[:, :-1].flatten(0, 1)
    if fast:
        loss = token_losses(logits, labels).sum() / (labels != -100).sum()
    else:
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100)
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Qwen2", "Gemma3"])
def test_loss_and_gradients_are_those_of_plain_peft_and_pytorch(tmp_path: Path, family: str) -> None:
    import torch

    from adapters.trainer_cpu import NAME, FastLora, speed_up

    model, given = make(tmp_path, family, "float32"), batch()
    plain_loss, plain = gradients(model, given, fast=False)
    speed_up(model)
    fast_loss, fast = gradients(model, given, fast=True)
    assert any(isinstance(module, FastLora) for module in model.modules())
    assert model.config._attn_implementation == NAME
    assert abs(fast_loss - plain_loss) < 1e-5
    assert plain.keys() == fast.keys() and len(plain) > 20
    for name, wanted in plain.items():
        assert torch.allclose(fast[name], wanted, rtol=1e-3, atol=1e-5), name


def test_in_bfloat16_under_autocast_it_is_as_near_to_float32_as_before(tmp_path: Path) -> None:
    """Rounding differs, so both are compared with float32, by the direction of the whole gradient."""
    import torch

    from adapters.trainer_cpu import speed_up

    given = batch()
    exact = torch.cat([g.flatten() for g in gradients(make(tmp_path, "Llama", "float32"), given, False)[1].values()])
    model = make(tmp_path, "Llama", "bfloat16")
    alike = []
    for fast in (False, True):
        if fast:
            speed_up(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = torch.cat([g.float().flatten() for g in gradients(model, given, fast)[1].values()])
        alike.append(float(torch.cosine_similarity(exact, found, dim=0)))
    assert alike[1] > 0.99 and 1 - alike[1] < 2 * (1 - alike[0]) + 1e-3, alike


def test_what_the_fast_lora_does_not_know_goes_pefts_way(tmp_path: Path) -> None:
    import torch

    from adapters.trainer_cpu import speed_up

    model, ids = make(tmp_path, "Llama", "float32").eval(), batch()["input_ids"]
    with torch.no_grad():
        with model.disable_adapter():
            bare = model(ids).logits
        changed = model(ids).logits
        speed_up(model)
        with model.disable_adapter():
            assert torch.allclose(model(ids).logits, bare, atol=1e-5)
        assert torch.allclose(model(ids).logits, changed, atol=1e-5)
        model.merge_adapter()
        assert torch.allclose(model(ids).logits, changed, atol=1e-4)
        model.unmerge_adapter()
        written = model.generate(ids[:, :5], max_new_tokens=4, do_sample=False)
    assert written.shape == (3, 9)
