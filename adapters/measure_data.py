"""What measures share: their lines, shipped or a user's; answers for the report; means as `Scores`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from adapters.exam_types import Answer, Arm, Better, Item, Messages, Part, Parts, Room, Scores
from data.errors import BrogueError, DataError

SUITES = "suites"  # the folder of the package with what is shipped
Line = dict[str, Any]


def lines(room: Room, part: Part, shipped: str | None, wanted: str) -> list[Line]:
    """The objects of the part's file; without one, those of `<shipped>.jsonl` in the package, at most `limit`.

    `wanted` says what a file of one's own must hold. Raises `BrogueError` where there is neither.
    """
    if part.data is not None:
        return room.lines(part)
    if shipped is None:
        raise BrogueError(f"the measure '{part.measure}' wants data with {wanted}; add `data: FILE` to it in the suite")
    return sorted(load(shipped), key=_hashed)[: part.limit]


def load(name: str) -> list[Line]:
    """The objects of `<name>.jsonl` in the package."""
    text = (files("adapters") / SUITES / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def listed(name: str) -> tuple[str, ...]:
    """The lines of `<name>.txt` in the package: words and phrases."""
    text = (files("adapters") / SUITES / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(filter(None, text.splitlines()))


def _hashed(line: Line) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()


def field(part: Part, line: Mapping[str, Any], *names: str) -> Any:
    """The first of the fields that a line has. Raises `DataError` that says what it has instead."""
    for name in names:
        if line.get(name) not in (None, ""):
            return line[name]
    have = ", ".join(str(key) for key in line)[:120]
    raise DataError(
        f"{part.data or part.measure}: a line has no '{names[0]}' (it has: {have}); see docs/exam-measures.md"
    )


def texts_of(part: Part, line: Mapping[str, Any], *names: str) -> list[str]:
    """A field that is a list of texts; a table's cell is cut at its semicolons. Raises `DataError`."""
    found = field(part, line, *names)
    some = found.split(";") if isinstance(found, str) else found
    if not isinstance(some, list) or not all(isinstance(one, str) for one in some):
        raise DataError(f"{part.data or part.measure}: '{names[0]}' is not a list of texts; see docs/exam-measures.md")
    return [one.strip() for one in some if one.strip()]


def user(text: str) -> Messages:
    """A conversation that is one question."""
    return [{"role": "user", "content": text}]


def last_question(messages: Messages) -> str:
    """The question as a report shows it."""
    return str(messages[-1]["content"])


def told(
    prompts: Sequence[str], answers: Mapping[Arm, Sequence[Answer]], slices: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
) -> list[Item]:  # fmt: skip
    """Prompts with all arms' answers to them, for the report."""
    return [
        Item(prompt, {arm: some[place].text for arm, some in answers.items()}, slices[place] if slices else None,
             groups[place] if groups else None)
        for place, prompt in enumerate(prompts)
    ]  # fmt: skip


def mean_parts(scores: Sequence[float | None]) -> Parts:
    """(score, 1) of each item; (0, 0) where it has no score."""
    return np.array([(0.0, 0.0) if s is None else (float(s), 1.0) for s in scores], dtype=np.float64).reshape(-1, 2)


def means(
    name: str, better: Better, items: Sequence[Item], scores: Mapping[Arm, Sequence[float | None]], *,
    unit: str = "share", note: str = "", decides: bool = True,
) -> Scores:  # fmt: skip
    """A figure that is the mean of its items' scores."""
    parts = {arm: mean_parts(some) for arm, some in scores.items()}
    return Scores(name, unit, better, parts, items, note=note, decides=decides)


def is_file(part: Part) -> bool:
    """Is the part's data a file, by its whole path, rather than a dataset's name?"""
    return part.data is not None and "/" in part.data
