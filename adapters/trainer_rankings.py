"""A reward model on whole rankings: Plackett and Luce's likelihood of the order, tied answers apart.

Its maximum-likelihood estimate is asymptotically more efficient than that from all pairs (Zhu, Jordan and Jiao 2023,
"Principled reinforcement learning with human feedback from pairwise or K-wise comparisons", ICML, section 4), and each
answer is read once instead of in every pair. Of two answers it is Bradley and Terry's.
"""
# ruff: noqa: ARG002 (the trainer's own signatures)

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from trl import RewardTrainer

from adapters.trainer_pairs import _Ours


def plackett_luce(scores: Tensor, ranks: Tensor) -> Tensor:
    """Minus the log-likelihood of a ranking, in nats: the sum over answers that have worse ones below them.

    `scores` [k] and `ranks` [k], 0 is best. Each answer is chosen before all worse ones; tied answers do not compete
    (Plackett 1975, Appl. Statist. 24:193; ties as Breslow's in Cox's partial likelihood, the tied ones left out).
    """
    worse = ranks[None, :] > ranks[:, None]
    rivals = worse | torch.eye(len(ranks), dtype=torch.bool, device=ranks.device)
    against = scores[None, :].expand(len(ranks), -1).masked_fill(~rivals, -torch.inf).logsumexp(1)
    return (against - scores)[worse.any(1)].sum()


class RankTrainer(_Ours, RewardTrainer):  # type: ignore[misc]
    """One score for each answer of a ranking."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.data_collator: Any = _Flat(options["processing_class"].pad_token_id)

    def scores(self, model: Any, inputs: dict[str, Any]) -> list[Tensor]:
        """The answers' scores, ranking by ranking."""
        rest = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        found = model(**rest, use_cache=False).logits.float().squeeze(-1)
        return list(found.split(inputs["sizes"].tolist()))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted mean over the batch's choices: an order of k answers without ties is k - 1 of them."""
        ranks = inputs["ranks"].split(inputs["sizes"].tolist())
        choices = sum(int((some < some.max()).sum()) for some in ranks)
        losses = [plackett_luce(s, r) for s, r in zip(self.scores(model, inputs), ranks, strict=True)]
        loss = (inputs["weight"] * torch.stack(losses)).sum() / choices
        return (loss, None) if return_outputs else loss

    def held_out(self, data: Dataset) -> list[float]:
        """The margins of the `pairs` of all rankings."""
        found: list[float] = []
        self.model.eval()
        for batch in DataLoader(data, batch_size=self.args.eval_batch_size, collate_fn=self.data_collator):
            with torch.no_grad(), self.accelerator.autocast():
                inputs = self._prepare_inputs(batch)
                scores = self.scores(self.model, inputs)
            for some, ranks in zip(scores, inputs["ranks"].split(inputs["sizes"].tolist()), strict=True):
                found += [float(some[a] - some[b]) for a, b in _unequal(ranks.tolist())]
        return found

    def pairs(self, data: Dataset) -> list[dict[str, Any]]:
        """Every two answers of unequal rank, as `adapters.held_out.pair_scores` takes them."""
        return [
            {"group": row["group"], "chosen_ids": row["answers"][a], "rejected_ids": row["answers"][b]}
            for row in data
            for a, b in _unequal(row["ranks"])
        ]


def _unequal(ranks: Sequence[int]) -> list[tuple[int, int]]:
    """(better, worse), by their places."""
    places = range(len(ranks))
    return [(a, b) for a in places for b in places if ranks[a] < ranks[b]]


class _Flat:
    """All answers of a batch's rankings, one below the other, padded on the right."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        texts = [torch.tensor(row["prompt_ids"] + answer) for row in rows for answer in row["answers"]]
        return {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self._pad_id),
            "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
            "ranks": torch.tensor([rank for row in rows for rank in row["ranks"]]),
            "sizes": torch.tensor([len(row["ranks"]) for row in rows]),
            "weight": torch.tensor([row["weight"] for row in rows]),
        }
