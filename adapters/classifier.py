"""A trained classification head: labels for texts, or tags for words, with probabilities. Imports torch's world.

The head is read at the last token of a text's question, or of each word; see `adapters.tokens.with_labels`.
"""

from collections.abc import Sequence
from typing import Any

from peft import PeftConfig
from torch import Tensor

from adapters.base_model import BaseModel, load_tokenizer
from adapters.headed import TAGS, load_headed, load_trained, read
from adapters.registry import AdapterCard, Registry, require_classifier
from adapters.tokens import text_ids, word_ids
from adapters.validation import folder_for
from data.errors import BrogueError
from data.settings import Frozen


class Chosen(Frozen):
    """What a head chose, and how sure it was."""

    label: str
    probability: float
    probabilities: dict[str, float]  # of every label, the likeliest first; they add up to 1


class Classifier:
    """`predict` labels texts; `tag` labels words, where the head was trained on words with tags (`tags`)."""

    def __init__(self, model: Any, tokenizer: Any, card: AdapterCard) -> None:
        self._model, self._tokenizer, self.card = model, tokenizer, card
        self.tags = model.active_peft_config.task_type == TAGS

    @classmethod
    def load(cls, registry: Registry, version: str, base: BaseModel) -> "Classifier":
        """The classifier `name@n`; raises `BrogueError` if that version is none, or was made for another base."""
        card = registry.resolve(version)
        require_classifier(card)
        folder = folder_for(registry, card, base)
        tokenizer = load_tokenizer(base.path)
        task = PeftConfig.from_pretrained(str(folder)).task_type
        model = load_headed(base.path, tokenizer, len(card.labels), task)
        return cls(load_trained(model, folder), tokenizer, card)

    def predict(self, texts: Sequence[str]) -> list[Chosen]:
        """The label of each text. Raises `BrogueError` where the head was trained to tag words."""
        self._require(tags=False)
        rows = [text_ids(self._tokenizer, text) for text in texts]
        return [self._chosen(row) for row in read(self._model, rows, self._tokenizer.pad_token_id)]

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[Chosen]]:
        """The tag of each word. Raises `BrogueError` where the head was trained to label texts."""
        self._require(tags=True)
        words = [word_ids(self._tokenizer, text) for text in texts]
        rows = [[i for ids in text for i in ids] for text in words]
        found = read(self._model, rows, self._tokenizer.pad_token_id)
        return [[self._chosen(row[end]) for end in _ends(text)] for text, row in zip(words, found, strict=True)]

    def _require(self, tags: bool) -> None:
        if tags != self.tags:
            wanted, other = ("tag", "predict") if self.tags else ("predict", "tag")
            raise BrogueError(
                f"{self.card.name} was trained on {'words with tags' if self.tags else 'texts with labels'}; "
                f"use {wanted}(), not {other}()"
            )

    def _chosen(self, logits: Tensor) -> Chosen:
        by_label = dict(zip(self.card.labels, logits.softmax(-1).tolist(), strict=True))
        ordered = dict(sorted(by_label.items(), key=lambda one: -one[1]))
        label = next(iter(ordered))
        return Chosen(label=label, probability=ordered[label], probabilities=ordered)


def _ends(words: Sequence[Sequence[int]]) -> list[int]:
    """Where the last token of each word stands."""
    ends, at = [], -1
    for word in words:
        at += len(word)
        ends.append(at)
    return ends
