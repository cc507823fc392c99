"""A base model with a head in the place of its words: for scores (reward models), labels and tags. Imports torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from trl.trainer.reward_trainer import suppress_seqcls_warning

from adapters.base_model import quiet
from adapters.padding import padded
from data.errors import BrogueError, one_line

TEXTS, TAGS = "SEQ_CLS", "TOKEN_CLS"  # PEFT's words for a head that is read once, and for one that is read everywhere
HEADS = ["score", "classifier"]  # PEFT's names for a head, which it trains whole
BATCH = 16  # rows in one pass
_NONE = "transformers has no head for this family of base models ({why}); {way}"


def load_headed(model_path: str, tokenizer: Any, outputs: int, task: str = TEXTS) -> Any:
    """The base model with an untrained head of that many outputs. Raises `BrogueError` if its family has none.

    The tokenizer and the model get a padding token, which is where a head finds a row's end.
    """
    quiet()
    make = AutoModelForTokenClassification if task == TAGS else AutoModelForSequenceClassification
    try:
        with suppress_seqcls_warning():
            model = make.from_pretrained(model_path, num_labels=outputs, dtype=torch.bfloat16)
    except ValueError as error:  # the family is not in transformers' table
        scorer = "reward models want another base model; dpo wants no reward model"
        way = scorer if outputs == 1 else "leave --head away: label words work with every family"
        raise BrogueError(_NONE.format(why=one_line(error, 100), way=way)) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


def load_trained(model: Any, folder: Path) -> Any:
    """What was trained, on the model that it was trained on, where it computes fastest."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return PeftModel.from_pretrained(model, str(folder)).to(device).eval()


def read(model: Any, rows: Sequence[Sequence[int]], pad_id: int) -> Iterator[Tensor]:
    """What the head gives for each row of token ids: [outputs] for `TEXTS`, [tokens, outputs] for `TAGS`; float32."""
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        ids, mask = padded(some, pad_id)
        with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
        for row, found in zip(some, logits.float().cpu(), strict=True):
            yield found if found.ndim == 1 else found[: len(row)]
