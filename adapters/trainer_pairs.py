"""TRL's DPO, KTO and reward trainers for our pairs: token ids of our own making, weights, plain losses on a CPU too.

`dpo` and `reward` share one loss, Bradley-Terry's on a margin (log-odds that the better answer is better): DPO's margin
is beta times the difference of the answers' log-probability ratios to the reference (Rafailov et al. 2023, eq. 7), the
reward model's the difference of the scores. A pair's loss is multiplied by its weight (of mean 1).
The reference is the adapter that training starts from, or none: never a second copy of the base model.
"""
# ruff: noqa: ARG002 (the trainer's own signatures)

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from torch.nn.functional import logsigmoid
from torch.utils.data import DataLoader
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.trainer import dpo_trainer, kto_trainer, reward_trainer
from trl.trainer.utils import use_adapter

from adapters.headed import HEADS, TEXTS, load_headed
from adapters.held_out import pair_scores
from adapters.recipes import find
from adapters.tokens import IGNORED
from adapters.train import TrainConfig
from adapters.trainer import arguments_for, peft_config
from adapters.trainer_cpu import token_losses
from adapters.trainer_watch import told

REFERENCE = "ref"  # TRL's name for its frozen copy of the starting adapter
_OURS = ("prompt_ids", "chosen_ids", "rejected_ids", "completion_ids", "label")


def build_pairs(model: Any, lora: PeftConfig | None, tokenizer: Any, train: Sequence[Any], validation: Dataset | None,
                config: TrainConfig, run: Path) -> Any:  # fmt: skip
    """The trainer of the recipes in `PAIRED` over already tokenised pairs, thumbs or rankings."""
    shared = arguments_for(len(train), validation, config, run) | {
        "remove_unused_columns": False, "max_length": None,
        "warmup_steps": max(1, round(0.1 * len(train) / config.batch_size * (config.epochs or 1))),
    }  # fmt: skip
    trainer_class, arguments_class = _classes(config)
    beta = {} if config.recipe == "reward" else {"beta": config.beta or find(config.recipe).beta}
    if config.recipe == "kto":  # TRL wants a fixed order, for a pairing that we make in each batch
        shared["train_sampling_strategy"] = "sequential"
        train = random.Random(config.seed).sample(train, len(train))
    trainer = trainer_class(
        model=model, args=arguments_class(**shared, **beta), train_dataset=Dataset.from_list(list(train)),
        eval_dataset=validation, processing_class=tokenizer, peft_config=lora,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # it prints every log line to stdout
    return trainer


def _classes(config: TrainConfig) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from adapters.trainer_odds import MeanTrainer, OddsTrainer  # they build on what stands here
    from adapters.trainer_rankings import RankTrainer

    return {
        "dpo": (PairTrainer, DPOConfig),
        "kto": (ThumbTrainer, KTOConfig),
        "orpo": (OddsTrainer, DPOConfig),
        "simpo": (MeanTrainer, DPOConfig),
        "reward": (RankTrainer if config.listwise else ScoreTrainer, RewardConfig),
    }[config.recipe]


def load_scorer(model_path: str, config: TrainConfig, tokenizer: Any) -> tuple[Any, PeftConfig]:
    """The base model with a head that gives one number, and the LoRA to put on it; the head is trained whole."""
    torch.manual_seed(config.seed)
    model = load_headed(model_path, tokenizer, outputs=1)
    for head in float_head(model):
        torch.nn.init.zeros_(head.weight)  # random numbers would be a judgement to begin with (loss .85, not ln 2)
    return model, peft_config(config, model, TEXTS)


def float_head(model: Any) -> list[Any]:
    """The head in float32, as it is trained whole."""
    return [part.float() for name, part in model.named_children() if name in HEADS]


class _Ours:
    """What our trainers have in common: rows are tokenised already, weights stay, the reference is not saved."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        # A folder beside the adapter would be loaded in its place when the run is resumed (transformers 5.19).
        shutil.rmtree(Path(output_dir or "") / REFERENCE, ignore_errors=True)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Any, None, None]:
        """The loss only."""
        with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
            loss = self.compute_loss(model, self._prepare_inputs(inputs))  # type: ignore[attr-defined]
        return loss.detach(), None, None

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: our card is written with the version."""


class _Paired(_Ours):
    """Bradley-Terry's loss on `margins`, weighted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.data_collator: Any = _Weighted(self.data_collator)

    def margins(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Log-odds that the better answer is better, one for each pair."""
        raise NotImplementedError

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted mean of -log sigmoid(margin) over the batch."""
        loss = -(inputs["weight"] * logsigmoid(self.margins(model, inputs))).mean()
        return (loss, None) if return_outputs else loss

    def pairs(self, data: Dataset) -> list[Any]:
        """What `held_out` gives margins of."""
        return list(data)

    def held_out(self, data: Dataset) -> list[float]:
        """The margins of all pairs, in their order."""
        found: list[float] = []
        self.model.eval()  # type: ignore[attr-defined]
        loader: Any = DataLoader(data, batch_size=self.args.eval_batch_size, collate_fn=self.data_collator)  # type: ignore[attr-defined]
        for batch in told(self, loader):
            with torch.no_grad(), self.accelerator.autocast():  # type: ignore[attr-defined]
                found += self.margins(self.model, self._prepare_inputs(batch)).float().tolist()  # type: ignore[attr-defined]
        return found


class PairTrainer(_Paired, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation."""

    def margins(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        ratios = ratios_to_reference(model, inputs)
        chosen, rejected = ratios.chunk(2)
        return torch.as_tensor(self.beta * (chosen - rejected))


class ScoreTrainer(_Paired, RewardTrainer):  # type: ignore[misc]
    """A reward model: one score for an answer in its conversation."""

    def margins(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        rest = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        chosen, rejected = model(**rest, use_cache=False).logits.float().squeeze(-1).chunk(2)
        return torch.as_tensor(chosen - rejected)


class ThumbTrainer(_Ours, KTOTrainer):  # type: ignore[misc]
    """Kahneman-Tversky optimisation: each answer for itself, good or bad (Ethayarajh et al. 2024, eq. 8)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.data_collator: Any = _Weighted(self.data_collator)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted mean of 1 - sigmoid(±(beta · ratio - z)); z, the drift, is that of answers to other prompts."""
        ratios = ratios_to_reference(model, inputs)
        with torch.no_grad():
            drift = ratios_to_reference(model, inputs, "KL_").mean().clamp(min=0)
        side = torch.where(inputs["label"].bool(), 1.0, -1.0)
        loss = (inputs["weight"] * (1 - torch.sigmoid(self.beta * side * (ratios - drift)))).mean()
        return (loss, None) if return_outputs else loss


class _Weighted:
    """Batches as TRL makes them, with weights and, for thumbs, each answer after the next one's prompt."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if isinstance(self._collate, reward_trainer.DataCollatorForPreference):
            examples = [{f"{a}_ids": r["prompt_ids"] + r[f"{a}_ids"] for a in ("chosen", "rejected")} for r in rows]
        else:
            examples = [{name: row[name] for name in _OURS if name in row} for row in rows]
        if isinstance(self._collate, kto_trainer.DataCollatorForUnpairedPreference):
            for row, other in zip(examples, [examples[-1], *examples[:-1]], strict=True):
                row["KL_completion_ids"] = other["completion_ids"]
        batch: dict[str, Any] = self._collate(examples)
        return batch | {"weight": torch.tensor([row["weight"] for row in rows])}


def ratios_to_reference(model: Any, inputs: dict[str, Any], which: str = "", fused: bool | None = None) -> torch.Tensor:
    """How much likelier the model finds each answer than the reference does: a difference of log-probabilities."""
    peft = getattr(model, "module", model)
    with torch.no_grad(), use_adapter(peft, REFERENCE if REFERENCE in peft.peft_config else None):
        reference = answer_log_probs(model, inputs, which, fused)
    return answer_log_probs(model, inputs, which, fused) - reference


def answer_log_probs(model: Any, inputs: dict[str, Any], which: str = "", fused: bool | None = None) -> torch.Tensor:
    """The log-probability of each row's answer, in nats.

    On GPUs TRL's chunked kernel never holds all logits; on a CPU plain logits at the answers' positions are faster.
    """
    ids, mask = inputs[f"{which}input_ids"], inputs[f"{which}attention_mask"]
    labels = ids.masked_fill(inputs[f"{which}completion_mask"] == 0, IGNORED)
    if fused or (fused is None and ids.is_cuda):
        outputs = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
        return torch.as_tensor(outputs.log_probs.sum(1))
    after = labels[:, 1:]
    positions = (after != IGNORED).any(dim=0).nonzero().flatten()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=positions).logits
    return -token_losses(logits.flatten(0, 1), after[:, positions].flatten()).view(len(ids), -1).sum(1)


def evaluate_pairs(trainer: Any, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
    """What the card says of each held-out split; for thumbs, the mean loss only."""
    scores: dict[str, float] = {}
    for split, data in held_out.items():
        learnt = type(trainer) in (PairTrainer, ScoreTrainer)  # their loss is the margins' own
        if not learnt:
            metrics = trainer.evaluate(data, metric_key_prefix=f"eval_{split}")
            scores[f"{who}_{split}_loss"] = round(float(metrics[f"eval_{split}_loss"]), 4)
        if not isinstance(trainer, ThumbTrainer):
            # Before training, the policy of dpo is its own reference: no margin, without looking.
            same = who == "base" and type(trainer) is PairTrainer
            margins = [0.0] * len(data) if same else trainer.held_out(data)
            scores = pair_scores(split, who, margins, trainer.pairs(data)) | scores
    return scores


assert dpo_trainer.DataCollatorForPreference is not reward_trainer.DataCollatorForPreference  # told apart above
