"""Nothing depends on the starter model: another family, made here with random weights, and models that cannot serve."""

import json
from pathlib import Path

import pytest

from adapters.base_model import load_tokenizer, prepare
from data.errors import BrogueError
from data.home import Home, write_text
from serve.model_check import check_servable
from tests.conftest import Run
from tests.fakes import add_assistant
from tests.tiny_models import make_model, make_tokenizer

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


def test_an_adapter_is_trained_on_another_family_with_the_prompt_in_the_question(
    brogue: Run, home: Home, qwen: Path, tmp_path: Path
) -> None:
    write_text(home.settings_file, f'base_model = "{qwen}"')
    add_assistant(home, "clerk", "adapter: clerk-voice\nsystem_prompt: Be short.")
    rows = [{"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."} for n in range(40)]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert (
        brogue("data", "import", str(tmp_path / "items.jsonl"), "--as", "instruction", "--into", "items").returncode
        == 0
    )
    done = brogue("train", "clerk-voice", "--data", "items", "--epochs", "3", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["base_model"] == "tiny-qwen"
    assert card["system_prompt"] == "Be short."
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    base = prepare(str(qwen), home, lambda _: None)
    assert base.supports_system is False


def test_vllm_says_yes_to_it_once_and_is_not_asked_again(
    home: Home, qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = prepare(str(qwen), home, lambda _: None)
    check_servable(base.path, base.sha256, "auto", home)
    monkeypatch.setattr("subprocess.run", lambda *_a, **_k: pytest.fail("vLLM was asked again"))
    check_servable(base.path, base.sha256, "auto", home)


def test_a_model_that_vllm_cannot_serve_is_one_line_with_its_reason(home: Home, tmp_path: Path) -> None:
    from transformers import BertModel

    folder = make_model(
        tmp_path / "bert", BertModel, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    base = prepare(str(folder), home, lambda _: None)
    with pytest.raises(BrogueError, match="vLLM cannot serve base model .*bert: .*; name another base_model") as error:
        check_servable(base.path, base.sha256, "auto", home)
    assert "\n" not in str(error.value)


def test_a_model_without_chat_template_is_one_line(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, None)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(BrogueError, match="has no chat template, so it cannot hold a conversation"):
        load_tokenizer(tmp_path)
