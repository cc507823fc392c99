"""Does it say the same whatever it is asked? Identical answers, words said again within one, phrases shared by many.

All three are 0 for answers that have nothing in common, and near 1 for a version that learnt one phrase by heart. A
brand's own closing line makes the third rise a little: compare with the figure of its own texts, which the note gives.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters.exam_types import Answer, Arm, Item, Part, Parts, Room, Scores
from adapters.measure_data import asked, last_question, lines, means, option, told, user
from data.records import question

GRAM = 4  # words
SHARED = 0.25  # of the answers: a phrase that so many hold is shared


def measure(room: Room, part: Part) -> list[Scores]:
    """Of answers to a dataset's questions, or to lines with a `prompt`; without data, to the shipped everyday ones.

    Options: `shared` (0.25), the share of answers that must hold a phrase for it to be a shared one.
    """
    prompts: list[Any]
    brand: list[str] = []
    if part.data is None:
        prompts = [user(str(line["prompt"])) for line in lines(room, part, "everyday", "prompts")]
    else:
        rows = room.rows(part)
        found = asked(rows)
        prompts = [one.messages for one in found] or [user(question(row.record)) for row in rows]
        brand = [one.text for one in found]
    answers = {arm: room.answers(arm, prompts) for arm in room.arms}
    items = told([last_question(prompt) for prompt in prompts], answers)
    return repetition(part, items, answers, brand)


def repetition(
    part: Part, items: Sequence[Item], answers: Mapping[Arm, Sequence[Answer]], brand: Sequence[str]
) -> list[Scores]:
    """The three figures of answers that are there already. Also what `voice` adds to its own."""
    texts = {arm: [answer.text for answer in some] for arm, some in answers.items()}
    prompts = [item.prompt for item in items]
    wide = option(part, "shared", SHARED)
    same = {arm: identical(prompts, some) for arm, some in texts.items()}
    again = {arm: repeated(some) for arm, some in texts.items()}
    phrases = {arm: shared(some, wide) for arm, some in texts.items()}
    own = f"The brand's own texts: {_mean(shared(brand, wide)):.2f}." if brand else ""
    return [
        means(f"{part.prefix}.identical", "lower", items, same),
        Scores(f"{part.prefix}.repeated", "share", "lower", again, items),
        Scores(f"{part.prefix}.shared_phrases", "share", "lower", phrases, items, note=own),
    ]


def identical(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Of each answer 1 if another prompt has the same answer, but for case, spaces and signs; an empty one too."""
    keys = [" ".join(words(text)) for text in texts]
    who: dict[str, set[str]] = {}
    for prompt, key in zip(prompts, keys, strict=True):
        who.setdefault(key, set()).add(prompt)
    return [float(not key or len(who[key]) > 1) for key in keys]


def repeated(texts: Sequence[str]) -> Parts:
    """(words in four-word sequences that stood in the same answer before, words): 1 − distinct-4 (after Li 2016)."""
    parts = []
    for text in texts:
        grams = _grams(words(text))
        parts.append((float(len(grams) - len(set(grams))), float(max(len(grams), 1))))
    return np.array(parts, dtype=np.float64).reshape(-1, 2)


def shared(texts: Sequence[str], wide: float) -> Parts:
    """(words of each answer within four-word phrases that a share `wide` of all answers hold, words).

    At least three answers must hold it. Answers of fewer than four words are looked at whole.
    """
    said = [words(text) for text in texts]
    held = Counter(gram for some in said for gram in set(_grams(some)))
    least = max(3.0, wide * len(texts))
    common = {gram for gram, count in held.items() if count >= least}
    parts = []
    for some in said:
        inside = np.zeros(len(some), dtype=bool)
        for place, gram in enumerate(_grams(some)):
            if gram in common:
                inside[place : place + GRAM] = True
        parts.append((float(inside.sum()), float(max(len(some), 1))))
    return np.array(parts, dtype=np.float64).reshape(-1, 2)


def _mean(parts: Parts) -> float:
    return float(parts[:, 0].sum() / parts[:, 1].sum())


def words(text: str) -> list[str]:
    """Words and signs of scripts without spaces, without case and marks."""
    found: list[str] = []
    for word in text.casefold().split():
        bare = "".join(c for c in word if c.isalnum())
        found += list(bare) if any(c >= "\u3040" for c in bare) else [bare] * bool(bare)
    return found


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    if len(words) < GRAM:
        return [tuple(words)] if words else []
    return [tuple(words[place : place + GRAM]) for place in range(len(words) - GRAM + 1)]
