"""`brogue train --recipe ppo`, from the command, on a tiny model: reward model first, then the policy."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters import runs
from adapters.lineage import lineage
from adapters.registry import Registry, file_hashes
from data.home import Home, write_text
from tests.conftest import Run
from tests.tiny_models import make_model

pytestmark = pytest.mark.slow
PPO = ("--recipe", "ppo", "--data", "pairs")


@pytest.fixture
def ready(home: Home, brogue: Run, tmp_path: Path) -> Home:
    """A tiny base model, and 40 pairs of answers under the name `pairs`."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    folder = make_model(
        tmp_path / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    home.create()
    write_text(home.settings_file, f'base_model = "{folder}"')
    rows = [
        {"messages": [{"role": "user", "content": f"What is item {n}?"}], "chosen": f"Item {n}.", "rejected": "What?"}
        for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = brogue("data", "import", str(tmp_path / "pairs.jsonl"), "--as", "preference", "--into", "pairs")
    assert done.returncode == 0, done.stderr
    return home


def trained(brogue: Run, *words: str) -> dict[str, Any]:
    done = brogue("train", *words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_policy_learns_from_a_reward_model_and_becomes_a_version_that_can_be_gone_on_from(
    brogue: Run, ready: Home
) -> None:
    trained(brogue, "taste", "--recipe", "reward", "--data", "pairs", "--epochs", "1")
    card = trained(brogue, "voice", *PPO, "--reward", "taste@1", "--rounds", "2", "--batch-size", "4")
    assert card["recipe"] == "ppo" and card["config"]["reward"] == "taste@1"
    assert {"base_validation_reward", "adapter_validation_reward", "adapter_validation_kl"} <= set(card["scores"])
    registry = Registry(ready)
    assert set(file_hashes(registry.folder("voice", 1))) >= {"adapter_config.json", "adapter_model.safetensors"}
    learnt = lineage(registry, "voice", 1)
    assert learnt and len(learnt.records) > 20
    [run] = [run for run in runs.all_runs(ready) if run.recipe == "ppo"]
    assert (run.state, run.step, run.steps, run.version) == ("done", 2, 2, "voice@1")
    again = brogue(
        "train", "voice", *PPO, "--reward", "taste@1", "--from", "voice@1", "--rounds", "1", "--batch-size", "4"
    )
    assert again.returncode == 0, again.stderr
    assert "validation reward" in again.stdout and "voice@2" in again.stdout
    wild = ("--learning-rate", "0.3", "--kl-target", "0.01", "--rounds", "9", "--batch-size", "4")
    done = brogue("train", "wild", *PPO, "--reward", "taste@1", *wild)
    assert done.returncode == 1 and "nats per answer from where it began" in done.stderr.splitlines()[-1], done.stderr
    [run] = [run for run in runs.all_runs(ready) if run.asked.adapter == "wild"]
    assert run.state == "failed" and "has strayed" in str(run.reason), "brogue runs says why"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ((*PPO,), "learns from a reward model: --recipe ppo --reward NAME@N"),
        ((*PPO, "--reward", "nobody"), "nobody"),
        (
            ("--recipe", "dpo", "--data", "pairs", "--reward", "voice"),
            "recipe 'dpo' has no use for --reward; leave it away, or give --recipe ppo or rloo or grpo",
        ),
        ((*PPO, "--reward", "voice"), "voice@1 is no reward model (recipe dpo)"),
    ],
)
def test_what_cannot_be_trained_with_ppo_is_one_line(
    brogue: Run, ready: Home, more: tuple[str, ...], wanted: str
) -> None:
    if "voice" in more:
        trained(brogue, "voice", "--recipe", "dpo", "--data", "pairs", "--epochs", "1")
    before = list(ready.runs.glob("*"))
    done = brogue("train", "other", *more)
    assert done.returncode == 1, done.stderr
    assert wanted in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr and list(ready.runs.glob("*")) == before
