"""A specialist that tags words: a word, its neighbours, its shape; logistic regression; and only tags that may follow.

The likeliest row of tags is found after Viterbi (1967). Of tags in BIO form, an I- tag stands only behind a B- or I-
tag of its own type; other tags may follow each other as they like.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from adapters.measure_task_labels import spans
from assistant.specialist_logistic import Linear, choose, matrix, vocabulary
from assistant.specialist_types import Answerer, Floats, Learned, Lesson, Tools, tagged, targets, words_of

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # nats that the tag of words without a name is held back by
OUTSIDE = "O"
_RUN = re.compile(r"(.)\1+")
_AROUND = (-2, -1, 1, 2)
Judge = Callable[[Sequence[Sequence[str]]], float]


def learn(lesson: Lesson) -> Learned:
    """Weights of features; the strength, and how far O is held back, are chosen on the validation records."""
    tags = lesson.labels
    number = {tag: n for n, tag in enumerate(tags)}
    texts = [words_of(row) for row in lesson.train]
    rows = [features(words, at) for words in texts for at in range(len(words))]
    known = vocabulary(rows, 1 if len(rows) < 2000 else 2)
    lesson.tools.tell(f"learning {len(tags)} tags from {len(rows)} words")
    wanted = [number[tag] for row in lesson.train for tag in targets(row)]
    weights = [row.weight for row in lesson.train for _ in words_of(row)]
    held_out = [words_of(row) for row in lesson.validation]
    later = matrix([features(words, at) for words in held_out for at in range(len(words))], known)
    judge = tag_judge([targets(row) for row in lesson.validation])

    def judged(linear: Linear) -> float:
        return best_shift(tags, _split(linear.log_shares(later), held_out), judge)[1]

    found = choose(matrix(rows, known), wanted, len(tags), weights, judged if held_out else None, (0.3, 1.0, 3.0))
    shift, score = 0.0, None
    if held_out:
        shift, score = best_shift(tags, _split(found.linear.log_shares(later), held_out), judge)
    facts = {"tags": tags, "features": list(known), "shift": shift}
    notes = (f"C = {found.strength:g}", f"O held back by {shift:g}")
    return Learned(found.linear.arrays, facts, score, notes, metric="entity_f1" if judges_names(tags) else "accuracy")


def open_tagger(learned: Learned, _tools: Tools) -> Answerer:
    """Each word of a text with its tag, one a line. Words are what stands between blanks."""
    facts, linear = learned.facts, Linear.of(learned.arrays)
    known = {feature: n for n, feature in enumerate(facts["features"])}

    def answers(texts: Sequence[str]) -> list[str]:
        split = [text.split() for text in texts]
        rows = matrix([features(words, at) for words in split for at in range(len(words))], known)
        shares = _split(linear.log_shares(rows), split)
        return [
            tagged(words, decoded(facts["tags"], some, facts["shift"]))
            for words, some in zip(split, shares, strict=True)
        ]

    return answers


def features(words: Sequence[str], at: int) -> list[str]:
    """What is known of the word at `at`: itself, its ends, its shape; the same of its neighbours, and who they are."""
    word = words[at]
    low, form = word.casefold(), shape(word)
    found = [f"w={low}", f"f={form}", f"x={word}", f"n={min(len(word), 12)}"]
    found += [f"s={low[-n:]}" for n in (1, 2, 3, 4) if len(low) > n] + [
        f"p={low[:n]}" for n in (1, 2, 3) if len(low) > n
    ]
    for by in _AROUND:
        there = 0 <= at + by < len(words)
        other = words[at + by] if there else "\x02"
        found += [f"w{by}={other.casefold()}", f"f{by}={shape(other)}"]
        if abs(by) == 1:
            found += [f"w{by}&f={other.casefold()}&{form}", f"f{by}&f={shape(other)}&{form}"]
            found += [f"s{by}={other.casefold()[-3:]}"]
    return found


def shape(word: str) -> str:
    """What a word is made of: X for capitals, x for small letters, 9 for digits, other signs; without repeats."""
    kinds = "".join(
        "X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in word[:20]
    )  # fmt: skip
    return _RUN.sub(r"\1", kinds)


def tag_judge(wanted: Sequence[Sequence[str]]) -> Judge:
    """A function that judges tags: F1 of whole names in BIO form, else the share of right tags."""
    names = [spans(tags) for tags in wanted]
    by_name = judges_names([tag for tags in wanted for tag in tags])

    def judge(given: Sequence[Sequence[str]]) -> float:
        if not by_name:
            pairs = [(a, b) for one, two in zip(wanted, given, strict=True) for a, b in zip(one, two, strict=True)]
            return float(np.mean([a == b for a, b in pairs]))
        said = [spans(tags) for tags in given]
        right = sum(len(a & b) for a, b in zip(names, said, strict=True))
        return 2 * right / max(1, sum(map(len, names)) + sum(map(len, said)))

    return judge


def judges_names(tags: Sequence[str]) -> bool:
    """Whether tags have BIO form, so that whole names are judged."""
    return any(tag.startswith("B-") for tag in tags)


def best_shift(tags: Sequence[str], texts: Sequence[Floats], judge: Judge) -> tuple[float, float]:
    """How far O is best held back, and what the judge then says. `texts`: each text's [words, tags]."""
    tried = [(judge([decoded(tags, shares, shift) for shares in texts]), shift) for shift in SHIFTS]
    score, shift = max(tried, key=lambda one: (one[0], -one[1]))
    return shift, score


def decoded(tags: Sequence[str], shares: Floats, shift: float = 0.0) -> list[str]:
    """The likeliest row of tags. `shares`: [words, tags], log-probabilities; O counts as less likely by `shift`."""
    if not len(shares):
        return []
    may, first = _transitions(tags)
    shares = shares - shift * np.array([tag == OUTSIDE for tag in tags])
    best, back = shares[0] + first, np.zeros(shares.shape, int)
    for at in range(1, len(shares)):
        ways = best[:, None] + may
        back[at] = ways.argmax(axis=0)
        best = ways.max(axis=0) + shares[at]
    path = [int(best.argmax())]
    for at in range(len(shares) - 1, 0, -1):
        path.append(int(back[at, path[-1]]))
    return [tags[n] for n in reversed(path)]


def _transitions(tags: Sequence[str]) -> tuple[Floats, Floats]:
    """0 where a tag may follow another ([from, to]), or stand first; far below it where it may not."""
    whole = {tag[2:] for tag in tags if tag.startswith("B-")}  # types that have a beginning of their own
    inner = [tag[2:] if tag.startswith("I-") and tag[2:] in whole else None for tag in tags]
    may = np.array([[kind is None or tag[:2] in ("B-", "I-") and tag[2:] == kind for kind in inner] for tag in tags])
    return np.where(may, 0.0, -1e6), np.where([kind is None for kind in inner], 0.0, -1e6)


def _split(rows: Any, texts: Sequence[Sequence[str]]) -> list[Floats]:
    return list(_pieces(rows, texts))


def _pieces(rows: Any, texts: Sequence[Sequence[str]]) -> Iterator[Floats]:
    done = 0
    for words in texts:
        yield rows[done : done + len(words)]
        done += len(words)
