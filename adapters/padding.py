"""Rows of unequal length as one batch. Imports torch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], pad_id: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """(token ids, mask), both [rows, longest]; the mask is 0 where a row was filled up, after it or before it."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        part = slice(-len(row), None) if left else slice(len(row))
        ids[number, part], mask[number, part] = torch.tensor(row), 1
    return ids, mask
