"""A trained reward model: scores for answers, for PPO and for exams. Imports torch's world."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
from trl.trainer.reward_trainer import suppress_seqcls_warning

from adapters.base_model import BaseModel, load_tokenizer
from adapters.registry import AdapterCard, Registry, require_scorer
from adapters.tokens import encode_answer, prompt_ids
from adapters.validation import folder_for
from data.messages import with_system

BATCH = 8  # answers in one pass


class RewardModel:
    """`score` gives one number for each answer; only differences between answers to one prompt mean something.

    Such a difference is the log-odds that people prefer the one (Bradley-Terry), see its card for how well it tells.
    """

    def __init__(self, model: Any, tokenizer: Any, card: AdapterCard, base: BaseModel) -> None:
        self._model, self._tokenizer, self.card, self._base = model.eval(), tokenizer, card, base

    @classmethod
    def load(cls, registry: Registry, version: str, base: BaseModel) -> "RewardModel":
        """The reward model `name@n`; raises `BrogueError` if that version is none, or was made for another base."""
        card = registry.resolve(version)
        require_scorer(card)
        folder = folder_for(registry, card, base)
        tokenizer = load_tokenizer(base.path)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        with suppress_seqcls_warning():
            model = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=1, dtype=torch.bfloat16)
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(PeftModel.from_pretrained(model, str(folder)).to(device), tokenizer, card, base)

    def score(self, prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
        """One score for each answer to the messages at the same place; higher is better."""
        rows = []
        for messages, answer in zip(prompts, answers, strict=True):
            turns = with_system(messages, self.card.system_prompt, self._base.supports_system)
            rows.append(prompt_ids(self._tokenizer, turns) + encode_answer(self._tokenizer, turns, answer))
        return self.score_ids(rows)

    def score_ids(self, rows: Sequence[list[int]]) -> list[float]:
        """One score for each sequence of token ids, prompt and answer."""
        scores: list[float] = []
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            longest = max(map(len, some))
            ids = torch.full((len(some), longest), self._tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for number, row in enumerate(some):
                ids[number, : len(row)], mask[number, : len(row)] = torch.tensor(row), 1
            device = self._model.device
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
                found = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            scores += found.float().flatten().tolist()
        return scores
