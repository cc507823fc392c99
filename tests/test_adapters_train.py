"""Every recipe, from the command, on a tiny model: what it learns, what it says, and that it can be taken up again."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters import runs
from adapters.registry import Registry, file_hashes
from data.home import Home, write_text
from tests.conftest import Run
from tests.tiny_models import make_model

pytestmark = pytest.mark.slow
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return make_model(
        tmp_path_factory.mktemp("models") / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is item {number}?"}]


def pair(number: int) -> dict[str, Any]:
    return {"messages": question(number), "chosen": f"Item {number} is in aisle 3.", "rejected": "What is aisle item?"}


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "instruction": lambda n: {"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."},
    "labelled": lambda n: {"text": f"What is item {n}?", "label": "item" if n % 2 else "aisle"},
    "preference": pair,
    "ranking": lambda n: {"messages": question(n), "replies": [f"Item {n}.", "What?", "aisle 1"], "ranks": [0, 1, 1]},
}
KINDS = {"sft": "instruction", "instruct": "instruction", "labelled": "labelled", "dpo": "preference",
         "kto": "preference", "reward": "preference"}  # fmt: skip


@pytest.fixture
def ready(home: Home, tiny: Path, brogue: Run, tmp_path: Path) -> Callable[..., None]:
    """Imports a dataset of a kind, named after it."""
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny}"')

    def make(kind: str, rows: int = 40) -> None:
        file = tmp_path / f"{kind}.jsonl"
        file.write_text("\n".join(json.dumps(ROWS[kind](n)) for n in range(rows)))
        done = brogue("data", "import", str(file), "--as", kind, "--into", kind)
        assert done.returncode == 0, done.stderr

    return make


def trained(brogue: Run, recipe: str, *more: str, data: str | None = None) -> dict[str, Any]:
    done = brogue("train", f"a-{recipe}", "--data", data or KINDS[recipe], "--recipe", recipe, *more, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("recipe", list(KINDS))
def test_a_recipe_lowers_the_held_out_loss_and_says_what_it_was(
    brogue: Run, ready: Callable[..., None], home: Home, recipe: str
) -> None:
    ready(KINDS[recipe])
    card = trained(brogue, recipe, "--epochs", "3")
    assert card["recipe"] == recipe
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    files = file_hashes(Registry(home).folder(f"a-{recipe}", 1))
    assert set(files) >= {"adapter_config.json", "adapter_model.safetensors"} and not any("ref" in f for f in files)
    if recipe in ("dpo", "reward"):
        assert card["scores"]["adapter_validation_accuracy"] == 1.0
        assert card["scores"]["adapter_validation_accuracy_low"] < 1
    if recipe == "dpo":
        assert card["scores"]["base_validation_loss"] == 0.6931, "the base is its own reference: ln 2"
    if recipe == "labelled":
        assert card["system_prompt"] == "Answer with the label of the text only. Labels: aisle, item."


def test_dpo_starts_from_a_version_and_stays_near_that_one(brogue: Run, ready: Callable[..., None]) -> None:
    ready("instruction")
    ready("preference")
    ready("ranking")
    trained(brogue, "sft", "--epochs", "1", "--rank", "4")
    card = trained(brogue, "dpo", "--from", "a-sft", "--epochs", "1")
    assert (card["rank"], card["config"]["start"]) == (4, "a-sft@1")
    assert card["scores"]["base_validation_loss"] == 0.6931, "the reference is the version that it starts from"
    card = trained(brogue, "dpo", "--from", "a-sft@1", "--epochs", "1", data="ranking")
    assert card["version"] == 2
    done = brogue("train", "b", "--data", "instruction", "--from", "nobody")
    assert done.returncode == 1 and "no adapter 'nobody'" in done.stderr


def test_a_reward_model_scores_answers_and_is_never_promoted(
    brogue: Run, ready: Callable[..., None], home: Home, tiny: Path
) -> None:
    ready("preference")
    card = trained(brogue, "reward", "--epochs", "3")
    registry = Registry(home)
    assert registry.aliases("a-reward") == {}, "the first version of a chat adapter would be stable"
    done = brogue("adapters", "promote", "a-reward@1")
    assert done.returncode == 1 and "a-reward@1 is a reward model: it scores answers and cannot chat" in done.stderr
    from adapters.base_model import prepare
    from adapters.reward_model import RewardModel

    model = RewardModel.load(registry, "a-reward@1", prepare(str(tiny), home, lambda _: None))
    prompts = [question(n) for n in (70, 71)]
    good = model.score(prompts, [f"Item {n} is in aisle 3." for n in (70, 71)])
    bad = model.score(prompts, ["What is aisle item?"] * 2)
    assert all(better > worse for better, worse in zip(good, bad, strict=True))
    alone = model.score(prompts[:1], ["Item 70 is in aisle 3."])
    assert alone[0] == pytest.approx(good[0], abs=0.02), "a longer neighbour in the batch changes nothing"
    assert card["scores"]["longer_validation_accuracy"] == 1.0


@pytest.mark.parametrize("recipe", ["sft", "dpo", "kto", "reward"])
def test_an_interrupted_training_ends_with_the_weights_of_one_that_was_not(
    brogue: Run, ready: Callable[..., None], home: Home, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters import trainer_watch

    ready(KINDS[recipe])
    words = ("--epochs", "3", "--seed", "5")
    whole = trained(brogue, recipe, *words)
    # The same training again, stopped by Ctrl-C in the middle of its second pass.
    reported = trainer_watch.Reporter.on_log

    def stop(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if state.global_step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        reported(self, args, state, control, logs, **more)

    with monkeypatch.context() as patched:
        patched.setattr(trainer_watch.Reporter, "on_log", stop)
        done = brogue("train", f"a-{recipe}", "--data", KINDS[recipe], "--recipe", recipe, *words)
    assert done.returncode == 1 and "a checkpoint is kept" in done.stderr
    [run] = [run for run in runs.all_runs(home) if run.state == "stopped"]
    done = brogue("runs", "resume", run.id, "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["version"] == 2
    assert card["files"]["adapter_model.safetensors"] == whole["files"]["adapter_model.safetensors"]
    assert card["scores"] == whole["scores"]
