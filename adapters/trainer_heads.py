"""A classification head on the base model, trained with a LoRA: one label for a text, or a tag for every word.

The head is trained whole, in float32 (PEFT's `modules_to_save`); cross entropy is transformers' own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, get_peft_model
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from adapters.headed import BATCH, HEADS, TAGS, TEXTS, load_headed, read
from adapters.held_out import label_scores
from adapters.tokens import IGNORED
from adapters.train import TrainConfig
from adapters.trainer import arguments_for, evaluate, peft_config
from adapters.trainer_pairs import float_head
from adapters.trainer_watch import told


def load_head(model_path: str, config: TrainConfig, tokenizer: Any, labels: Sequence[str],
              train: Sequence[Any]) -> tuple[Any, PeftConfig]:  # fmt: skip
    """The base model with a head that chooses among `labels`, and the LoRA to put on it."""
    torch.manual_seed(config.seed)  # the head begins with random numbers
    task = TEXTS if "label" in train[0] else TAGS
    model = load_headed(model_path, tokenizer, len(labels), task)
    float_head(model)
    lora: Any = peft_config(config, model, task)
    lora.exclude_modules = HEADS  # trained whole: no LoRA on it
    return model, lora


def build_head(model: Any, lora: PeftConfig, tokenizer: Any, train: Sequence[Any], validation: Dataset | None,
               config: TrainConfig, run: Path) -> Trainer:  # fmt: skip
    """A trainer over texts or words with the numbers of their labels."""
    torch.manual_seed(config.seed)
    collator = DataCollatorWithPadding if "label" in train[0] else DataCollatorForTokenClassification
    trainer = Trainer(
        model=get_peft_model(model, lora), args=TrainingArguments(**arguments_for(len(train), validation, config, run)),
        data_collator=collator(tokenizer), train_dataset=Dataset.from_list(list(train)), eval_dataset=validation,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.args.prediction_loss_only = True
    trainer.remove_callback(PrinterCallback)  # it prints every log line to stdout
    return trainer


def head_evaluator(
    labels: Sequence[str], train: Sequence[Any]
) -> Callable[[Trainer, dict[str, Dataset], str], dict[str, float]]:
    """Losses, accuracy and macro-F1 with intervals, beside always giving the most frequent label of `train`."""
    usual = Counter(label for row in train for label in _truth(row)).most_common(1)[0][0]

    def measure(trainer: Trainer, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
        scores = evaluate(trainer, held_out, who)
        if who == "base":  # its head is random numbers
            return scores
        for split, data in held_out.items():
            rows = list(data)
            truth = [_truth(row) for row in rows]
            given = [_given(row, logits) for row, logits in zip(rows, _logits(trainer, rows), strict=True)]
            scores |= label_scores(f"{who}_{split}", truth, given, len(labels))
            always = label_scores("", truth, [[usual] * len(one) for one in truth], len(labels))
            scores |= {f"usual_{split}_{name}": always[f"_{name}"] for name in ("accuracy", "f1")}
            scores[f"{split}_records"] = len(rows)
        return scores

    return measure


def _logits(trainer: Trainer, rows: Sequence[Any]) -> Iterator[torch.Tensor]:
    """What the head gives for each row."""
    model, pad = trainer.model.eval(), trainer.processing_class.pad_token_id
    for some in told(trainer, [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]):
        yield from read(model, [row["input_ids"] for row in some], pad)


def _truth(row: Any) -> list[int]:
    """The numbers of a row's labels: one of a text, one of each word."""
    return [row["label"]] if "label" in row else [label for label in row["labels"] if label != IGNORED]


def _given(row: Any, logits: torch.Tensor) -> list[int]:
    if "label" in row:
        return [int(logits.argmax())]
    return [int(one.argmax()) for one, label in zip(logits, row["labels"], strict=True) if label != IGNORED]
