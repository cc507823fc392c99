"""Each piece of PPO against a plain loop over lists of numbers, written from the papers' equations."""

import math
import random

import pytest
import torch

from adapters import ppo_losses as ppo

LENGTHS = (5, 1, 3)  # tokens of the three answers, of at most 5
WIDTH = 5


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.tensor([[float(t < length) for t in range(WIDTH)] for length in LENGTHS])


def numbers(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(len(LENGTHS), WIDTH)


def close(found: torch.Tensor, wanted: list[list[float]] | list[float] | float) -> bool:
    return torch.allclose(found.double(), torch.tensor(wanted, dtype=torch.double), atol=1e-5)


def test_log_probabilities_and_entropy_are_those_of_the_softmax_at_the_temperature() -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 3, 7) * 4, torch.randint(0, 7, (2, 3))
    wanted, entropies = [], []
    for row, chosen in zip(logits.tolist(), tokens.tolist(), strict=True):
        softmaxes = [[math.exp(x / 0.7) / sum(math.exp(y / 0.7) for y in line) for x in line] for line in row]
        wanted.append([math.log(p[c]) for p, c in zip(softmaxes, chosen, strict=True)])
        entropies.append([-sum(x * math.log(x) for x in p) for p in softmaxes])
    assert close(ppo.token_logprobs(logits, tokens, 0.7), wanted)
    assert close(ppo.entropy(logits, 0.7), entropies)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits = torch.full((1, 1, 50_000), 3.0, dtype=torch.bfloat16)
    assert close(ppo.token_logprobs(logits, torch.tensor([[7]]), 1.0), [[-math.log(50_000)]])


def test_advantages_and_returns_are_the_papers_sums(mask: torch.Tensor) -> None:
    rewards, values, gamma, lam = numbers(1), numbers(2), 0.9, 0.8
    advantages, returns = ppo.gae(rewards, values, mask, gamma, lam)
    for i, length in enumerate(LENGTHS):
        v = [*values[i, :length].tolist(), 0.0]
        errors = [float(rewards[i, t]) + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            wanted = sum((gamma * lam) ** k * errors[t + k] for k in range(length - t))
            assert float(advantages[i, t]) == pytest.approx(wanted, abs=1e-5)
            assert float(returns[i, t]) == pytest.approx(wanted + v[t], abs=1e-5)
    assert not (advantages * (1 - mask)).any() and not (returns * (1 - mask)).any()


def test_with_lambda_one_the_return_is_the_discounted_sum_of_what_comes(mask: torch.Tensor) -> None:
    rewards = numbers(3)
    _, returns = ppo.gae(rewards, numbers(4), mask, 0.95, 1.0)
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            wanted = sum(0.95 ** (k - t) * float(rewards[i, k]) for k in range(t, length))
            assert float(returns[i, t]) == pytest.approx(wanted, abs=1e-5)


def test_what_stands_behind_an_answers_end_changes_nothing(mask: torch.Tensor) -> None:
    junk = 1e3 * (1 - mask)
    one, other = numbers(5), numbers(6)
    for first, second in zip(
        ppo.gae(one * mask, other, mask, 0.9, 0.8), ppo.gae(one * mask, other + junk, mask, 0.9, 0.8), strict=True
    ):
        assert torch.equal(first, second)
    assert torch.allclose(ppo.whiten(one, mask), ppo.whiten(one + junk, mask), atol=1e-5)
    assert ppo.answer_kl(one, other, mask) == ppo.answer_kl(one + junk, other, mask)
    assert ppo.step_kl(one, other, mask) == ppo.step_kl(one + junk, other, mask)
    assert ppo.policy_loss(one, other, other * mask, mask, 0.2) == ppo.policy_loss(
        one + junk, other, other * mask, mask, 0.2
    )


def test_whitened_values_have_mean_zero_and_variance_one_over_the_answers_tokens(mask: torch.Tensor) -> None:
    found = ppo.whiten(numbers(7) * 3 + 5, mask)
    kept = [float(found[i, t]) for i, length in enumerate(LENGTHS) for t in range(length)]
    assert sum(kept) / len(kept) == pytest.approx(0, abs=1e-5)
    assert sum(x * x for x in kept) / len(kept) == pytest.approx(1, abs=1e-4)


def test_each_token_pays_for_its_kl_and_the_last_one_gets_the_score(mask: torch.Tensor) -> None:
    logprobs, reference, scores = numbers(8), numbers(9), torch.tensor([1.0, -2.0, 0.5])
    found = ppo.token_rewards(scores, logprobs, reference, mask, 0.3)
    wanted = [[0.0] * WIDTH for _ in LENGTHS]
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            wanted[i][t] = -0.3 * float(logprobs[i, t] - reference[i, t])
        wanted[i][length - 1] += float(scores[i])
    assert close(found, wanted)


def test_the_policy_loss_is_the_clipped_surrogate(mask: torch.Tensor) -> None:
    old, advantages = numbers(10), numbers(11)
    new = old + 0.5 * numbers(12)
    losses, clipped = [], 0
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            ratio = math.exp(float(new[i, t] - old[i, t]))
            free, held = ratio * float(advantages[i, t]), min(1.2, max(0.8, ratio)) * float(advantages[i, t])
            losses.append(-min(free, held))
            clipped += held < free
    loss, share = ppo.policy_loss(new, old, advantages, mask, 0.2)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert float(share) == pytest.approx(clipped / len(losses))
    assert clipped  # the case is one where clipping acts


def test_a_token_that_has_moved_far_enough_gets_no_gradient() -> None:
    """Good tokens stop at 1 + clip, bad ones at 1 - clip; those that moved the wrong way are still corrected."""
    old, mask = torch.zeros(1, 4), torch.ones(1, 4)
    new = torch.tensor([[0.5, -0.5, -0.5, 0.5]], requires_grad=True)
    ppo.policy_loss(new, old, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), mask, 0.2)[0].backward()
    assert [bool(g) for g in new.grad[0]] == [False, False, True, True]


def test_the_value_loss_is_the_worse_of_the_two_squares(mask: torch.Tensor) -> None:
    old, returns = numbers(13), numbers(14)
    new = old + 0.5 * numbers(15)
    losses = []
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            v, o, r = float(new[i, t]), float(old[i, t]), float(returns[i, t])
            losses.append(max((v - r) ** 2, (o + min(0.2, max(-0.2, v - o)) - r) ** 2) / 2)
    assert float(ppo.value_loss(new, old, returns, mask, 0.2)) == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_the_kl_per_answer_is_near_the_true_one_on_many_samples() -> None:
    """Two distributions over 4 tokens; 20,000 answers of 3 tokens: the estimate lies within 4 standard errors."""
    generator = random.Random(0)
    p, q = [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]
    true = 3 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    drawn = torch.tensor([generator.choices(range(4), p, k=3) for _ in range(20_000)])
    new, reference = torch.tensor(p).log()[drawn], torch.tensor(q).log()[drawn]
    error = float((new - reference).sum(1).std()) / math.sqrt(20_000)
    assert abs(float(ppo.answer_kl(new, reference, torch.ones(20_000, 3))) - true) < 4 * error


def test_the_step_kl_is_zero_without_a_step_and_never_negative(mask: torch.Tensor) -> None:
    old = numbers(16)
    assert float(ppo.step_kl(old, old, mask)) == 0
    wanted = [
        math.exp(x) - 1 - x
        for i, length in enumerate(LENGTHS)
        for x in (float(numbers(17)[i, t] - old[i, t]) for t in range(length))
    ]
    assert float(ppo.step_kl(numbers(17), old, mask)) == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    assert min(wanted) >= 0


def test_the_coefficient_follows_zieglers_controller() -> None:
    control = ppo.AdaptiveKL(coef=0.2, target=6.0, rise=0.1, fall=0.1)
    control.update(6.0)
    assert control.coef == 0.2
    control.update(6.6)  # 10% over
    assert control.coef == pytest.approx(0.2 * 1.01)
    control.update(600.0)  # the error counts as 20% at most
    assert control.coef == pytest.approx(0.2 * 1.01 * 1.02)
    control.update(-1.0)
    assert control.coef == pytest.approx(0.2 * 1.01 * 1.02 * 0.98)


def test_the_coefficient_steers_a_made_up_policy_to_its_target() -> None:
    """A policy whose KL is 2 / coefficient, with noise: the KL comes to the target and stays within 20% of it."""
    generator, control, seen = random.Random(1), ppo.AdaptiveKL(coef=1.0, target=6.0, rise=1.0, fall=0.1), []
    for _ in range(150):
        seen.append(2 / control.coef)
        control.update(seen[-1] * generator.uniform(0.8, 1.2))
    assert all(4.8 < kl < 7.2 for kl in seen[75:])
