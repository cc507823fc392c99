"""The measure `task` where answers are JSON objects: which fields are right, and whether it is JSON at all.

F1 over (field, value) pairs, as information extraction is scored (slots; Makhoul et al. 1999): a field that is missing
counts as much as one that was made up. Objects within objects are taken apart; a list's values may stand in any order.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapters.exam_types import Arm, Item, Part, Scores
from adapters.measure_data import means

Fields = Counter[tuple[str, str]]  # (path, value)


def fields(text: str) -> Fields | None:
    """The fields of a JSON object; none where the text is no such thing. An empty field (null) counts as missing."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return Counter(_flat("", found)) if isinstance(found, dict) else None


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(f"{path}[]", inner)
    elif isinstance(value, str):
        yield path, " ".join(value.casefold().split())
    elif value is not None:
        yield path, json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def overlap(given: str, wanted: str) -> tuple[float, float]:
    """(twice the fields that are right, those given and those wanted together): F1 is the first over the second."""
    mine, theirs = fields(given) or Counter(), fields(wanted) or Counter()
    return 2.0 * (mine & theirs).total(), float(mine.total() + theirs.total())


def field_scores(part: Part, given: Mapping[Arm, Sequence[str]], wanted: Sequence[str],
                 items: Sequence[Item]) -> list[Scores]:  # fmt: skip
    """Two figures, if every wanted answer is a JSON object; else none."""
    if any(fields(text) is None for text in wanted):
        return []
    right = {arm: np.array([overlap(*pair) for pair in zip(some, wanted, strict=True)]) for arm, some in given.items()}
    valid = {arm: [float(fields(text) is not None) for text in some] for arm, some in given.items()}
    note = "of all fields: name and value"
    return [
        Scores(f"{part.prefix}.field_f1", "share", "higher", right, items, note=note),
        means(f"{part.prefix}.valid_json", "higher", items, valid),
    ]
