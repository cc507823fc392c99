"""TRL's RLOO and GRPO trainers for our prompts and a reward model: the policy's own answers, scored, no value head.

`rloo` (Ahmadian et al. 2024, arXiv:2402.14740): an answer's advantage is its score, less what straying costs, less the
mean of the other answers' to the same question. `grpo` (Shao et al. 2024, arXiv:2402.03300): its score in standard
deviations from its group's mean; straying costs in the loss. The reference is the adapter that training starts from,
or the bare base model. Each step writes its answers with the policy as it stands, so a run that is taken up again at
any step goes on exactly. Answers lose for having been cut and for repeating themselves, as in `ppo`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from transformers import PrinterCallback, TrainerState
from trl import import_utils

from adapters.ppo import PPOConfig, Prompt, Reward, repeated_share, rewards_of
from adapters.ppo_policy import spare_copies
from adapters.train import TrainConfig
from adapters.trainer import arguments_for
from adapters.trainer_kl import KLGuard
from adapters.trainer_pairs import REFERENCE, ratios_to_reference
from adapters.trainer_watch import told

_looks = import_utils.is_vllm_available
import_utils.is_vllm_available = lambda *_, **__: False  # it would be imported, for 20 s, and is not used here
try:
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
finally:
    import_utils.is_vllm_available = _looks

SAVE_EVERY = 10  # steps
MEASURED = 64  # held-out questions: each takes an answer to be written
_PENALTIES = PPOConfig()


def build_online(model: Any, lora: PeftConfig | None, tokenizer: Any, prompts: Sequence[Prompt], reward: Reward,
                 config: TrainConfig, run: Path) -> Any:  # fmt: skip
    """The trainer of the recipes `rloo` and `grpo`; a step learns from two batches of answers, as a round of `ppo`."""
    spare_copies(model)
    most = 8 if config.recipe == "grpo" else 4
    shared = arguments_for(len(prompts), None, config, run) | {
        "max_steps": config.rounds, "save_steps": SAVE_EVERY, "lr_scheduler_type": "constant", "warmup_steps": 0,
        "gradient_accumulation_steps": 2, "num_generations": answers_each(config.batch_size, most),
        "num_generations_eval": 1, "max_completion_length": config.max_new_tokens or _PENALTIES.max_new_tokens,
        "beta": config.beta,
    }  # fmt: skip
    for name in ("train_sampling_strategy", "include_num_input_tokens_seen"):  # these trainers have their own
        del shared[name]
    judge = _Judge(reward, tokenizer)
    trainer_class, arguments_class = (
        (GroupTrainer, GRPOConfig) if config.recipe == "grpo" else (LeaveOneOutTrainer, RLOOConfig)
    )
    trainer = trainer_class(
        model=model, reward_funcs=judge, args=arguments_class(**shared), train_dataset=as_dataset(prompts),
        processing_class=tokenizer, peft_config=lora,
    )  # fmt: skip
    judge.ends = set(trainer.eos_token_ids)
    trainer.judge = judge
    trainer.remove_callback(PrinterCallback)  # it prints every log line to stdout
    trainer.add_callback(KLGuard(trainer, config.kl_target))
    return trainer


def answers_each(batch_size: int, most: int) -> int:
    """How many answers each question gets: at most `most`, and so many that two batches hold whole groups."""
    return next(n for n in range(most, 1, -1) if 2 * batch_size % n == 0)


def as_dataset(prompts: Sequence[Prompt]) -> Dataset:
    """Each question with its token ids, which are ours and not made again."""
    return Dataset.from_list([{"prompt": list(p.ids), "asked": p.model_dump_json()} for p in prompts])


class _Judge:
    """The reward function that TRL calls: the reward model's scores less the penalties of `ppo`."""

    __name__ = "reward_model"

    def __init__(self, reward: Reward, tokenizer: Any) -> None:
        self._reward, self._tokenizer, self.ends = reward, tokenizer, set[int]()
        self.rewards, self.repeated = list[float](), list[float]()  # of the last batch, without penalties
        self.ended = list[bool]()

    def __call__(self, *, completions: list[str], completion_ids: list[list[int]], asked: list[str],
                 log_metric: Any, **_: Any) -> list[float]:  # fmt: skip
        """One number for each answer."""
        self.rewards = rewards_of(self._reward, [Prompt.model_validate_json(p) for p in asked],
                                  [text.strip() for text in completions])  # fmt: skip
        bare = [[token for token in ids if token not in self.ends] for ids in completion_ids]
        self.repeated = [repeated_share(ids) for ids in bare]
        self.ended = [bool(ids) and ids[-1] in self.ends for ids in completion_ids]
        log_metric("score", sum(self.rewards) / len(self.rewards))
        log_metric("repeated", sum(self.repeated) / len(self.repeated))
        return [
            reward - _PENALTIES.unended_penalty * (not ended) - _PENALTIES.repetition_penalty * again
            for reward, ended, again in zip(self.rewards, self.ended, self.repeated, strict=True)
        ]


class _Online:
    """What both have in common: prompts are tokenised already, `kl` is an answer's, the reference is not saved."""

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[Any], None, dict[str, Any]]:
        return prompts, None, {}

    def train(self, resume_from_checkpoint: str | None = None, **more: Any) -> Any:
        """Train; after a checkpoint of the last step nothing is left to do, where transformers would do one more."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            if state.global_step >= self.args.max_steps:  # type: ignore[attr-defined]
                self._load_from_checkpoint(resume_from_checkpoint)  # type: ignore[attr-defined]
                self.state = state
                return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **more)  # type: ignore[misc]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step with its KL in nats per answer, as `ppo` does, where TRL has nats per token."""
        made = self._metrics["train"]  # type: ignore[attr-defined]
        if made.get("kl"):
            made["kl"] = [fmean(made["kl"]) * fmean(made["completions/mean_length"])]
        super().log(logs, start_time)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        # A folder beside the adapter would be loaded in its place when the run is resumed (transformers 5.19).
        shutil.rmtree(Path(output_dir or "") / REFERENCE, ignore_errors=True)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: our card is written with the version."""


class LeaveOneOutTrainer(_Online, RLOOTrainer):  # type: ignore[misc]
    """REINFORCE with the other answers' mean as the baseline."""


class GroupTrainer(_Online, GRPOTrainer):  # type: ignore[misc]
    """Group relative policy optimisation."""


def evaluate_online(trainer: Any, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
    """Means over the answers to held-out questions, keyed `<who>_<split>_…` as for `ppo`; sampled with a fixed seed."""
    scores: dict[str, float] = {}
    for split, data in held_out.items():
        rows, size = list(data)[:MEASURED], trainer.args.per_device_eval_batch_size
        sums = dict.fromkeys(("reward", "kl", "tokens", "ended", "repeated"), 0.0)
        trainer.model.eval()
        with torch.random.fork_rng(), torch.no_grad(), trainer.compute_loss_context_manager():
            torch.manual_seed(trainer.args.seed)
            for some in told(trainer, [rows[start : start + size] for start in range(0, len(rows), size)]):
                for name, value in _sums(trainer, some).items():
                    sums[name] += value
        scores |= {f"{who}_{split}_{name}": round(value / len(rows), 4) + 0.0 for name, value in sums.items()}
    return scores


def _sums(trainer: Any, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of one batch of answers, summed over them."""
    made = trainer._generate_and_score_completions(rows)
    trainer._metrics["eval"].clear()
    written = {
        "input_ids": torch.cat([made["prompt_ids"], made["completion_ids"]], 1),
        "attention_mask": torch.cat([made["prompt_mask"], made["completion_mask"]], 1),
        "completion_mask": torch.cat([torch.zeros_like(made["prompt_mask"]), made["completion_mask"]], 1),
    }
    return {
        "reward": sum(trainer.judge.rewards),
        "kl": float(ratios_to_reference(trainer.model, written, fused=False).sum()),
        "tokens": float(made["completion_mask"].sum()),
        "ended": sum(trainer.judge.ended),
        "repeated": sum(trainer.judge.repeated),
    }
