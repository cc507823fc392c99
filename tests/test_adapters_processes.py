"""Several processes that train together (`accelerate launch`), here two on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import processes, runs
from adapters.registry import Registry
from data.errors import BrogueError
from data.home import Home, write_text
from tests.conftest import ROOT, Run, free_port
from tests.tiny_models import make_model

pytestmark = pytest.mark.slow


def launched(home: Home, *words: str) -> "subprocess.CompletedProcess[str]":
    """`brogue WORDS` in two processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port",
               str(free_port()), "--num_cpu_threads_per_process", "1", "-m", "assistant.cli", *words]  # fmt: skip
    env = os.environ | {"BROGUE_HOME": str(home.root), "HF_HOME": str(home.root / "hf")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)


@pytest.fixture
def ready(home: Home, brogue: Run, tmp_path: Path) -> Home:
    """A tiny base model and 40 answers under the name `items`."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    folder = make_model(
        tmp_path / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    home.create()
    write_text(home.settings_file, f'base_model = "{folder}"')
    rows = [{"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."} for n in range(40)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = brogue("data", "import", str(tmp_path / "items.jsonl"), "--as", "instruction", "--into", "items")
    assert done.returncode == 0, done.stderr
    return home


def test_two_processes_train_one_version_and_one_of_them_speaks(ready: Home, brogue: Run) -> None:
    done = launched(ready, "train", "together", "--data", "items", "--epochs", "2", "--json")
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    alone = json.loads(brogue("train", "alone", "--data", "items", "--epochs", "2", "--json").stdout)
    assert done.stderr.count("measuring the base model") == 1
    assert Registry(ready).versions("together") == [1]
    assert (ready.logs / "train-process-1.log").read_text().count("measuring the base model") == 1
    run = next(run for run in runs.all_runs(ready) if run.version == "together@1")
    other = next(run for run in runs.all_runs(ready) if run.version == "alone@1")
    assert run.steps == other.steps, "a step takes as many rows, however many share them"
    steps = [line["step"] for line in map(json.loads, (ready.runs / run.id / "metrics.jsonl").open()) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1)), "each step is written once"
    for split in ("validation", "test"):
        ours, theirs = (card["scores"][f"adapter_{split}_loss"] for card in (together, alone))
        assert ours == pytest.approx(theirs, rel=0.1) and ours < together["scores"][f"base_{split}_loss"]


@pytest.mark.parametrize(
    ("recipe", "batch_size", "environment", "wanted"),
    [
        ("ppo", 8, {}, "recipe 'ppo' trains in one process, and 2 processes were started"),
        ("sft", 7, {}, "--batch-size 7 cannot be shared out among them; give a multiple of 2"),
        ("sft", 8, {"ACCELERATE_USE_FSDP": "true"}, r"shares the weights out \(FSDP\)"),
    ],
)
def test_what_several_processes_cannot_train_is_one_line(
    monkeypatch: pytest.MonkeyPatch, recipe: str, batch_size: int, environment: dict[str, str], wanted: str
) -> None:
    for name, value in ({"WORLD_SIZE": "2"} | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BrogueError, match=wanted):
        processes.check(recipe, False, batch_size)
