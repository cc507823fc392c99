"""TRL's SFT trainer with LoRA, set up for the machine it runs on. Imports torch: import it when training begins."""

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from adapters.tokens import IGNORED, Example
from adapters.train import TrainConfig, TrainProgress
from data.records import Split

HELD_OUT: tuple[Split, ...] = ("validation", "test")


def held_out_data(examples: dict[Split, list[Example]]) -> dict[str, Dataset]:
    """The validation and test examples, where there are any."""
    return {split: Dataset.from_list(examples[split]) for split in HELD_OUT if examples[split]}


def build_trainer(
    model_path: str,
    tokenizer: Any,
    train: list[Example],
    validation: Dataset | None,
    config: TrainConfig,
    run: Path,
    on_progress: Callable[[TrainProgress], None],
) -> SFTTrainer:
    """A trainer over already tokenised examples.

    The frozen base stays in bfloat16, as it is served; PEFT keeps the adapter's own weights in float32.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.bfloat16)
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    save_steps = min(200, max(1, math.ceil(steps_per_epoch / 2)))
    has_validation = validation is not None
    epochs = config.epochs or 1  # train() has filled it in
    arguments = SFTConfig(
        output_dir=str(run),
        num_train_epochs=epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate or 0.0,  # train() has filled it in
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(0.05 * steps_per_epoch * epochs)),
        seed=config.seed,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        max_length=None,  # rows over the limit were left out before
        packing=False,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=2,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=save_steps,
        load_best_model_at_end=has_validation,
        metric_for_best_model="eval_loss" if has_validation else None,
        greater_is_better=False if has_validation else None,
        logging_steps=1,
        train_sampling_strategy="group_by_length",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        include_num_input_tokens_seen="non_padding",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    lora = LoraConfig(
        r=config.rank, lora_alpha=2 * config.rank, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    trainer_class = SFTTrainer if torch.cuda.is_available() else CpuSFTTrainer
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(train),
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[_Reporter(on_progress)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log line to stdout
    return trainer


def evaluate(trainer: SFTTrainer, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
    """The trainer's mean loss of the answers (nats per token) on each held-out split, keyed `<who>_<split>_loss`."""
    scores = {}
    for split, data in held_out.items():
        metrics = trainer.evaluate(data, metric_key_prefix=f"eval_{split}")
        scores[f"{who}_{split}_loss"] = round(float(metrics[f"eval_{split}_loss"]), 4)
    return scores


def fit(trainer: SFTTrainer, checkpoint: Path | None) -> bool:
    """Train, from `checkpoint` if there is one; false if a signal stopped it (a checkpoint is written then)."""
    stopper = _StopOnSignal()
    trainer.add_callback(stopper)
    with stopper:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return not stopper.asked


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
        outputs = model(**rest, use_cache=False, logits_to_keep=positions)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits.float().flatten(0, 1), labels[:, positions].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss = loss / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


class _StopOnSignal(TrainerCallback):
    """The first Ctrl-C or SIGTERM lets the running step end and saves; a second one acts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, self._before[signal.Signals(number)])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.asked:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False


class _Reporter(TrainerCallback):
    """Turns the trainer's log lines into `TrainProgress`."""

    def __init__(self, on_progress: Callable[[TrainProgress], None]) -> None:
        self._on_progress = on_progress
        self._begun = (0.0, 0, 0)  # time, step and tokens when this process began to train

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = (time.monotonic(), state.global_step, state.num_input_tokens_seen)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        if not logs or "loss" not in logs:
            return
        time_0, step_0, tokens_0 = self._begun
        elapsed = time.monotonic() - time_0
        self._on_progress(
            TrainProgress(
                step=state.global_step,
                steps=state.max_steps,
                loss=logs["loss"],
                tokens_per_s=(state.num_input_tokens_seen - tokens_0) / elapsed,
                seconds_left=elapsed / max(1, state.global_step - step_0) * (state.max_steps - state.global_step),
            )
        )
