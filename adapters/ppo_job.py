"""The recipe `ppo`: questions from a dataset, a reward model's scores, and a version that began as another one."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from adapters import runs
from adapters.ppo import PPOConfig, Prompt, Reward, RoundStats, rewards_of
from adapters.ppo_engine import EngineRollouts
from adapters.ppo_policy import Policy
from adapters.ppo_rollout import measure, sample
from adapters.ppo_trainer import PPOTrainer, batch_of, newest_checkpoint
from adapters.progress import Diverged, Interrupted, Tell, TrainProgress, measuring, silent
from adapters.registry import Registry
from adapters.reward_model import RewardModel
from adapters.tracking import Tracker
from adapters.train import HELD_OUT, Job
from adapters.trainer_watch import StopOnSignal
from data.home import write_json

MEASURED = 64  # held-out questions: each takes an answer to be written
SCALE, SCALED_BY = "reward_scale.json", 2  # in the run's folder; measured on so many rounds' questions


def trained_by_ppo(job: Job, registry: Registry) -> tuple[Policy, dict[str, float]]:
    """The policy after its last round, and its reward on held-out questions beside that of what it began as.

    Raises `BrogueError` if the reward model cannot be used, `Diverged` if the policy runs away, `Interrupted` after
    Ctrl-C.
    """
    assert job.config.reward is not None  # train() has looked
    job.say("loading the reward model and the base model")
    model = RewardModel.load(registry, job.config.reward, job.base)
    config = ppo_config(job.config)
    policy = Policy(job.base.path, job.tokenizer, config, job.start)
    job.say("measuring the reward model on the answers that training begins with")
    questions = job.examples["train"]
    reward = scaled(model.score, policy, job.tokenizer, questions, config, job.run, job.on_progress)
    write = EngineRollouts(job.gateway, job.base.name, job.run, config, job.say) if job.gateway else None
    trainer = PPOTrainer(policy, job.tokenizer, questions, reward, config, job.run, write)
    stopper, tracker = StopOnSignal(), Tracker(job.report_to, job.run, policy.model, job.say)
    try:
        with stopper:
            finished = trainer.train(_Reporter(job, config, tracker), lambda: stopper.asked)
    except Diverged as error:
        runs.fail(job.run, str(error))
        raise
    finally:
        tracker.close()
        if write:
            write.close()
    if not finished:
        kept = newest_checkpoint(job.run)
        raise Interrupted(
            f"training stopped; {kept.name if kept else 'nothing'} is kept. Go on from it with the same command"
        )
    return policy, _measured(job, policy, reward, config)


def _measured(job: Job, policy: Policy, reward: Reward, config: PPOConfig) -> dict[str, float]:
    """The policy on held-out questions (`adapter_…`), beside what it began as (`base_…`)."""
    job.say("measuring on held-out questions")
    scores: dict[str, float] = {}
    for split in HELD_OUT:
        if prompts := job.examples[split][:MEASURED]:
            for who in ("base", "adapter"):
                found = measure(policy, job.tokenizer, prompts, reward, config, who == "base", job.on_progress)
                scores |= {f"{who}_{split}_{name}": round(value, 4) for name, value in found.model_dump().items()}
    return scores


def scaled(
    reward: Reward, policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], config: PPOConfig, run: Path,
    tell: Tell = silent,
) -> Reward:  # fmt: skip
    """The reward with mean 0 and variance 1 on the reference's answers, so that one KL coefficient does for all models.

    Measured once and kept in the run's folder. Source: Ziegler et al. (2019), who normalise their reward models so.
    """
    file = run / SCALE
    if not file.exists():
        found: list[float] = []
        with torch.random.fork_rng(), policy.as_reference():
            torch.manual_seed(config.seed)
            for number in measuring(range(SCALED_BY), tell):
                asked = batch_of(prompts, number, config)
                found += rewards_of(reward, asked, sample(policy, tokenizer, asked).texts)
        write_json(file, {"mean": statistics.fmean(found), "deviation": statistics.pstdev(found) or 1.0})
    scale = json.loads(file.read_text(encoding="utf-8"))

    def score(prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
        return [(value - scale["mean"]) / scale["deviation"] for value in reward(prompts, answers)]

    return score


def ppo_config(config: Any) -> PPOConfig:
    """What `TrainConfig` says of it; two minibatches make a round."""
    given = {
        "rank": config.rank, "rounds": config.rounds, "batch_size": 2 * config.batch_size,
        "minibatch_size": config.batch_size, "learning_rate": config.learning_rate, "seed": config.seed,
    }  # fmt: skip
    named = {"max_new_tokens": config.max_new_tokens, "kl_target": config.kl_target}
    return PPOConfig.model_validate(given | {name: value for name, value in named.items() if value is not None})


class _Reporter:
    """A progress line for each round, and the figures in words now and then."""

    def __init__(self, job: Job, config: PPOConfig, tracker: Tracker) -> None:
        self._job, self._config, self._seconds, self._tokens = job, config, list[float](), 0.0
        self._tracker = tracker

    def __call__(self, stats: RoundStats) -> None:
        self._seconds.append(stats.seconds)
        self._tokens += stats.tokens * self._config.batch_size
        spent, rounds = sum(self._seconds), self._config.rounds
        self._job.on_progress(
            TrainProgress(
                step=stats.round, steps=rounds, loss=stats.loss, tokens_per_s=self._tokens / max(spent, 1e-9),
                seconds_left=spent / len(self._seconds) * (rounds - stats.round),
                figures={"reward": stats.reward, "KL": stats.kl},
            )
        )  # fmt: skip
        self._tracker.log(stats.round, stats.model_dump())
        if stats.round % self._config.save_every == 0:
            self._job.say(
                f"round {stats.round} of {rounds}: reward {stats.reward:.2f}, KL {stats.kl:.1f} nats (wanted: "
                f"{self._config.kl_target:g}), "
                f"{stats.tokens:.0f} tokens an answer, {stats.ended:.0%} ended, {stats.repeated:.0%} repeated"
            )
