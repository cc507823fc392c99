"""What keeps `rloo` and `grpo` near to where they began, in the words and with the limits of `ppo`.

A run whose KL runs away is stopped before that state is saved. With a target, what a nat costs (TRL's `beta`) follows
the KL as in Ziegler et al. (2019), so that it comes to the target.
"""
# ruff: noqa: ARG002 (transformers' signature of a callback)

from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from adapters.ppo import PPOConfig
from adapters.ppo_losses import AdaptiveKL
from adapters.trainer_watch import Guard

_LIKE = PPOConfig()


class KLGuard(Guard):
    """Reads each step's `kl`, in nats per answer; sets the trainer's `beta` where there is a target.

    The coefficient follows from the run's log lines alone, so a run that is taken up again goes on with the same one.
    """

    def __init__(self, trainer: Any, target: float | None) -> None:
        super().__init__()
        self._trainer = trainer
        self._limit = _LIKE.max_kl * (target or _LIKE.kl_target)
        self._held = target and AdaptiveKL(trainer.beta, target, _LIKE.kl_rise, _LIKE.kl_fall)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for line in state.log_history:
            self._hold(line)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        kl = (logs or {}).get("kl")
        if kl is not None and not kl <= self._limit:
            self.stop(
                control,
                f"the policy has strayed {kl:.1f} nats per answer from where it began at step {state.global_step}, at "
                f"most {self._limit:.1f} were allowed (five times --kl-target)",
            )
        self._hold(logs or {})

    def _hold(self, line: dict[str, float]) -> None:
        if self._held and "kl" in line:
            self._held.update(line["kl"])
            self._trainer.beta = self._held.coef
