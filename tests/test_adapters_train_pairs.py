"""Losses on pairs and thumbs against TRL's own, their weights, and figures on held-out pairs against known ones."""

import math
from pathlib import Path
from typing import Any

import pytest

from adapters.examples import Encoder
from adapters.held_out import accuracy, calibration_error, pair_scores, wilson
from adapters.recipes import find
from data.dataset import Row
from data.records import Message, PreferenceRecord, RankingRecord, RatedRecord
from tests.fakes import CharTokenizer
from tests.tiny_models import make_model


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I: 81/263 and 15/148 by Wilson's score method.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20)[0] == 0.0


def test_a_confidence_that_is_as_often_right_as_it_says_has_no_error() -> None:
    sure = math.log(3)  # 75%
    assert calibration_error([sure, sure, sure, -sure]) == pytest.approx(0)
    assert calibration_error([sure] * 4) == pytest.approx(0.25)
    assert calibration_error([1000.0]) == pytest.approx(0)


def test_a_ranking_counts_once_however_many_pairs_it_gives() -> None:
    rate, _, _ = accuracy([1, 1, -1, 2.0], [0, 0, 0, 1])
    assert rate == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy([0.0], [0])[0] == 0.5, "no difference is a guess"
    pairs = [{"group": n, "chosen_ids": [1] * (3 - n), "rejected_ids": [1, 1]} for n in (0, 1, 2)]
    scores = pair_scores("test", "adapter", [1.0, 1.0, 1.0], pairs)
    assert scores["longer_test_accuracy"] == 0.5 and scores["adapter_test_accuracy"] == 1.0
    assert scores["adapter_test_loss"] == pytest.approx(math.log1p(math.exp(-1)), abs=1e-4)


def rows_of(*records: Any, weights: tuple[float, ...] = ()) -> list[Row]:
    return [Row(id=f"{n:012}", split="train", record=r, weight=w)
            for n, (r, w) in enumerate(zip(records, weights or (1.0,) * len(records), strict=True))]  # fmt: skip


def encoded(recipe: str, rows: list[Row], said: list[str] | None = None, end: str = "$") -> list[Any]:
    lines: list[str] = [] if said is None else said
    base: Any = type("Base", (), {"supports_system": True})()
    tokenizer: Any = CharTokenizer()
    tokenizer.eos_token_id, tokenizer.all_special_ids = ord(end), [ord(end)]
    encoder = Encoder(find(recipe), tokenizer, base, "Be kind.", 100, lines.append)
    return [example for _, example in encoder.split("train", rows)]


ASKED = (Message(role="user", content="Hi"),)
PAIR = PreferenceRecord(messages=ASKED, chosen="Yes", rejected="Nope")
RANKING = RankingRecord(messages=ASKED, replies=("a", "b", "c", "d"), ranks=(0, 1, 1, 2))


def test_weights_of_raters_and_of_rankings_reach_the_pairs_with_a_mean_of_one() -> None:
    pairs = encoded("dpo", rows_of(PAIR, RANKING, weights=(2.0, 1.0)))
    assert len(pairs) == 1 + 5, "two of the four are tied"
    assert sum(pair["weight"] for pair in pairs) / len(pairs) == pytest.approx(1)
    assert pairs[0]["weight"] / pairs[1]["weight"] == pytest.approx(2.0 / 0.5), "a pair of four answers weighs 2/4"
    assert [pair["group"] for pair in pairs] == [0, 1, 1, 1, 1, 1]
    assert "".join(map(chr, pairs[0]["prompt_ids"])) == "<s>Be kind.$\n<u>Hi$\n<a>"
    assert pairs[0]["length"] == len(pairs[0]["prompt_ids"]) + len("Nope$")


def test_of_a_ranking_the_best_answer_was_good_and_the_worst_one_bad() -> None:
    thumbs = encoded("kto", rows_of(RANKING))
    assert [("".join(map(chr, t["completion_ids"])), t["label"]) for t in thumbs] == [("a$", True), ("d$", False)]


def test_records_that_teach_nothing_and_answers_without_an_end_are_said() -> None:
    said: list[str] = []
    tie = PreferenceRecord(messages=ASKED, chosen="a", rejected="b", tie=True)
    long = PreferenceRecord(messages=ASKED, chosen="a" * 200, rejected="b")
    assert len(encoded("dpo", rows_of(PAIR, tie, long), said, end="#")) == 1
    assert said[0] == "train: 1 of 3 records hold only ties or equal answers; nothing is learnt there"
    assert said[1].startswith(
        "train: 1 of 2 pairs are left out, as they are longer than 100 tokens (--max-tokens; the "
    )
    assert "closes an answer without an end token" in said[2]


def test_good_and_bad_answers_weigh_the_same_together() -> None:
    said = [(*ASKED, Message(role="assistant", content=text)) for text in "abcd"]
    thumbs = encoded("kto", rows_of(*(RatedRecord(messages=m, good=n > 0) for n, m in enumerate(said))))
    assert [t["label"] for t in thumbs] == [False, True, True, True]
    assert [t["weight"] for t in thumbs] == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return make_model(tmp_path_factory.mktemp("models") / "tiny", LlamaForCausalLM, hidden_size=16, num_hidden_layers=1,
                      intermediate_size=32, num_attention_heads=2, num_key_value_heads=2)  # fmt: skip


def built(recipe: str, base: Path, tmp_path: Path, rows: list[Any]) -> Any:
    """A trainer whose adapter is no longer what it began as, so that there is a difference to measure."""
    import torch
    from transformers import AutoTokenizer

    from adapters.train import TrainConfig
    from adapters.trainer import load_model
    from adapters.trainer_pairs import build_pairs

    config = TrainConfig.model_validate({"recipe": recipe, "batch_size": 3, "epochs": 1, "learning_rate": 1e-3})
    model, lora = load_model(str(base), config, None)
    trainer = build_pairs(model, lora, AutoTokenizer.from_pretrained(base), rows, None, config, tmp_path / "run")
    for name, weights in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    return trainer


def ids(*numbers: int) -> list[int]:
    return [5 + number for number in numbers]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dpo", "kto"])
def test_the_loss_is_trls_own_where_all_weigh_the_same(base: Path, tmp_path: Path, recipe: str) -> None:
    import torch

    prompts = (ids(1, 2), ids(3), ids(4, 5, 6))
    rows: list[Any] = [
        {"prompt_ids": prompt, "chosen_ids": ids(7, n), "rejected_ids": ids(8, n, 9), "completion_ids": ids(7, n),
         "label": n != 1, "weight": 1.0, "length": 6, "group": n}
        for n, prompt in enumerate(prompts)
    ]  # fmt: skip
    trainer = built(recipe, base, tmp_path, rows)
    batch = trainer.data_collator(rows)
    theirs = {name: value for name, value in batch.items() if name != "weight"}
    trainer.model.train()
    with torch.no_grad():
        ours = trainer.compute_loss(trainer.model, batch)
        assert float(ours) == pytest.approx(float(trainer._compute_loss(trainer.model, theirs, False)), rel=2e-3)
        single = [trainer.compute_loss(trainer.model, batch | {"weight": torch.eye(3)[n] * 3}) for n in range(3)]
        assert float(sum(single)) / 3 == pytest.approx(float(ours), rel=1e-3)
        doubled = trainer.compute_loss(trainer.model, batch | {"weight": torch.tensor([2.0, 1.0, 0.0])})
        assert float(doubled) == pytest.approx(float(2 * single[0] + single[1]) / 3, rel=1e-3)


@pytest.mark.slow
def test_the_plain_and_the_chunked_log_probabilities_are_the_same(base: Path, tmp_path: Path) -> None:
    import torch

    from adapters.trainer_pairs import answer_log_probs

    rows = [{"prompt_ids": ids(1, 2), "chosen_ids": ids(7), "rejected_ids": ids(8, 9), "weight": 1.0, "length": 4}] * 2
    trainer = built("dpo", base, tmp_path, rows)
    batch = trainer.data_collator(rows)
    with torch.no_grad():
        plain, chunked = (answer_log_probs(trainer.model, batch, fused=fused) for fused in (False, True))
    assert plain.tolist() == pytest.approx(chunked.tolist(), rel=1e-2)
