"""A reward model's numbers have no scale of their own; PPO gives them that of the answers it begins with."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.ppo import PPOConfig
from adapters.ppo_job import SCALED_BY, scaled
from adapters.ppo_rollout import sample
from adapters.ppo_trainer import batch_of
from tests.test_adapters_ppo import Tiny, make_tiny

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = PPOConfig(batch_size=4, minibatch_size=2, max_new_tokens=6, rank=4, dtype="float32")


def lengths(_prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
    return [700 + 100.0 * len(answer) for answer in answers]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from transformers import LlamaForCausalLM

    return make_tiny(tmp_path_factory.mktemp("ppo") / "llama", LlamaForCausalLM)


def test_the_reference_answers_have_mean_0_and_variance_1_whatever_the_reward_models_numbers(
    tiny: Tiny, tmp_path: Path
) -> None:
    policy, before = tiny.policy(CONFIG), torch.get_rng_state()
    reward = scaled(lengths, policy, tiny.tokenizer, tiny.prompts, CONFIG, tmp_path)
    assert torch.equal(before, torch.get_rng_state())  # the run's own random numbers are left alone
    torch.manual_seed(CONFIG.seed)
    found: list[float] = []
    for number in range(SCALED_BY):
        asked = batch_of(tiny.prompts, number, CONFIG)
        found += reward([], sample(policy, tiny.tokenizer, asked).texts)
    assert statistics.fmean(found) == pytest.approx(0, abs=1e-9)
    assert statistics.pstdev(found) == pytest.approx(1)


def test_a_run_that_is_taken_up_again_keeps_its_scale(tiny: Tiny, tmp_path: Path) -> None:
    policy = tiny.policy(CONFIG)
    first = scaled(lengths, policy, tiny.tokenizer, tiny.prompts, CONFIG, tmp_path)
    with torch.no_grad():
        for weights in policy.weights().values():
            weights.add_(1.0)
    again = scaled(lengths, policy, tiny.tokenizer, tiny.prompts, CONFIG, tmp_path)
    assert again([], ["one", "three"]) == first([], ["one", "three"])


def test_a_reward_that_is_always_the_same_stays_finite(tiny: Tiny, tmp_path: Path) -> None:
    reward = scaled(lambda _, answers: [3.0] * len(answers), tiny.policy(CONFIG), tiny.tokenizer, tiny.prompts, CONFIG,
                    tmp_path)  # fmt: skip
    assert reward([], ["a", "b"]) == [0, 0]
