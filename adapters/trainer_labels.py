"""How often a labelling model is right when it may only give one of the labels, as an engine would hold it to them."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer

from adapters.held_out import rate_scores
from adapters.padding import padded
from adapters.tokens import IGNORED
from adapters.trainer import evaluate
from adapters.trainer_watch import told

Ids = tuple[int, ...]


def label_evaluator(
    train: Sequence[Any], tokenizer: Any
) -> Callable[[Trainer, dict[str, Dataset], str], dict[str, float]]:
    """`evaluate` with accuracies of label words beside the losses; the labels are the answers of the training rows.

    Where nearly every row has an answer of its own (words with their tags), there are losses only.
    """
    counts = Counter(answer_of(example) for example in train)

    def measure(trainer: Trainer, held_out: dict[str, Dataset], who: str) -> dict[str, float]:
        scores = evaluate(trainer, held_out, who)
        if len(counts) > max(2, len(train) / 2):
            return scores
        for split, data in held_out.items():
            rows = list(data)
            size = trainer.args.eval_batch_size
            batches = told(trainer, [rows[start : start + size] for start in range(0, len(rows), size)])
            given = [answer for some in batches for answer in
                     constrained(trainer.model, tokenizer, [prompt_of(row) for row in some], list(counts))]  # fmt: skip
            right = [answer_of(row) == label for row, label in zip(rows, given, strict=True)]
            scores |= rate_scores(f"{who}_{split}_accuracy", sum(right), len(rows))
            usual = counts.most_common(1)[0][0]
            scores[f"usual_{split}_accuracy"] = round(sum(answer_of(row) == usual for row in rows) / len(rows), 4)
            scores[f"{split}_records"] = len(rows)
        return scores

    return measure


def answer_of(example: Any) -> Ids:
    return tuple(token for token in example["labels"] if token != IGNORED)


def prompt_of(example: Any) -> list[int]:
    return [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label == IGNORED]


def constrained(model: Any, tokenizer: Any, prompts: Sequence[list[int]], answers: Sequence[Ids]) -> list[Ids]:
    """The answer to each of a batch of prompts, word by word the likeliest of those that lead to one of `answers`."""
    after: dict[Ids, set[int]] = {}
    for answer in answers:
        for length, token in enumerate(answer):
            after.setdefault(answer[:length], set()).add(token)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model.eval()
    ids, mask = (part.to(model.device) for part in padded(prompts, pad, left=True))
    longest = ids.shape[1]

    def allowed(_row: int, so_far: torch.Tensor) -> list[int]:
        return sorted(after.get(tuple(so_far[longest:].tolist()), {pad}))

    with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
        made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=pad,
                              max_new_tokens=max(map(len, answers)), prefix_allowed_tokens_fn=allowed)  # fmt: skip
    return [_whole(tuple(row), after) for row in made[:, longest:].tolist()]


def _whole(made: Ids, after: dict[Ids, set[int]]) -> Ids:
    """What was made, up to where an answer ends."""
    length = 0
    while length < len(made) and made[:length] in after:
        length += 1
    return made[:length]
