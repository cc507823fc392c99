"""A trained classification head: labels for texts, or tags for words, with probabilities. Imports torch's world.

The head is read at the last token of a text's question, or of each word; see `adapters.tokens.with_labels`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from trl.trainer.reward_trainer import suppress_seqcls_warning

from adapters.base_model import BaseModel, load_tokenizer, quiet
from adapters.registry import AdapterCard, Registry, require_classifier
from adapters.tokens import text_ids, word_ids
from adapters.validation import folder_for
from data.errors import BrogueError, one_line
from data.settings import Frozen

BATCH = 16  # texts in one pass
TAGS = "TOKEN_CLS"  # PEFT's word for a head that gives every token a label


class Chosen(Frozen):
    """What a head chose, and how sure it was."""

    label: str
    probability: float
    probabilities: dict[str, float]  # of every label, the likeliest first; they add up to 1


class Classifier:
    """`predict` labels texts; `tag` labels words, where the head was trained on words with tags (`tags`)."""

    def __init__(self, model: Any, tokenizer: Any, card: AdapterCard) -> None:
        self._model, self._tokenizer, self.card = model.eval(), tokenizer, card
        self.tags = model.active_peft_config.task_type == TAGS

    @classmethod
    def load(cls, registry: Registry, version: str, base: BaseModel) -> "Classifier":
        """The classifier `name@n`; raises `BrogueError` if that version is none, or was made for another base."""
        card = registry.resolve(version)
        require_classifier(card)
        folder = folder_for(registry, card, base)
        tokenizer = load_tokenizer(base.path)
        task = PeftConfig.from_pretrained(str(folder)).task_type
        model = headed(base.path, tokenizer, len(card.labels), task)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(PeftModel.from_pretrained(model, str(folder)).to(device), tokenizer, card)

    def predict(self, texts: Sequence[str]) -> list[Chosen]:
        """The label of each text. Raises `BrogueError` where the head was trained to tag words."""
        self._require(tags=False)
        rows = [text_ids(self._tokenizer, text) for text in texts]
        return [self._chosen(row) for row in probabilities(self._model, rows, self._tokenizer.pad_token_id)]

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[Chosen]]:
        """The tag of each word. Raises `BrogueError` where the head was trained to label texts."""
        self._require(tags=True)
        words = [word_ids(self._tokenizer, text) for text in texts]
        rows = [[i for ids in text for i in ids] for text in words]
        found = probabilities(self._model, rows, self._tokenizer.pad_token_id)
        return [[self._chosen(row[end]) for end in _ends(text)] for text, row in zip(words, found, strict=True)]

    def _require(self, tags: bool) -> None:
        if tags != self.tags:
            wanted, other = ("tag", "predict") if self.tags else ("predict", "tag")
            raise BrogueError(
                f"{self.card.name} was trained on {'words with tags' if self.tags else 'texts with labels'}; "
                f"use {wanted}(), not {other}()"
            )

    def _chosen(self, chances: torch.Tensor) -> Chosen:
        by_label = dict(zip(self.card.labels, chances.tolist(), strict=True))
        ordered = dict(sorted(by_label.items(), key=lambda one: -one[1]))
        label = next(iter(ordered))
        return Chosen(label=label, probability=ordered[label], probabilities=ordered)


def headed(model_path: str, tokenizer: Any, labels: int, task: str) -> Any:
    """The base model with an untrained head of that many labels. Raises `BrogueError` if its family has none."""
    quiet()
    make = AutoModelForTokenClassification if task == TAGS else AutoModelForSequenceClassification
    try:
        with suppress_seqcls_warning():
            model = make.from_pretrained(model_path, num_labels=labels, dtype=torch.bfloat16)
    except ValueError as error:  # the family is not in transformers' table
        raise BrogueError(
            f"transformers has no classification head for this family of base models ({one_line(error, 100)}); "
            "leave --head away: label words work with every family"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


def probabilities(model: Any, rows: Sequence[list[int]], pad_id: int) -> Iterator[torch.Tensor]:
    """Of each row of token ids: [labels] for a head on texts, [tokens, labels] for one on words; float32."""
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        longest = max(map(len, some))
        ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in some], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in some], device=model.device)
        with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=mask).logits
        for row, found in zip(some, logits.float().softmax(-1).cpu(), strict=True):
            yield found if found.ndim == 1 else found[: len(row)]


def _ends(words: Sequence[Sequence[int]]) -> list[int]:
    """Where the last token of each word stands."""
    ends, at = [], -1
    for word in words:
        at += len(word)
        ends.append(at)
    return ends
