"""TRL's SFT trainer with LoRA, set up for the machine it runs on; what all recipes' trainers share.

Imports torch: import it when training begins.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import PrinterCallback, Trainer, set_seed
from transformers.utils import is_flash_attn_2_available
from trl import SFTConfig, SFTTrainer

from adapters import methods, processes
from adapters.base_model import load_weights
from adapters.method_targets import tunes_output, untuned_output
from adapters.progress import Diverged, TrainProgress
from adapters.tokens import IGNORED
from adapters.train import TrainConfig
from adapters.trainer_cpu import token_losses
from adapters.trainer_watch import Guard, Metrics, Order, Patience, Reporter, StopOnSignal

SAVES = 200  # at least one checkpoint in so many steps
PATIENCE = 4  # measurements of the validation loss without a lower one, two in a pass over few rows


def build_sft(model: Any, lora: PeftConfig | None, tokenizer: Any, train: Sequence[Any], validation: Dataset | None,
              config: TrainConfig, run: Path) -> SFTTrainer:  # fmt: skip
    """A trainer over already tokenised answers (`Example`)."""
    ours = not torch.cuda.is_available() or tunes_output(model)
    trainer_class = CpuSFTTrainer if ours else SFTTrainer
    arguments = SFTConfig(**arguments_for(len(train), validation, config, run), max_length=None, packing=False)
    with untuned_output(model):
        trainer = trainer_class(model=model, args=arguments, train_dataset=Dataset.from_list(list(train)),
                                eval_dataset=validation, processing_class=tokenizer, peft_config=lora)  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # it prints every log line to stdout
    return trainer


def load_model(model_path: str, config: TrainConfig, start: Path | None) -> tuple[Any, PeftConfig | None]:
    """The base model, and what the method puts on it; or, with the folder of a version to start from, both in one.

    The frozen base stays in bfloat16, as it is served; PEFT keeps the adapter's own weights in float32.
    """
    method = methods.find(config.method)
    model = load_weights(model_path, four_bits=method.four_bits)
    if is_flash_attn_2_available() and model._supports_flash_attn:  # a GPU, with the package flash_attn
        model.set_attn_implementation("flash_attention_2")
    if start is not None:
        return PeftModel.from_pretrained(model, str(start), is_trainable=True), None
    if method.peft_type == "LORA":
        return model, peft_config(config, model, "CAUSAL_LM")
    set_seed(config.seed)
    return methods.attach(model, method, config.rank, config.method_options), None


def peft_config(config: TrainConfig, model: Any, task: str) -> PeftConfig:
    """What the method trains of this model."""
    return methods.config_for(methods.find(config.method), config.rank, model, task, config.method_options)


def arguments_for(examples: int, validation: Dataset | None, config: TrainConfig, run: Path) -> dict[str, Any]:
    """What every trainer is told; `config` is complete (epochs and learning rate filled in)."""
    steps_per_epoch = math.ceil(examples / config.batch_size)
    save_steps = min(SAVES, max(1, math.ceil(steps_per_epoch / 2)))
    has_validation = validation is not None
    epochs = config.epochs or 1
    warm_up = round(0.05 * steps_per_epoch * epochs)
    return {
        "output_dir": str(run),
        "num_train_epochs": epochs,
        "per_device_train_batch_size": config.batch_size // processes.count(),
        "per_device_eval_batch_size": config.batch_size,
        "learning_rate": config.learning_rate or 0.0,
        "lr_scheduler_type": "linear",
        "warmup_steps": warm_up if warm_up > 1 else 0,  # its first step learns nothing, so one alone would be lost
        "seed": config.seed,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 2,
        "eval_strategy": "steps" if has_validation else "no",
        "eval_steps": save_steps,
        "load_best_model_at_end": has_validation,
        "metric_for_best_model": "eval_loss" if has_validation else None,
        "greater_is_better": False if has_validation else None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is no number is to be seen
        "train_sampling_strategy": "group_by_length",
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
        "include_num_input_tokens_seen": "non_padding",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def evaluate(trainer: Trainer, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
    """The trainer's mean loss of the answers (nats per token) on each held-out split, keyed `<who>_<split>_loss`."""
    scores = {}
    best = trainer.state.best_model_checkpoint
    kept = who == "adapter" and best is not None and Path(best).exists()  # its weights were loaded when training ended
    for split, data in held_out.items():
        loss = trainer.state.best_metric if kept and split == "validation" else None
        if loss is None:  # else it was measured during training
            loss = trainer.evaluate(data, metric_key_prefix=f"eval_{split}")[f"eval_{split}_loss"]
        scores[f"{who}_{split}_loss"] = round(float(loss), 4)
    return scores


def fit(trainer: Trainer, checkpoint: Path | None, run: Path, on_progress: Callable[[TrainProgress], None]) -> bool:
    """Train, from `checkpoint` if there is one; false if a signal stopped it (a checkpoint is written then).

    Raises `Diverged` if the loss went wrong; what was saved before stays.
    """
    stopper = StopOnSignal()
    for callback in (Reporter(on_progress), Metrics(run), Order(), stopper, Guard()):
        trainer.add_callback(callback)
    if trainer.args.load_best_model_at_end:
        trainer.add_callback(Patience(PATIENCE))
    with stopper:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    guards = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Guard)]
    if reason := next((guard.reason for guard in guards if guard.reason), None):
        raise Diverged(reason)
    return not stopper.asked or trainer.state.global_step >= trainer.state.max_steps


class CpuSFTTrainer(SFTTrainer):
    """TRL's trainer with plain cross entropy over the answers' positions only.

    TRL's chunked loss saves memory on GPUs but also computes entropies; it took 59% of a step on two CPU cores.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean (or, given `num_items_in_batch`, that share of the sum) of the answers' token losses."""
        labels = inputs["labels"][:, 1:]
        positions = (labels != IGNORED).any(dim=0).nonzero().flatten()
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        # Counted from the end: a soft prompt stands before the tokens.
        outputs = model(**rest, use_cache=False, logits_to_keep=positions - inputs["labels"].shape[1])
        loss = token_losses(outputs.logits.flatten(0, 1), labels[:, positions].flatten()).sum()
        # `num_items_in_batch` counts what all processes have, and their gradients are averaged afterwards.
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch / processes.count()
        loss = loss / count
        return (loss, outputs) if return_outputs else loss
