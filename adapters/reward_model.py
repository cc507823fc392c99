"""A trained reward model: scores for answers, for PPO and for exams. Imports torch's world."""

from collections.abc import Sequence
from typing import Any

from adapters.base_model import BaseModel, load_tokenizer
from adapters.headed import load_headed, load_trained, read
from adapters.registry import AdapterCard, Registry, require_scorer
from adapters.tokens import encode_answer, prompt_ids
from adapters.validation import folder_for
from data.messages import with_system


class RewardModel:
    """`score` gives one number for each answer; only differences between answers to one prompt mean something.

    Such a difference is the log-odds that people prefer the one (Bradley-Terry), see its card for how well it tells.
    """

    def __init__(self, model: Any, tokenizer: Any, card: AdapterCard, base: BaseModel) -> None:
        self._model, self._tokenizer, self.card, self._base = model, tokenizer, card, base

    @classmethod
    def load(cls, registry: Registry, version: str, base: BaseModel) -> "RewardModel":
        """The reward model `name@n`; raises `BrogueError` if that version is none, or was made for another base."""
        card = registry.resolve(version)
        require_scorer(card)
        folder = folder_for(registry, card, base)
        tokenizer = load_tokenizer(base.path)
        model = load_trained(load_headed(base.path, tokenizer, outputs=1), folder)
        return cls(model, tokenizer, card, base)

    def score(self, prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
        """One score for each answer to the messages at the same place; higher is better."""
        rows = []
        for messages, answer in zip(prompts, answers, strict=True):
            turns = with_system(messages, self.card.system_prompt, self._base.supports_system)
            rows.append(prompt_ids(self._tokenizer, turns) + encode_answer(self._tokenizer, turns, answer))
        return self.score_ids(rows)

    def score_ids(self, rows: Sequence[list[int]]) -> list[float]:
        """One score for each sequence of token ids, prompt and answer."""
        return [float(found) for found in read(self._model, rows, self._tokenizer.pad_token_id)]
