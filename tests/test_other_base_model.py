"""Nothing depends on the starter model: another family, made here with random weights, and models that cannot serve."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model import load_tokenizer, prepare
from adapters.registry import Registry
from adapters.validation import check_version
from data.errors import BrogueError
from data.home import Home, write_text
from serve.model_check import check_servable
from tests.conftest import Run
from tests.fakes import add_assistant
from tests.forked import Forked, save_often
from tests.tiny_models import ROWS, make_model, make_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 with random weights, biases in its attention and a template without system turn."""
    from transformers import Qwen2ForCausalLM

    return make_model(
        tmp_path_factory.mktemp("models") / "tiny-qwen", Qwen2ForCausalLM, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip


FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen3": {"tie_word_embeddings": False},
    "Gemma3": {"num_hidden_layers": 3, "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
               "sliding_window": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
    "Phi3": {"pad_token_id": 0, "tie_word_embeddings": False},
}  # fmt: skip


def tiny(family: str, folder: Path) -> Path:
    """A model of that family with random weights: norms on queries and keys, embeddings that are scaled, used twice
    or not, windows, layers that hold queries, keys and values in one."""
    import torch
    import transformers

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    if family != "Phi3":
        size["head_dim"] = 16
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")
    return make_model(folder / family.lower(), model, **(size | FAMILIES[family]))


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Forked:
    return Forked(tmp_path_factory.mktemp("forked"))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_another_family_is_trained_by_every_sort_of_recipe_and_the_engine_may_load_it(
    brogue: Run, home: Home, forked: Forked, family: str, tmp_path: Path
) -> None:
    model = tiny(family, tmp_path)
    write_text(home.settings_file, f'base_model = "{model}"')
    add_assistant(home, "clerk", "adapter: clerk-voice\nsystem_prompt: Be short.")
    for kind in ("instruction", "preference"):
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(json.dumps(ROWS[kind](n)) for n in range(40)))
        done = brogue("data", "import", str(tmp_path / f"{kind}.jsonl"), "--as", kind, "--into", kind)
        assert done.returncode == 0, done.stderr
    asked = [
        ("train", "clerk-voice", "--data", "instruction", "--epochs", "3"),
        ("train", "clerk-taste", "--data", "preference", "--recipe", "dpo", "--epochs", "1", "--assistant", "clerk"),
        ("train", "clerk-judge", "--data", "preference", "--recipe", "reward", "--epochs", "1"),
    ]
    begun = [forked.start((*words, "--json"), home, save_often) for words in asked]
    cards = [card_of(ended) for ended in begun]
    words = ("--recipe", "ppo", "--reward", "clerk-judge@1", "--rounds", "2", "--max-new-tokens", "4", "--json")
    cards.append(card_of(forked.start(("train", "clerk-ppo", "--data", "instruction", *words), home, save_often)))
    voice, taste, judge, ppo = cards
    assert (voice["base_model"], voice["system_prompt"]) == (family.lower(), "Be short.")
    assert voice["scores"]["adapter_validation_loss"] < voice["scores"]["base_validation_loss"]
    assert taste["scores"]["base_validation_loss"] == 0.6931, "the base model is its own reference"
    assert "adapter_validation_accuracy" in judge["scores"] and "adapter_validation_kl" in ppo["scores"]
    base, registry = prepare(str(model), home, lambda _: None), Registry(home)
    assert base.supports_system is False
    for card in (voice, taste, ppo):
        check_version(registry.card(card["adapter"], 1), registry.folder(card["adapter"], 1), base, 16, home.root)


def card_of(ended: Callable[[], Any]) -> dict[str, Any]:
    """What a training prints when it is done."""
    done = ended()
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def asked(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, BrogueError | None]]:
    """What vLLM said of the tiny Qwen and of a BERT; both are asked at the same time, for it takes long to import."""
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("asked")
    bert = make_model(
        folder / "bert", BertModel, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    home = Home(folder / "home")
    bases = {name: prepare(str(path), home, lambda _: None) for name, path in (("qwen", qwen), ("bert", bert))}
    with ThreadPoolExecutor() as pool:
        answers = {n: pool.submit(check_servable, b.path, b.sha256, "auto", home) for n, b in bases.items()}
    return home, {name: answer.exception() for name, answer in answers.items()}  # type: ignore[misc]


def test_vllm_says_yes_to_it_once_and_is_not_asked_again(
    asked: tuple[Home, dict[str, BrogueError | None]], qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, said = asked
    assert said["qwen"] is None
    base = prepare(str(qwen), home, lambda _: None)
    monkeypatch.setattr("subprocess.run", lambda *_a, **_k: pytest.fail("vLLM was asked again"))
    check_servable(base.path, base.sha256, "auto", home)


def test_a_model_that_vllm_cannot_serve_is_one_line_with_its_reason(
    asked: tuple[Home, dict[str, BrogueError | None]],
) -> None:
    error = asked[1]["bert"]
    assert isinstance(error, BrogueError)
    assert re.match("vLLM cannot serve base model .*bert: .*; name another base_model", str(error))
    assert "\n" not in str(error)


def test_a_model_without_chat_template_is_one_line(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, None)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(BrogueError, match="has no chat template, so it cannot hold a conversation"):
        load_tokenizer(tmp_path)
