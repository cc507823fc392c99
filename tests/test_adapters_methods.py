"""Methods by PEFT's names: what they train, how they can be served, and what a training would take."""

from pathlib import Path
from typing import Any

import pytest

from adapters import methods
from data.errors import BrogueError
from tests.tiny_models import make_model

SEQUENCES = [[3, 5, 7, 11, 13, 17, 19, 23], [29, 31, 37, 41], [5] * 12]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, of another family than the starter's."""
    from transformers import Qwen3ForCausalLM

    return make_model(
        tmp_path_factory.mktemp("tiny") / "qwen", Qwen3ForCausalLM, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=256,
    )  # fmt: skip


def loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trained(folder: Path, name: str, rank: int) -> Any:
    """The model with the method's weights moved a little, as training would."""
    import torch

    torch.manual_seed(1)
    model = methods.attach(loaded(folder), methods.find(name), rank)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    return model


def test_a_lora_of_rank_8_has_4608_numbers_where_the_matrix_has_32768() -> None:
    from peft import get_peft_model
    from torch import nn

    from adapters.planning import trainable

    model = nn.Sequential(nn.Linear(64, 512, bias=False))
    assert trainable(model) == 32_768
    config = methods.config_for(methods.find("lora"), 8, model)
    config.task_type, config.target_modules = None, ["0"]
    assert trainable(get_peft_model(model, config)) == 4_608


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_named_method_can_be_counted_without_weights(tiny: Path, name: str) -> None:
    from adapters.base_model import _inspect, _stat_files
    from adapters.planning import memory, size

    base = _inspect("tiny", tiny, _stat_files(tiny))
    method = methods.find(name)
    if name == "adaption-prompt":  # PEFT knows where to put it in some families only
        with pytest.raises(BrogueError, match="does not fit this base model"):
            size(base, method, 4)
        return
    found = size(base, method, 4)
    with_weights = methods.attach(loaded(tiny), method, 4)
    assert found.trainable == sum(p.numel() for p in with_weights.parameters() if p.requires_grad) > 0
    assert memory(base, found, 2, 32).total > base.weight_bytes


@pytest.mark.parametrize(
    ("name", "served"),
    [("lora", "native"), ("rslora", "native"), ("miss", "converted"), ("dora", "merged"),
     ("lokr", "merged"), ("ia3", "merged"), ("ln-tuning", "merged"),
     ("layers", "merged"), ("trainable-tokens", "merged"), ("qlora", "native"), ("prompt-tuning", "soft-prompt"),
     ("p-tuning", "soft-prompt"), ("prefix-tuning", "never"), ("hra", "merged"), ("lily", "never")],
)  # fmt: skip
def test_a_method_tells_how_it_can_be_served(tiny: Path, name: str, served: str) -> None:
    method = methods.find(name)
    assert methods.serving(methods.attach(loaded(tiny), method, 4), method) == served


def test_an_unknown_method_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(BrogueError, match="no method 'lroa'.*lora"):
        methods.find("lroa")


def test_a_method_whose_settings_nobody_gave_is_one_line(tiny: Path) -> None:
    with pytest.raises(BrogueError, match="'adalora'.*total_step"):
        methods.attach(loaded(tiny), methods.find("adalora"), 4)


@pytest.mark.parametrize(("name", "rank"), [("miss", 8), ("loha", 4), ("vera", 16)])
def test_a_conversion_at_the_exact_rank_answers_the_same(tiny: Path, tmp_path: Path, name: str, rank: int) -> None:
    from peft import PeftModel

    from adapters.converting import convert, logits

    model = trained(tiny, name, rank)
    exact = methods.lora_rank(methods.find(name), rank)
    assert exact is not None
    folder = tmp_path / "converted"
    folder.mkdir()
    found = convert(model, folder, exact, SEQUENCES)
    assert found.kl < 1e-5 and found.prompts == 3
    again = PeftModel.from_pretrained(loaded(tiny), str(folder))
    assert (logits(again, SEQUENCES[0]) - logits(model, SEQUENCES[0])).abs().max() < 1e-2


@pytest.mark.parametrize("name", ["dora", "lokr"])
def test_a_conversion_that_loses_something_is_refused_and_leaves_nothing(tiny: Path, tmp_path: Path, name: str) -> None:
    import torch

    from adapters.converting import convert

    model = trained(tiny, name, 4)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "magnitude" in weight_name:
                weight *= 1.5
            elif "lokr" in weight_name:
                weight += 0.3 * torch.randn_like(weight)
    folder = tmp_path / "converted"
    folder.mkdir()
    with pytest.raises(BrogueError, match="answers differently"):
        convert(model, folder, 2, SEQUENCES)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


def test_three_steps_are_measured_and_the_model_on_disk_stays_as_it_is(tiny: Path) -> None:
    from adapters.base_model import _inspect, _stat_files
    from adapters.planning import largest_batch, measure, size

    before = _stat_files(tiny)
    base = _inspect("tiny", tiny, before)
    method = methods.find("lora")
    assert measure(base, method, 4, batch=2, tokens=16).tokens_per_s > 0
    assert _stat_files(tiny) == before
    found = size(base, method, 4)
    assert largest_batch(base, found, 8, 32, free=10**12) == 8
    assert largest_batch(base, found, 8, 32, free=base.weight_bytes) == 0
