"""Does it say the same whatever it is asked? Identical answers, words said again within one, phrases shared by many.

All three are 0 for answers that have nothing in common, and near 1 for a version that learnt one phrase by heart. A
brand's own closing line makes the third rise a little: compare with the figure of its own texts, which the note gives.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from adapters.exam_types import Arm, Item, Messages, Part, Parts, Room, Scores
from adapters.measure_data import field, is_file, last_question, lines, means, told, user
from adapters.measure_pieces import AskOptions, held_out, messages, options
from adapters.measure_task import words
from data.dataset import Row
from data.records import LabelledRecord, answer

GRAM = 4  # words


class RepetitionOptions(AskOptions):
    """Options."""

    shared: float = Field(0.25, gt=0, le=1)  # of the answers: a phrase that so many hold is shared


def measure(room: Room, part: Part) -> list[Scores]:
    """Of answers to a dataset's questions, or to a file's lines with a `prompt`; without data, to the shipped ones."""
    chosen = options(part, RepetitionOptions)
    rows: Sequence[Row] = []
    if part.data is None or is_file(part):
        prompts = [user(str(field(part, line, "prompt"))) for line in lines(room, part, "everyday", "prompts")]
    else:
        rows = held_out(room, part)
        prompts = [messages(row.record) for row in rows]
    answers = {arm: room.answers(arm, prompts, **chosen.sampling) for arm in room.arms}
    items = told([last_question(prompt) for prompt in prompts], answers)
    texts = {arm: [one.text for one in some] for arm, some in answers.items()}
    wide = chosen.shared
    own = _own(rows, wide)
    return [
        means(f"{part.prefix}.identical", "lower", items, {a: identical(prompts, some) for a, some in texts.items()}),
        _words_of(f"{part.prefix}.repeated", items, {arm: repeated(some) for arm, some in texts.items()}),
        _words_of(
            f"{part.prefix}.shared_phrases", items, {arm: shared(some, wide) for arm, some in texts.items()}, own
        ),
    ]


def _words_of(name: str, items: Sequence[Item], parts: Mapping[Arm, Parts], note: str = "") -> Scores:
    return Scores(name, "share", "lower", parts, items, note=note)


def _own(rows: Sequence[Row], wide: float) -> str:
    """What the data's own answers have, so that a closing line that all of them share is not taken for a fault."""
    texts = [answer(row.record) for row in rows if not isinstance(row.record, LabelledRecord)]
    if not texts:
        return ""
    sums = shared(texts, wide).sum(0)
    return f"The data's own answers: {sums[0] / sums[1]:.2f}."


def identical(prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
    """Of each answer 1 if another prompt has the same answer, but for case, spaces and signs; an empty one too."""
    keys = [" ".join(words(text)) for text in texts]
    who: dict[str, set[str]] = {}
    for prompt, key in zip(prompts, keys, strict=True):
        who.setdefault(key, set()).add(str(prompt))
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


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    if len(words) < GRAM:
        return [tuple(words)] if words else []
    return [tuple(words[place : place + GRAM]) for place in range(len(words) - GRAM + 1)]
