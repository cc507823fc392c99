"""Losses on pairs without a reference against TRL's formulas, and on whole rankings against an independent count."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.trainer_odds import MeanTrainer, OddsTrainer
from adapters.trainer_rankings import RankTrainer, _Flat, plackett_luce
from data.home import Home, write_text
from tests.conftest import Run
from tests.tiny_models import ROWS, tiny_llama

pytestmark = pytest.mark.slow  # torch's and TRL's imports
CHOSEN, REJECTED = torch.tensor([-1.0, -0.2, -3.0]), torch.tensor([-2.0, -0.1, -0.5])


def test_orpos_odds_ratio_is_trls_and_the_better_answers_loss_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOTrainer

    trainer: Any = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    theirs = ORPOTrainer.odds_ratio_loss(trainer, CHOSEN, REJECTED)[0]  # beta · log sigmoid(log odds ratio)
    assert OddsTrainer.losses(trainer, CHOSEN, REJECTED) == pytest.approx(-CHOSEN - theirs)


def test_simpos_loss_is_trls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOTrainer

    trainer: Any = SimpleNamespace(beta=2.0, simpo_gamma=1.0, alpha=0.0, label_smoothing=0.0, loss_type="simpo",
                                   accelerator=SimpleNamespace(device="cpu"))  # fmt: skip
    theirs = CPOTrainer.cpo_loss(trainer, CHOSEN, REJECTED)[0]
    assert MeanTrainer.losses(trainer, CHOSEN, REJECTED) == pytest.approx(theirs)


def by_hand(scores: list[float], ranks: list[int]) -> float:
    """Minus the log-likelihood of the order, with loops over plain numbers."""
    total = 0.0
    for i, mine in enumerate(ranks):
        worse = [math.exp(scores[j]) for j, other in enumerate(ranks) if other > mine]
        if worse:
            total -= math.log(math.exp(scores[i]) / (math.exp(scores[i]) + sum(worse)))
    return total


def test_the_likelihood_of_an_order_is_plackett_and_luces() -> None:
    scores = [0.3, -1.2, 0.8, 0.1]
    chances = [
        math.exp(-float(plackett_luce(torch.tensor(scores), torch.tensor(order))))
        for order in itertools.permutations(range(4))
    ]
    assert sum(chances) == pytest.approx(1), "one of all orders is what happens"
    for ranks in ([0, 1, 2, 3], [2, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]):
        found = float(plackett_luce(torch.tensor(scores), torch.tensor(ranks)))
        assert found == pytest.approx(by_hand(scores, ranks), abs=1e-6)
    two = float(plackett_luce(torch.tensor([0.3, -1.2]), torch.tensor([0, 1])))
    assert two == pytest.approx(math.log1p(math.exp(-1.5))), "of two answers it is Bradley and Terry's"


def test_rankings_weigh_by_their_choices_and_their_raters() -> None:
    scores, ranks = [torch.tensor([0.5, 0.0]), torch.tensor([0.1, 0.7, -1.0])], [[0, 1], [1, 0, 2]]
    trainer: Any = SimpleNamespace(scores=lambda _model, _inputs: scores)
    inputs = {"ranks": torch.tensor([rank for one in ranks for rank in one]), "sizes": torch.tensor([2, 3]),
              "weight": torch.tensor([0.5, 1.5])}  # fmt: skip
    wanted = sum(
        weight * by_hand(some.tolist(), one) for weight, some, one in zip((0.5, 1.5), scores, ranks, strict=True)
    )
    assert float(RankTrainer.compute_loss(trainer, None, inputs)) == pytest.approx(wanted / (1 + 2), abs=1e-6)
    data: Any = [{"answers": [[5], [6], [7]], "ranks": [1, 0, 1], "group": 4}]
    pairs = RankTrainer.pairs(trainer, data)
    assert [(pair["chosen_ids"], pair["rejected_ids"], pair["group"]) for pair in pairs] == [
        ([6], [5], 4),
        ([6], [7], 4),
    ]


def test_each_answer_of_a_ranking_is_read_once_after_its_prompt() -> None:
    row = {"prompt_ids": [1, 2], "answers": [[5], [6, 7]], "ranks": [1, 0], "weight": 1.0}
    batch = _Flat(0)([row])
    assert batch["input_ids"].tolist() == [[1, 2, 5, 0], [1, 2, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_orpo_simpo_and_a_reward_model_learn_from_rankings(brogue: Run, home: Home, tmp_path: Path) -> None:
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny_llama(tmp_path)}"')
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(ROWS["ranking"](n)) for n in range(20)))
    done = brogue("data", "import", str(tmp_path / "r.jsonl"), "--as", "ranking", "--into", "ranked")
    assert done.returncode == 0, done.stderr
    for recipe in ("orpo", "simpo", "reward"):
        options = ("--recipe", recipe, "--epochs", "1", "--batch-size", "4", "--learning-rate", "0.01", "--json")
        done = brogue("train", f"a-{recipe}", "--data", "ranked", *options)
        assert done.returncode == 0, done.stderr
        card = json.loads(done.stdout)
        assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
        assert 0 <= card["scores"]["adapter_validation_accuracy"] <= 1
        assert card["config"]["listwise"] == (recipe == "reward")
