"""The benchmark of training runs with any base model and says what it says; no time is asserted."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import training
from data.home import Home, write_text
from tests.tiny_models import make_model

pytestmark = pytest.mark.slow


def test_both_sides_train_the_same_rows_and_are_measured_in_one_way(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    tiny = make_model(
        tmp_path / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny}"')
    file = tmp_path / "Items_A.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(
            [("q", "a"), *((f"What is item {n}?", f"Item {n} is in aisle 3.") for n in range(60))]
        )
    data = training.import_rows(file, 40, "q", "a")
    assert data == "items-a-40" and training.import_rows(file, 40, "q", "a") == data

    lines = training.compare(data, 1, 1, lambda name, asked: training.PARTS[name](asked))
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"data"')]
    assert [line["side"] for line in lines] == [line["side"] for line in printed] == ["trl", "brogue"]
    trl, ours = lines
    assert trl["tokens_per_s"] / trl["answer_tokens_per_s"] == pytest.approx(
        ours["tokens_per_s"] / ours["answer_tokens_per_s"], rel=0.02
    )
    assert all(line["train_s"] > 0 and line["train_cpu_s"] > 0 and line["peak_mib"] > 100 for line in lines)
    assert trl["validation_loss"] == pytest.approx(ours["validation_loss"], rel=0.2), "they learn about the same"
    table = training.table(lines)
    assert "| tokens/cpu s |" in table and "| items-a-40 | brogue / trl |" in table
