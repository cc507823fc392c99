"""Methods by PEFT's names: what they train, how they can be served, and what a training would take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters import methods, served
from adapters.base_model import BaseModel, prepare
from adapters.registry import AdapterCard, Registry
from adapters.validation import check_version
from data.errors import BrogueError
from data.home import Home, write_text
from tests.conftest import Run
from tests.tiny_models import make_model

SEQUENCES = [[3, 5, 7, 11, 13, 17, 19, 23], [29, 31, 37, 41], [5] * 12]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, of another family than the starter's."""
    from transformers import Qwen3ForCausalLM

    return make_model(
        tmp_path_factory.mktemp("tiny") / "qwen", Qwen3ForCausalLM, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=256,
        tie_word_embeddings=True,
    )  # fmt: skip


@pytest.fixture
def base(home: Home, tiny: Path) -> BaseModel:
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny}"')
    return prepare(str(tiny), home, lambda _: None)


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


def test_a_plan_reckons_4608_numbers_for_a_lora_of_rank_8_where_the_matrix_has_32768(
    brogue: Run, tmp_path: Path
) -> None:
    from transformers import LlamaForCausalLM

    folder = make_model(
        tmp_path / "textbook", LlamaForCausalLM, hidden_size=64, intermediate_size=512, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    one_matrix = ("--method-option", 'target_modules=["up_proj"]', "--no-measure", "--json")  # 512 x 64, and no other
    found = {}
    for method in ("lora", "ln-tuning"):  # the second one trains the matrix itself
        done = brogue("plan", "--base-model", str(folder), "--method", method, "--rank", "8", *one_matrix)
        assert done.returncode == 0, done.stderr
        found[method] = json.loads(done.stdout)["methods"][0]["trainable"]
    assert found == {"lora": 4_608, "ln-tuning": 32_768}


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

    from adapters.converting import Differs, convert

    model = trained(tiny, name, 4)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "magnitude" in weight_name:
                weight *= 1.5
            elif "lokr" in weight_name:
                weight += 0.3 * torch.randn_like(weight)
    folder = tmp_path / "converted"
    folder.mkdir()
    with pytest.raises(Differs, match="answers differently"):
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


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "instruction": lambda n: {"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."},
    "labelled": lambda n: {"text": f"item {n}", "label": "aisle" if n % 2 else "item"},
}
TRAINED = {  # method → recipe, how it is served; every recipe that learns answers with something of each family
    "dora": ("sft", "merged"), "lokr": ("instruct", "merged"), "delora": ("sft", "merged"),
    "ln-tuning": ("labelled", "merged"), "layers": ("labelled", "merged"), "trainable-tokens": ("instruct", "merged"),
    "ia3": ("sft", "merged"), "prompt-tuning": ("labelled", "soft-prompt"), "p-tuning": ("sft", "soft-prompt"),
}  # fmt: skip


def imported(brogue: Run, folder: Path, kind: str) -> None:
    """A dataset of that kind, named after it."""
    file = folder / f"{kind}.jsonl"
    file.write_text("\n".join(json.dumps(ROWS[kind](n)) for n in range(24)))
    done = brogue("data", "import", str(file), "--as", kind, "--into", kind)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_method_is_trained_and_written_so_that_peft_and_the_engines_can_use_it(
    brogue: Run, home: Home, base: BaseModel, tiny: Path, tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    from adapters.converting import logits

    recipe, how = TRAINED[name]
    kind = "labelled" if recipe == "labelled" else "instruction"
    imported(brogue, tmp_path, kind)
    done = brogue("train", "a", "--data", kind, "--recipe", recipe, "--method", name, "--epochs", "2", "--json")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    card, folder = Registry(home).card("a", 1), Registry(home).folder("a", 1)
    assert (card.served, card.method, card.recipe) == (how, name, recipe)
    assert card.scores["adapter_validation_loss"] < card.scores["base_validation_loss"]
    measured = {"converted": "converted_kl", "merged": "merged_kl"}.get(how)
    assert measured is None or 0 <= card.scores[measured] <= 1e-3
    check_version(card, folder, base, 16, home.root)
    model = PeftModel.from_pretrained(loaded(tiny), str(folder))
    with_it = logits(model, SEQUENCES[0])[-8:]
    with model.disable_adapter():
        assert (logits(model, SEQUENCES[0])[-8:] - with_it).abs().max() > 1e-3, "it learnt"
    assert ("takes an engine of its own" in done.stderr) == (how == "merged")


@pytest.mark.parametrize(
    ("method", "recipe", "options", "line"),
    [
        ("prefix-tuning", "sft", {}, "nothing could serve what 'prefix-tuning' trains: it works inside"),
        ("adaption-prompt", "sft", {}, "the method 'adaption-prompt' does not fit this base model"),
        ("lily", "sft", {}, "nothing could serve what 'lily' trains"),
        ("qlora", "sft", {}, "the method 'qlora' cannot be used here: it holds the base model in 4 bits, which takes"),
        ("loha", "sft", {}, "'loha' at rank 8 is a LoRA of rank 64, above engine.max_lora_rank = 16; give --rank 4"),
        *((name, recipe, {}, f"the method '{name}' cannot be used here: the recipe '{recipe}' takes lora only")
          for name in ("miss", "ia3", "prompt-tuning")
          for recipe in ("dpo", "kto", "reward", "ppo", "rloo", "grpo", "labelled --head")),
        ("layers", "sft", {"layers": 3}, "layers=3: wanted a whole number from 1 to 2, the layers of this base model"),
        ("lora", "dpo", {"use_rslora": True}, "the method 'lora' cannot be used here: the recipe 'dpo' takes lora"),
        ("lora", "sft", {"r": 4}, "no option of the method 'lora' 'r'; have: "),
        ("lora", "sft", {"init_lora_weights": "pissa"}, "nothing could serve what 'lora' trains"),
        ("layers", "sft", {"layers": "all"}, "layers=all: wanted a whole number from 1 to 2"),
        ("ia3", "sft", {"rank": 3}, "no option of the method 'ia3' 'rank'; have: "),
        ("adalora", "sft", {}, "the method 'adalora' needs settings that have no default here"),
        ("lroa", "sft", {}, "no method 'lroa'; have: "),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_or_served_is_one_line_before_training(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, method: str, recipe: str, options: dict[str, Any], line: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BrogueError) as error:
        served.check(base, method, 8, recipe, goes_on=False, max_rank=16, options=options)
    assert str(error.value).startswith(line) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize("name", ["ia3", "prompt-tuning"])
def test_training_goes_on_from_lora_only(base: BaseModel, name: str) -> None:
    card = AdapterCard(
        adapter="a", version=1, base_model="b", base_sha256="s", dataset="d", dataset_digest="0", recipe="sft",
        method=name, rank=8, served="merged" if name == "ia3" else "soft-prompt", config={}, system_prompt=None,
        parent=None, scores={}, minutes=1, created="2026-11-21", files={},
    )  # fmt: skip
    with pytest.raises(BrogueError, match=f"a@1 was trained with {name}; training goes on from LoRA versions only"):
        served.refuse_start(card)
    with pytest.raises(BrogueError, match="a version to go on from has its method already; leave --method out"):
        served.check(base, name, 8, "sft", goes_on=True, max_rank=16)


def test_last_layers_are_whole_and_template_tokens_are_what_stands_around_messages(tiny: Path) -> None:
    from adapters.method_targets import last_layers, template_tokens

    model = loaded(tiny)
    names = last_layers(model, 1)
    assert all(name.startswith("model.layers.1.") for name in names)
    inside = sum(p.numel() for name in names for p in model.get_submodule(name).parameters())
    assert inside == sum(p.numel() for p in model.model.layers[1].parameters())
    attached = methods.attach(model, methods.find("layers"), 8, {"layers": 1})
    assert sum(p.numel() for p in attached.parameters() if p.requires_grad) == inside
    tokenizer = prepared_tokenizer(tiny)
    around = tokenizer.decode(template_tokens(model, None))
    assert "<end>" in around and "brogue" not in around
    assert template_tokens(model, ["aisle"]) == sorted(tokenizer.encode("aisle"))


def prepared_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_options_are_read_as_json_or_text_and_reach_pefts_configuration(tiny: Path) -> None:
    options = methods.read_options(["num_virtual_tokens=3", "prompt_tuning_init=RANDOM"])
    assert options == {"num_virtual_tokens": 3, "prompt_tuning_init": "RANDOM"}
    model = methods.attach(loaded(tiny), methods.find("prompt-tuning"), 8, options)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3 * 64
    with pytest.raises(BrogueError, match="--method-option wants NAME=VALUE, found 'layers'"):
        methods.read_options(["layers"])


def test_what_an_option_adds_to_lora_decides_how_it_is_served(base: BaseModel) -> None:
    for options, how in (({"lora_dropout": 0.1}, "native"), ({"use_dora": True}, "merged"), ({"bias": "all"}, "merged"),
                         ({"trainable_token_indices": [3]}, "merged")):  # fmt: skip
        assert served.check(base, "lora", 8, "sft", goes_on=False, max_rank=16, options=options) == how, options


def test_what_is_trained_is_float32_also_where_it_is_a_copy_of_a_smaller_base(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    for name in ("ln-tuning", "layers", "trainable-tokens", "lora"):
        bare = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
        model = methods.attach(bare, methods.find(name), 4)
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}, name


def test_a_checkpoint_of_p_tuning_brings_its_encoder_back_and_a_version_holds_vectors_only(
    tiny: Path, tmp_path: Path
) -> None:
    import torch

    from adapters.soft_prompts import ENCODER, save

    first = trained(tiny, "p-tuning", 8)
    first.save_pretrained(str(tmp_path / "checkpoint"))
    second = methods.attach(loaded(tiny), methods.find("p-tuning"), 8)
    second.load_adapter(str(tmp_path / "checkpoint"), "default", is_trainable=True)
    for name, weight in first.prompt_encoder.state_dict().items():
        torch.testing.assert_close(second.prompt_encoder.state_dict()[name], weight)
    torch.testing.assert_close(second.get_prompt(1), first.get_prompt(1))
    save(first, tmp_path / "version")
    assert (tmp_path / "checkpoint" / ENCODER).exists() and not (tmp_path / "version" / ENCODER).exists()


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("free", "line"),
    [
        (10**12, None),
        (2_000_000, "lora does not fit here: the nearest that does is --batch-size "),
        (900_000, "lora does not fit here: the nearest that does is --batch-size 1 --tokens "),
        (1_000, "lora does not fit here: 0.0 GiB are missing before the first row; close other programs or name"),
    ],
)
def test_a_plan_names_the_nearest_that_fits(
    brogue: Run, monkeypatch: pytest.MonkeyPatch, free: int, line: str | None
) -> None:
    monkeypatch.setattr("adapters.planning.free_bytes", lambda: free)
    done = brogue("plan", "--no-measure", "--tokens", "64", "--json")
    [one] = json.loads(done.stdout)["methods"]
    said = brogue("plan", "--no-measure", "--tokens", "64").stderr
    if line is None:
        assert one["largest_batch"] == 8 and "does not fit" not in said
    else:
        assert line in said, said


@pytest.mark.usefixtures("base")
def test_a_plan_says_which_serving_fits_and_passes_over_methods_for_other_families(
    brogue: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = brogue("plan", "--method", "all", "--no-measure", "--json")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    found = {one["method"]: one["served"] for one in planned["methods"]}
    assert set(found) == set(methods.METHODS) - {"adaption-prompt"}
    assert "'adaption-prompt' does not fit this base model" in done.stderr
    assert planned["serving"].startswith("fits, for conversations of up to 256 tokens")
    monkeypatch.setattr("serve.hardware.ENGINE_OVERHEAD_BYTES", 10**15)
    assert (
        "serving: does not fit; the nearest that does: a base model with at most 0.0 GiB"
        in brogue("plan", "--no-measure").stderr
    )
