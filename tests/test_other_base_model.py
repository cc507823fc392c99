"""Nothing depends on the starter model: another family, made here with random weights, and models that cannot serve."""

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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


def import_items(brogue: Run, tmp_path: Path, count: int) -> None:
    rows = [{"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."} for n in range(count)]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    done = brogue("data", "import", str(path), "--as", "instruction", "--into", "items")
    assert done.returncode == 0, done.stderr


def test_an_adapter_is_trained_on_another_family_with_the_prompt_in_the_question(
    brogue: Run, home: Home, qwen: Path, tmp_path: Path
) -> None:
    write_text(home.settings_file, f'base_model = "{qwen}"')
    add_assistant(home, "clerk", "adapter: clerk-voice\nsystem_prompt: Be short.")
    import_items(brogue, tmp_path, 40)
    done = brogue("train", "clerk-voice", "--data", "items", "--epochs", "3", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["base_model"] == "tiny-qwen"
    assert card["system_prompt"] == "Be short."
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    base = prepare(str(qwen), home, lambda _: None)
    assert base.supports_system is False


def test_training_that_is_interrupted_goes_on_from_its_checkpoint(
    brogue: Run, home: Home, qwen: Path, tmp_path: Path
) -> None:
    write_text(home.settings_file, f'base_model = "{qwen}"')
    import_items(brogue, tmp_path, 200)
    words = ["train", "pairs-voice", "--data", "items", "--epochs", "3"]
    process = subprocess.Popen([sys.executable, "-m", "assistant.cli", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        if "step 1/" in line:
            process.send_signal(signal.SIGINT)
        lines.append(line)
    assert process.wait(timeout=120) == 1, lines
    assert "a checkpoint is kept" in lines[-1]
    assert not list(home.adapters.glob("*/1")), "no half-trained version is there"
    done = brogue(*words)
    assert done.returncode == 0, done.stderr
    assert "step 1/" not in done.stderr, "it did not begin again"
    assert "pairs-voice@1" in done.stdout


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
