"""Measure `forgetting`: what a version still knows of the world, and how well it still reads plain text.

Questions with choices are answered by likelihood: the choice whose text, as the answer, has the highest log-probability
per byte (as in Gao et al.'s Evaluation Harness, `acc_norm`), so no answer has to be parsed. Plain texts are measured in
bits per byte, which are comparable between tokenizers. The base model is asked the same: what it knew before.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.exam_types import Arm, Item, Part, Parts, Room, Scores
from adapters.measure_data import lines, means, user
from adapters.measure_facts import likelihoods
from adapters.measure_pieces import options, sums
from data.errors import DataError, one_line
from data.settings import Frozen

SHIPPED = "general"  # adapters/suites/general.jsonl
WANTED = "lines of question, choices and answer (the right one's number from 0, or its text), or of text"
Line = dict[str, Any]


class ForgettingOptions(Frozen):
    """It has none."""


class Question(Frozen):
    """A question with answers to choose among."""

    question: str
    choices: tuple[str, ...]
    answer: int  # the right one's place
    topic: str | None = None


def measure(room: Room, part: Part) -> list[Scores]:
    """Share of right choices, what of it was lost, and bits per byte. Raises `DataError` for lines of neither sort."""
    options(part, ForgettingOptions)
    questions, texts = read(part, lines(room, part, SHIPPED, WANTED))
    return [*(_choices(room, part, questions) if questions else []), *(_texts(room, part, texts) if texts else [])]


def read(part: Part, found: Sequence[Line]) -> tuple[list[Question], list[str]]:
    """(questions, plain texts) of a part's lines."""
    questions, texts = [], []
    for line in found:
        if isinstance(text := line.get("text"), str) and text.strip():
            texts.append(text)
        else:
            questions.append(_question(part, line))
    if not questions and not texts:
        raise DataError(f"'{part.prefix}' found no lines in {part.data}; wanted {WANTED}")
    return questions, texts


def _question(part: Part, line: Line) -> Question:
    question, some, right = line.get("question"), line.get("choices"), line.get("answer")
    where = f"{part.data or part.prefix}: {one_line(question or line, 60)}"
    if not isinstance(question, str) or not isinstance(some, list) or len(some) < 2:
        raise DataError(f"{where}: wanted {WANTED}")
    texts = [str(one) for one in some]
    if isinstance(right, str) and right in texts:
        right = texts.index(right)
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(texts):
        raise DataError(f"{where}: answer is {right!r}, wanted 0 to {len(texts) - 1} or the text of a choice")
    topic = line.get("topic")
    return Question(question=question, choices=tuple(texts), answer=right, topic=str(topic) if topic else None)


def _choices(room: Room, part: Part, questions: Sequence[Question]) -> list[Scores]:
    prompts, every = [user(one.question) for one in questions], [one.choices for one in questions]
    taken = {
        arm: [_likeliest(*both) for both in zip(every, likelihoods(room, arm, prompts, every), strict=True)]
        for arm in room.arms
    }
    items = [Item(one.question, {arm: some[n] for arm, some in taken.items()}, one.topic)
             for n, one in enumerate(questions)]  # fmt: skip
    right = {arm: [float(text == one.choices[one.answer]) for text, one in zip(some, questions, strict=True)]
             for arm, some in taken.items()}  # fmt: skip
    found = [means(f"{part.prefix}.choice", "higher", items, right, note="right answers among the choices")]
    if (before := next((arm for arm in ("base", "against") if arm in right), None)) is not None:
        lost = [old - new for old, new in zip(right[before], right["version"], strict=True)]
        what = "the base model" if before == "base" else "the version before"
        found.append(means(f"{part.prefix}.drop", "lower", items, {"version": lost},
                           note=f"share of right answers lost against {what}"))  # fmt: skip
    return found


def _likeliest(choices: Sequence[str], nats: Sequence[float]) -> str:
    """The choice with the most nats per byte; nothing where the context has no room for any."""
    each = [one / len(text.encode()) for one, text in zip(nats, choices, strict=True)]
    return choices[each.index(max(each))] if max(each) > -math.inf else ""


def _texts(room: Room, part: Part, texts: Sequence[str]) -> list[Scores]:
    parts: dict[Arm, Parts] = {}
    for arm in room.arms:
        nats = sums(room.likelihoods(arm, [None] * len(texts), texts))
        parts[arm] = np.array([[-n / math.log(2), len(t.encode())] for n, t in zip(nats, texts, strict=True)])
    return [Scores(f"{part.prefix}.bits_per_byte", "bits", "lower", parts, [Item(text) for text in texts],
                   note="of plain texts; log2 of the perplexity per byte")]  # fmt: skip
