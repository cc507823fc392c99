"""What PPO computes, on plain tensors: log-probabilities, rewards, advantages, the two losses and the KL coefficient.

All are of shape [answers, tokens] unless said; `mask` is 1 where a token belongs to the answer (its end token included)
and answers begin at column 0. No model and no state but the coefficient's. Each is checked against a loop-by-loop
reference in tests/test_adapters_ppo_losses.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Log-probability (nats) of each token [B, T] under softmax(logits / temperature); logits [B, T, V], any dtype."""
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(scaled, dim=-1)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy (nats) of each position's distribution [B, T]; logits [B, T, V]."""
    logs = torch.log_softmax(logits.float() / temperature, dim=-1)
    return -(logs.exp() * logs).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked positions, a scalar; 0 where there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with mean 0 and variance 1 over the masked positions, 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def token_rewards(scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Each token's reward: -kl_coef (log pi - log ref), and the answer's score [B] on its last token.

    Source: Ziegler et al. (2019), "Fine-Tuning Language Models from Human Preferences", eq. 2; Ouyang et al. (2022).
    """
    rewards = -kl_coef * (logprobs - reference) * mask
    last = mask.sum(1).long().clamp(min=1) - 1
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """(advantages, returns), 0 outside the mask; an answer's end is the end of its episode, cut off or not.

    Source: Schulman et al. (2016), "High-Dimensional Continuous Control Using Generalized Advantage Estimation".
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        next_value = values[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(following)
        error = rewards[:, t] + gamma * next_value - values[:, t]
        following = (error + gamma * lam * following) * mask[:, t]
        advantages[:, t] = following
    return advantages, (advantages + values) * mask


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """(clipped surrogate loss, share of tokens that were clipped), scalars; new and old are log-probabilities.

    Source: Schulman et al. (2017), "Proximal Policy Optimization Algorithms", eq. 7.
    """
    ratio = torch.exp((new - old) * mask)
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.maximum(free, clipped), mask), masked_mean((clipped > free).float(), mask).detach()


def value_loss(new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the mean squared error to the returns, the worse of the value and the value held within `clip` of `old`.

    Source: the value clipping of Schulman's implementation (OpenAI baselines, ppo2), as used by Ziegler et al. (2019).
    """
    held = old + (new - old).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((new - returns) ** 2, (held - returns) ** 2), mask)


def step_kl(new: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """How far one update moved the policy: mean of (r - 1) - log r per token, never negative, in nats.

    Source: Schulman (2020), "Approximating KL Divergence", the estimator k3, for samples of the old policy.
    """
    log_ratio = (new - old) * mask
    return masked_mean(torch.exp(log_ratio) - 1 - log_ratio, mask)


def answer_kl(logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """KL(pi || ref) per whole answer, in nats: the mean over answers of the summed log ratios (unbiased on samples)."""
    return ((logprobs - reference) * mask).sum(1).mean()


@dataclass
class AdaptiveKL:
    """The KL penalty's coefficient, steered so that the KL per answer comes to `target` nats.

    Source: Ziegler et al. (2019), section 2.2: a proportional controller in log space, its error held within 20%. Their
    gain is 0.1, for runs of thousands of rounds; ours rise faster (`rise`), since a run of some dozens must be held at
    once. They fall at the slow gain: early on the KL is low because the policy has not moved yet, not because it is
    held too tightly, and a coefficient lowered for that lets it overshoot.
    """

    coef: float
    target: float
    rise: float
    fall: float

    def update(self, kl: float) -> None:
        """Take in the KL of the round that has just been sampled."""
        error = min(0.2, max(-0.2, kl / self.target - 1))
        self.coef *= 1 + (self.rise if error > 0 else self.fall) * error
