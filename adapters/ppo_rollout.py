"""One round's answers: sampled from the policy, scored, and turned into what the update needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters import ppo_losses as losses
from adapters.padding import padded
from adapters.ppo import Measured, PPOConfig, Prompt, Reward, repeated_share, rewards_of
from adapters.ppo_policy import Policy
from adapters.progress import Tell, measuring, silent


@dataclass(frozen=True)
class Rollout:
    """B answers. P is the longest prompt, T the longest answer, in tokens; prompts are padded left, answers right."""

    tokens: Tensor  # [B, P + T]
    attention: Tensor  # [B, P + T], 1 for prompts and answers, 0 for padding
    mask: Tensor  # [B, T], 1 for an answer's tokens, its end token included
    texts: list[str]
    ended: list[bool]  # with an end token, not cut
    repeated: list[float]  # share of 4-token sequences that repeat

    @property
    def answer(self) -> int:
        """T."""
        return int(self.mask.shape[1])

    @property
    def answers(self) -> Tensor:
        """The answers' tokens [B, T]."""
        return self.tokens[:, -self.answer :]


@dataclass(frozen=True)
class Evaluated:
    """A rollout under the policy that sampled it; all [B, T], without gradients."""

    logprobs: Tensor
    reference: Tensor
    values: Tensor
    entropy: Tensor


def sample(
    policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], written: Sequence[Sequence[int]] | None = None
) -> Rollout:
    """One answer to each prompt, at the configured temperature; `written` are answers that the policy gave elsewhere.

    Those are token ids, each with the token that ended it.
    """
    tokens, attention = padded([p.ids for p in prompts], policy.pad_id, left=True)
    if written is None:
        answers = policy.generate(tokens.to(policy.device), attention.to(policy.device)).cpu()
    else:  # what follows an answer's end is padding, whatever it is
        width, end = max(map(len, written)), policy.end_ids[0]
        answers = torch.tensor([[*answer, *[end] * (width - len(answer))] for answer in written])
    return make_rollout(tokens, attention, answers, policy.end_ids, tokenizer, policy.device)


def make_rollout(
    tokens: Tensor, attention: Tensor, answers: Tensor, end_ids: list[int], tokenizer: Any, device: Any
) -> Rollout:
    """The rollout of prompts [B, P] and answers [B, T]; whatever follows an answer's first end token is padding."""
    is_end = torch.isin(answers, torch.tensor(end_ids)).long()
    mask = is_end.cumsum(1) - is_end == 0
    kept = [row[m].tolist() for row, m in zip(answers, mask, strict=True)]
    bare = [[token for token in row if token not in end_ids] for row in kept]
    return Rollout(
        tokens=torch.cat([tokens, answers], 1).to(device),
        attention=torch.cat([attention, mask.long()], 1).to(device),
        mask=mask.float().to(device),
        texts=[tokenizer.decode(row, skip_special_tokens=True).strip() for row in bare],
        ended=[bool(row.any()) for row in is_end],
        repeated=[repeated_share(row) for row in bare],
    )


def penalised(rewards: Sequence[float], rollout: Rollout, config: PPOConfig) -> list[float]:
    """Rewards less what answers lose for having been cut and for repeating themselves."""
    return [
        reward - config.unended_penalty * (not ended) - config.repetition_penalty * repeated
        for reward, ended, repeated in zip(rewards, rollout.ended, rollout.repeated, strict=True)
    ]


def evaluated(policy: Policy, rollout: Rollout, config: PPOConfig) -> Evaluated:
    """Log-probabilities under policy and reference, values and entropy.

    In minibatches of the size that the update takes, so that its first ratios are exactly 1.
    """
    with torch.no_grad():
        rows = torch.arange(len(rollout.texts)).split(config.minibatch_size)
        parts = [_evaluated_rows(policy, rollout, some, config.temperature) for some in rows]
    return Evaluated(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _evaluated_rows(
    policy: Policy, rollout: Rollout, rows: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens, attention, answers = rollout.tokens[rows], rollout.attention[rows], rollout.answers[rows]
    logits, values = policy.forward(tokens, attention, rollout.answer)
    own, entropy = losses.token_logprobs(logits, answers, temperature), losses.entropy(logits, temperature)
    with policy.as_reference():
        logits, _ = policy.forward(tokens, attention, rollout.answer)
    return own, losses.token_logprobs(logits, answers, temperature), values, entropy


def measure(
    policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], reward: Reward, config: PPOConfig, reference: bool,
    tell: Tell = silent,
) -> Measured:  # fmt: skip
    """The policy's (or the reference's) sampled answers to held-out prompts, with random numbers of their own."""
    found: list[Measured] = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for start in measuring(range(0, len(prompts), config.batch_size), tell):
            batch = prompts[start : start + config.batch_size]
            if reference:
                with policy.as_reference():
                    rollout = sample(policy, tokenizer, batch)
                kl = torch.zeros(len(batch))
            else:
                rollout = sample(policy, tokenizer, batch)
                seen = evaluated(policy, rollout, config)
                kl = ((seen.logprobs - seen.reference) * rollout.mask).sum(1)
            rewards = rewards_of(reward, batch, rollout.texts)
            columns = zip(
                rewards, kl.tolist(), rollout.mask.sum(1).tolist(), rollout.ended, rollout.repeated, strict=True
            )
            found += [Measured(reward=r, kl=k, tokens=t, ended=e, repeated=d) for r, k, t, e, d in columns]
    return Measured(**{name: sum(getattr(m, name) for m in found) / len(found) for name in Measured.model_fields})
