"""PPO's rounds: sample, score, update, and checkpoints that a kill cannot break. Imports torch."""

import json
import math
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters import ppo_losses as losses
from adapters.ppo import PPOConfig, Prompt, Reward, RoundStats, rewards_of
from adapters.ppo_policy import Policy
from adapters.ppo_rollout import Evaluated, Rollout, evaluated, penalised, sample
from adapters.progress import METRICS, Diverged
from data.errors import BrogueError, one_line
from data.home import new_folder, write_text

STATE = "state.pt"

# (policy, prompts, number of the round from 0) → the answers' token ids, each with what ended it; or none.
Writer = Callable[[Policy, Sequence[Prompt], int], list[list[int]] | None]


class PPOTrainer:
    """Trains `policy` on `prompts`; the run's folder holds `metrics.jsonl` and the last two checkpoints."""

    def __init__(
        self, policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], reward: Reward, config: PPOConfig, run: Path,
        write: Writer | None = None,
    ) -> None:  # fmt: skip
        """`write` may write the answers in the policy's place, or give none."""
        self.policy, self.history, self._write = policy, list[RoundStats](), write
        self._tokenizer, self._prompts, self._reward, self._config, self._run = tokenizer, prompts, reward, config, run
        self._kl = losses.AdaptiveKL(config.kl_coef, config.kl_target, config.kl_rise, config.kl_fall)
        self._optimiser = torch.optim.AdamW(
            [
                {"params": list(policy.weights().values()), "lr": config.learning_rate},
                {"params": list(policy.head.parameters()), "lr": config.value_learning_rate},
            ],
            weight_decay=0.0,
        )
        torch.manual_seed(config.seed)

    def train(self, on_round: Callable[[RoundStats], None], stop: Callable[[], bool]) -> bool:
        """Train to the last round, from the newest checkpoint; false if `stop` said so (a checkpoint is kept then)."""
        self._restore()
        while len(self.history) < self._config.rounds:
            self.history.append(self._round())
            self._write_metrics()
            on_round(self.history[-1])
            last = len(self.history) == self._config.rounds
            stopped = not last and stop()
            if stopped or last or len(self.history) % self._config.save_every == 0:
                self._save()
            if stopped:
                return False
        return True

    def _round(self) -> RoundStats:
        began, config = time.monotonic(), self._config
        prompts = batch_of(self._prompts, len(self.history), config)
        written = self._write(self.policy, prompts, len(self.history)) if self._write else None
        rollout = sample(self.policy, self._tokenizer, prompts, written)
        rewards = rewards_of(self._reward, prompts, rollout.texts)
        scores = penalised(rewards, rollout, config)
        old = evaluated(self.policy, rollout, config)
        kl, coef = float(losses.answer_kl(old.logprobs, old.reference, rollout.mask)), self._kl.coef
        self._check_kl(kl)
        scored = losses.token_rewards(
            torch.tensor(scores, device=rollout.mask.device), old.logprobs, old.reference, rollout.mask, coef
        )
        advantages, returns = losses.gae(scored, old.values, rollout.mask, config.gamma, config.lam)
        steps = list(self._update(rollout, old, losses.whiten(advantages, rollout.mask), returns))
        self._kl.update(kl)
        answers = len(rewards)
        return RoundStats(
            round=len(self.history) + 1,
            loss=steps[-1][3],
            reward=sum(rewards) / answers,
            score=sum(scores) / answers,
            kl=kl,
            kl_coef=coef,
            step_kl=steps[-1][1],
            entropy=float(losses.masked_mean(old.entropy, rollout.mask)),
            tokens=float(rollout.mask.sum()) / answers,
            ended=sum(rollout.ended) / answers,
            repeated=sum(rollout.repeated) / answers,
            clipped=sum(step[2] for step in steps) / len(steps),
            value_loss=sum(step[0] for step in steps) / len(steps),
            explained=_explained(old.values, returns, rollout.mask),
            seconds=round(time.monotonic() - began, 3),
        )

    def _update(
        self, rollout: Rollout, old: Evaluated, advantages: Tensor, returns: Tensor
    ) -> Iterator[tuple[float, float, float, float]]:
        """(value loss, step KL, share clipped, loss) of each step; ends early where the policy has moved enough."""
        config = self._config
        for _ in range(config.epochs):
            for rows in torch.randperm(len(advantages)).split(config.minibatch_size):
                mask, before = rollout.mask[rows], old.logprobs[rows]
                logits, values = self.policy.forward(rollout.tokens[rows], rollout.attention[rows], rollout.answer)
                new = losses.token_logprobs(logits, rollout.answers[rows], config.temperature)
                moved = float(losses.step_kl(new.detach(), before, mask))
                policy, clipped = losses.policy_loss(new, before, advantages[rows], mask, config.clip)
                value = losses.value_loss(values, old.values[rows], returns[rows], mask, config.value_clip)
                loss = policy + config.value_weight * value
                yield float(value.detach()), moved, float(clipped), float(loss.detach())
                if moved > config.max_step_kl:
                    return
                self._step(loss)

    def _step(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._config.max_gradient)
        if not math.isfinite(float(loss.detach())) or not math.isfinite(float(norm)):
            raise Diverged(f"{self._where()}: the loss is not a finite number any more; {self._way_out()}")
        self._optimiser.step()

    def _check_kl(self, kl: float) -> None:
        limit = self._config.max_kl * self._config.kl_target
        if not kl <= limit:
            raise Diverged(
                f"{self._where()}: the policy has strayed {kl:.1f} nats per answer from where it began, at most "
                f"{limit:.1f} were allowed; {self._way_out()}"
            )

    def _where(self) -> str:
        return f"ppo, round {len(self.history) + 1} of {self._config.rounds}"

    def _way_out(self) -> str:
        newest = newest_checkpoint(self._run)
        kept = f"; the state of round {newest.name.rsplit('-', 1)[1]} is kept in {newest}" if newest else ""
        return f"train with a lower learning rate (now {self._config.learning_rate:g}){kept}"

    def _write_metrics(self) -> None:
        lines = ({"step": s.round, "steps": self._config.rounds} | s.model_dump() for s in self.history)
        with self._writing():
            write_text(self._run / METRICS, "".join(json.dumps(line) + "\n" for line in lines))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise BrogueError(
                f"{self._where()}: cannot write to the run's folder {self._run} ({one_line(error, 80)}); make room and "
                "give the same command again: it goes on from the last complete checkpoint"
            ) from error

    def _save(self) -> None:
        """The whole state: weights, optimiser, coefficient, random numbers. Whole or not at all."""
        state = {
            "weights": {name: p.detach().cpu() for name, p in self.policy.weights().items()},
            "head": self.policy.head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "kl_coef": self._kl.coef,
            "history": [stats.model_dump() for stats in self.history],
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all(),
        }
        target = self._run / f"checkpoint-{len(self.history)}"
        shutil.rmtree(target, ignore_errors=True)  # there only if it was not whole
        with self._writing(), new_folder(target) as folder:
            torch.save(state, folder / STATE)
        for older in sorted(self._run.glob("checkpoint-*"), key=_number)[:-2]:
            shutil.rmtree(older, ignore_errors=True)

    def _restore(self) -> None:
        newest = newest_checkpoint(self._run)
        if newest is None:
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        self.policy.load_weights(state["weights"])
        self.policy.head.load_state_dict(state["head"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._kl.coef = state["kl_coef"]
        self.history = [RoundStats.model_validate(stats) for stats in state["history"]]
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["cuda_random"])


def newest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint. A folder gets its name when all is written, but its file may have gone since."""
    whole = (folder for folder in run.glob("checkpoint-*") if zipfile.is_zipfile(folder / STATE))  # as torch writes
    return max(whole, key=_number, default=None)


def batch_of(prompts: Sequence[Prompt], number: int, config: PPOConfig) -> list[Prompt]:
    """The prompts of round `number` (from 0): every prompt once, in random order, before one comes again."""
    chosen = []
    for position in range(number * config.batch_size, (number + 1) * config.batch_size):
        sweep, place = divmod(position, len(prompts))
        order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(config.seed * 100_003 + sweep))
        chosen.append(prompts[int(order[place])])
    return chosen


def _number(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])


def _explained(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - var(returns - values) / var(returns), over the answers' tokens."""
    kept = mask.bool()
    total = returns[kept].var(unbiased=False)
    return float(1 - (returns - values)[kept].var(unbiased=False) / total) if float(total) else 0.0
