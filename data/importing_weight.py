"""How much a row of what people said counts, as far as its file says so."""

import math
from typing import Any

from data.errors import one_line
from data.records import Kind

WEIGHTED: tuple[Kind, ...] = ("preference", "ranking", "rated")  # what people said of answers


def weight_of(row: Any, kind: Kind) -> float:
    """How much what people said counts: the column `weight`, as exports write it; without one, 1.

    Raises `ValueError` if it is no number above 0.
    """
    given = row.get("weight") if isinstance(row, dict) and kind in WEIGHTED else None
    if given in (None, ""):
        return 1.0
    try:
        weight = float(given)
    except (TypeError, ValueError):
        weight = 0.0
    if not 0 < weight < math.inf:
        raise ValueError(f"weight is {one_line(given, 40)}, wanted a number above 0")
    return weight
