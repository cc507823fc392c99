"""Reinforcement learning with PPO: what a run needs and what it reports. No torch: that is adapters/ppo_trainer.py.

In: prompts, a reward (any callable on prompts and answers), a base model and optionally the adapter to start from.
Out: the adapter's new weights. Sources: Schulman et al. (2017) for PPO, Ziegler et al. (2019) for the KL penalty and
its control, Ouyang et al. (2022), "Training language models to follow instructions with human feedback", for the whole.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field

from adapters.tokens import prompt_ids
from data.errors import BrogueError, DataError, one_line
from data.messages import with_system
from data.records import AnyRecord, LabelledRecord, Message, PreferenceRecord, RankingRecord
from data.settings import Frozen

# (conversations that end with the user, an answer to each) → a number for each answer, higher is better.
Reward = Callable[[Sequence[Sequence[dict[str, Any]]], Sequence[str]], Sequence[float]]


class PPOConfig(Frozen):
    """How to train. docs/ppo.md gives the reasons."""

    rank: int = Field(8, ge=1)  # LoRA r of a policy that starts from the base model; alpha is 2r
    rounds: int = Field(50, ge=1)  # one round: sample answers, score them, update
    batch_size: int = Field(16, ge=2)  # answers in a round
    minibatch_size: int = Field(8, ge=1)  # answers in one optimiser step
    epochs: int = Field(4, ge=1)  # passes over a round's answers
    learning_rate: float = Field(3e-4, gt=0)  # of the policy's LoRA weights
    value_learning_rate: float = Field(1e-3, gt=0)  # of the value head
    max_new_tokens: int = Field(64, ge=1)  # an answer's length is cut here
    temperature: float = Field(1.0, gt=0)
    gamma: float = Field(1.0, gt=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)  # GAE's lambda
    clip: float = Field(0.2, gt=0)  # of the policy's ratio
    value_clip: float = Field(0.2, gt=0)
    value_weight: float = Field(0.1, ge=0)  # of the value loss in the sum
    max_gradient: float = Field(1.0, gt=0)  # norm
    max_step_kl: float = Field(0.1, gt=0)  # nats per token: a round's updates end where the policy has moved so far
    kl_coef: float = Field(0.05, ge=0)  # to begin with
    kl_target: float = Field(6.0, gt=0)  # nats per answer
    kl_rise: float = Field(0.3, ge=0)  # gain of the adaptive coefficient over the target; both 0 keep it fixed
    kl_fall: float = Field(0.1, ge=0)  # and under it
    max_kl: float = Field(5.0, gt=1)  # times the target: the run stops there
    unended_penalty: float = Field(1.0, ge=0)  # taken off an answer that was cut
    repetition_penalty: float = Field(1.0, ge=0)  # times the share of an answer's 4-token sequences that repeat
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the frozen base and of the arithmetic
    save_every: int = Field(10, ge=1)  # rounds
    seed: int = 0


class RoundStats(Frozen):
    """One round, means over its answers."""

    round: int  # from 1
    loss: float  # of policy and value head together, the last optimiser step's
    reward: float  # as the reward gave it
    score: float  # less the penalties for length and repetition
    kl: float  # nats per answer, to the reference
    kl_coef: float  # that this round was trained with
    step_kl: float  # nats per token, moved in this round
    entropy: float  # nats per token
    tokens: float  # of an answer
    ended: float  # share of answers with an end token
    repeated: float  # share of 4-token sequences that repeat
    clipped: float  # share of tokens
    value_loss: float
    explained: float  # share of the returns' variance that the value head explains
    seconds: float


class Measured(Frozen):
    """A policy on held-out prompts, means over the answers."""

    reward: float
    kl: float  # nats per answer, to the reference
    tokens: float
    ended: float
    repeated: float


class Prompt(Frozen):
    """A conversation that ends with the user, and its token ids as the engine makes them."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]


def asked(record: AnyRecord) -> tuple[Message, ...]:
    """What a policy is asked: the record's conversation up to its last user message; its answers are not looked at."""
    if isinstance(record, LabelledRecord):
        raise DataError("'labelled' records hold no conversation; ppo takes records of every other kind")
    return record.messages if isinstance(record, PreferenceRecord | RankingRecord) else record.messages[:-1]


def questions(
    rows: Sequence[tuple[str, AnyRecord]], tokenizer: Any, system: str | None, supports_system: bool, max_tokens: int,
    say: Callable[[str], None], split: str,
) -> list[tuple[str, Prompt]]:  # fmt: skip
    """What a split's records (with their ids) ask, each question once, without those longer than `max_tokens`."""
    found: dict[tuple[Message, ...], tuple[str, Prompt]] = {}
    for id, record in rows:
        messages = asked(record)
        if messages not in found:
            found[messages] = (id, make_prompt(tokenizer, messages, system, supports_system))
    short = [(id, prompt) for id, prompt in found.values() if len(prompt.ids) <= max_tokens]
    if len(short) < len(found):
        say(f"{split}: {len(found) - len(short)} questions longer than {max_tokens} tokens are left out (--max-tokens)")
    return short


def make_prompt(tokenizer: Any, messages: Sequence[Message], system: str | None, supports_system: bool) -> Prompt:
    """The prompt of `messages` with the assistant's system prompt, as it is served."""
    turns = with_system([m.model_dump() for m in messages], system, supports_system)
    return Prompt(messages=tuple(messages), ids=tuple(prompt_ids(tokenizer, turns)))


def rewards_of(reward: Reward, prompts: Sequence[Prompt], answers: list[str]) -> list[float]:
    """The reward of each answer; raises `BrogueError` if it is not one finite number for each."""
    found = [float(value) for value in reward([[m.model_dump() for m in p.messages] for p in prompts], answers)]
    if len(found) != len(answers):
        raise BrogueError(f"the reward gave {len(found)} numbers for {len(answers)} answers; it must give one for each")
    for value, answer in zip(found, answers, strict=True):
        if not math.isfinite(value):
            raise BrogueError(f"the reward gave {value} for the answer '{one_line(answer, 60)}'; mend the reward")
    return found


def repeated_share(tokens: Sequence[int], n: int = 4) -> float:
    """Share of a sequence's n-grams that stood in it before: 0 for varied or very short text, near 1 for a loop."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
