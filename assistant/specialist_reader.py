"""A specialist that answers with a piece of the text which a question comes with: an extractive reader.

The text's sentences are ranked by their likeness to the question; each word then gets the odds that an answer begins
or goes on there, from its shape, its place and the question's words beside it; the best run of words is the answer.
The approach is that of the logistic-regression baseline in Rajpurkar et al. (2016), "SQuAD".
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapters.measure_task import token_f1
from assistant.specialist_logistic import Linear, choose, matrix, vocabulary
from assistant.specialist_tags import shape
from assistant.specialist_types import Answerer, Floats, Learned, Lesson, Tools, asked, targets
from data.errors import DataError

OUT, BEGIN, INSIDE = range(3)
SHIFTS = (-0.5, 0.0, 0.5, 1.0, 1.5)  # nats; for longer answers or shorter ones
_LEAST = 0.6  # of the answers must stand in their texts, else another kind fits better
_JUDGED = 200  # validation records at most
_COMMON = 80  # of the training questions' words: those that say what is asked for ("who", "many", "wann")
# A word, or a sign; of scripts that put no blanks between words, a single character.
_TOKEN = re.compile(r"[\u0e01-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+(?:[.,'’][^\W_]+)*|\S")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[。！？؟।])|\n+")
_QUESTION = re.compile("[?？؟\u037e]\\s*$")
_PASSAGE = re.compile(
    r"^\[\d+\] .*\n(?=> )", re.MULTILINE
)  # as passages stand in prompts: a heading, then quoted lines
_LABEL = re.compile(r"^\s*\w{1,20}:\s+")  # "Question: …"


class Token(NamedTuple):
    """A word of the text, and where it stands."""

    text: str
    start: int
    end: int
    sentence: int


class Page(NamedTuple):
    """A prompt, taken apart."""

    question: str
    text: str
    sentences: tuple[str, ...]
    tokens: tuple[Token, ...]


def learn(lesson: Lesson) -> Learned:
    """Weights of features. Raises `DataError` where the answers do not stand in their prompts."""
    pages = [page(asked(row)) for row in lesson.train]
    places = [_place(one, targets(row)[0]) for one, row in zip(pages, lesson.train, strict=True)]
    found = [n for n, place in enumerate(places) if place]
    if len(found) < max(1, _LEAST * len(pages)):
        raise DataError(
            f"'extract' gives pieces of the text that a question comes with, but only {len(found)} of {len(pages)} "
            f"answers in {lesson.task.dataset} stand in their prompts; another kind fits: nearest-answer"
        )
    counts = Counter(word for one in pages for word in set(_words(one.question)))
    common = frozenset(word for word, _ in counts.most_common(_COMMON))
    held_out = lesson.validation[:_JUDGED]
    later = [page(asked(row)) for row in held_out]
    likeness = _likeness([*pages, *later], lesson.tools)
    rows, labels, weights = [], [], []
    for n in found:
        first, last = _nearest(places[n], pages[n], likeness[n])
        some = features(pages[n], likeness[n], common)
        rows += some
        labels += [BEGIN if at == first else INSIDE if first < at <= last else OUT for at in range(len(some))]
        weights += [lesson.train[n].weight] * len(some)
    known = vocabulary(rows, 1 if len(found) < 50 else 3)
    lesson.tools.tell(f"learning where answers stand from {len(found)} texts")
    longest = int(np.percentile([last - first + 1 for n in found for first, last in places[n]], 98))
    asked_later = [
        matrix(features(one, like, common), known) for one, like in zip(later, likeness[len(pages) :], strict=True)
    ]

    def judged(linear: Linear, shift: float = 0.0) -> float:
        given = [best(one, linear.log_shares(m), longest, shift) for one, m in zip(later, asked_later, strict=True)]
        return float(np.mean([token_f1(a, targets(row)[0]) for a, row in zip(given, held_out, strict=True)]))

    chosen = choose(matrix(rows, known), labels, 3, weights, judged if later else None, (0.03, 0.3, 3.0))
    score, shift = max((judged(chosen.linear, by), -abs(by), by) for by in SHIFTS)[::2] if later else (None, 0.0)
    facts = {"features": list(known), "common": sorted(common), "longest": longest, "shift": shift}
    notes = (
        f"{len(found)} of {len(pages)} answers stand in their texts",
        f"C = {chosen.strength:g}, shift = {shift:g}",
    )
    return Learned(chosen.linear.arrays, facts, score, notes, metric="token_f1")


def open_reader(learned: Learned, tools: Tools) -> Answerer:
    """Pieces of the prompts' texts."""
    linear, facts = Linear.of(learned.arrays), learned.facts
    known, common = {feature: n for n, feature in enumerate(facts["features"])}, frozenset(facts["common"])

    def answers(prompts: Sequence[str]) -> list[str]:
        pages = [page(prompt) for prompt in prompts]
        likeness = _likeness(pages, tools)
        return [
            best(one, linear.log_shares(matrix(features(one, like, common), known)), facts["longest"], facts["shift"])
            for one, like in zip(pages, likeness, strict=True)
        ]  # fmt: skip

    return answers


def page(prompt: str) -> Page:
    """A prompt's question and its text: a line that asks (the last, the first, one between), else the last line."""
    prompt = re.sub(r"^> ", "", _PASSAGE.sub("", prompt), flags=re.MULTILINE)
    lines = [line for line in prompt.split("\n") if line.strip()] or [""]
    if len(lines) == 1:
        lines = [part for part in _SENTENCE.split(lines[0]) if part.strip()]
    ends = (len(lines) - 1, 0, *reversed(range(len(lines))))
    at = next((n for n in ends if lines and _QUESTION.search(lines[n])), len(lines) - 1)
    rest = lines[:at] + lines[at + 1 :]
    text, begins = "\n".join(rest), 0
    tokens: list[Token] = []
    sentences: list[str] = []
    for part in _SENTENCE.split(text):
        begins = text.index(part, begins)
        if part.strip():
            tokens += [Token(m[0], begins + m.start(), begins + m.end(), len(sentences)) for m in _TOKEN.finditer(part)]
            sentences.append(part.strip())
        begins += len(part)
    return Page(_LABEL.sub("", lines[at] if lines else ""), text, tuple(sentences), tuple(tokens))


def features(one: Page, likeness: Floats, common: frozenset[str]) -> list[list[str]]:
    """What is known of each word of a page: itself, its neighbours, its sentence, the question's words near it."""
    question = set(_words(one.question))
    content, kinds = question - common, sorted(question & common)
    start = " ".join(_words(one.question)[:2])
    rank = np.argsort(np.argsort(-likeness, kind="stable"), kind="stable") if len(likeness) else likeness
    near = [t.text.casefold() in content for t in one.tokens]
    beside = _distances(one, near)
    found = []
    for at, token in enumerate(one.tokens):
        low, form = token.text.casefold(), shape(token.text)
        before = one.tokens[at - 1].text.casefold() if at else "\x02"
        after = one.tokens[at + 1].text.casefold() if at + 1 < len(one.tokens) else "\x03"
        place = f"{min(int(rank[token.sentence]), 4)}"
        said = "q" if near[at] else "c" if low in question else "-"
        names = [
            f"r={place}", f"said={said}", f"r&d={place}&{beside[at]}", f"f={form}", f"w={low}", f"b={before}",
            f"a={after}", f"b&f={before}&{form}", f"start&f={start}&{form}", f"start&b={start}&{before}",
            f"said&r={said}&{place}", f"fb={shape(before)}&{form}", f"fa={form}&{shape(after)}", f"s={low[-3:]}",
            f"start&s={start}&{low[-3:]}", f"f&r={form}&{place}",
        ]  # fmt: skip
        found.append(names + [f"k&f={kind}&{form}" for kind in kinds])
    return found


def best(one: Page, shares: Floats, longest: int, shift: float = 0.0) -> str:
    """The run of words within a sentence whose odds to be an answer are best. `shares`: [words, out/begin/inside].

    A positive `shift` (nats) makes longer answers.
    """
    if not one.tokens:
        return ""
    odds = shares - shares[:, [OUT]] + shift * np.array([0, 0, 1])
    top, span = -np.inf, (0, 0)
    for first, token in enumerate(one.tokens):
        score = odds[first, BEGIN]
        for last in range(first, min(first + longest, len(one.tokens))):
            if one.tokens[last].sentence != token.sentence:
                break
            score += odds[last, INSIDE] if last > first else 0
            ends = last + 1 == len(one.tokens) or one.tokens[last + 1].sentence != token.sentence
            whole = score - (0 if ends else np.logaddexp(0, odds[last + 1, INSIDE]))
            if whole > top:
                top, span = float(whole), (first, last)
    return one.text[one.tokens[span[0]].start : one.tokens[span[1]].end]


def _likeness(pages: Sequence[Page], tools: Tools) -> list[Floats]:
    """For each page, the cosine of each sentence with the question; equal sentences are embedded once."""
    texts = list(dict.fromkeys(text for one in pages for text in (one.question, *one.sentences)))
    number = {text: n for n, text in enumerate(texts)}
    vectors = tools.vectors(texts)
    return [
        vectors[[number[text] for text in one.sentences]] @ vectors[number[one.question]] for one in pages
    ]  # fmt: skip


def _distances(one: Page, near: Sequence[bool]) -> list[str]:
    """How far each word is from the question's nearest own word in its sentence, and on which side of it."""
    found = []
    marks = [at for at, is_near in enumerate(near) if is_near]
    for at, token in enumerate(one.tokens):
        ways = [at - m for m in marks if one.tokens[m].sentence == token.sentence]
        way = min(ways, key=abs, default=None)
        size = 9 if way is None else abs(way) if abs(way) < 4 else 4 if abs(way) < 8 else 8
        found.append(f"{size}{'' if way is None or way == 0 else '<' if way < 0 else '>'}")
    return found


def _place(one: Page, answer: str) -> list[tuple[int, int]]:
    """Where the answer stands in the text: (first word, last word), each time."""
    wanted = [m[0].casefold() for m in _TOKEN.finditer(answer)]
    given = [token.text.casefold() for token in one.tokens]
    ends = range(len(given) - len(wanted) + 1) if wanted else range(0)
    return [(n, n + len(wanted) - 1) for n in ends if given[n : n + len(wanted)] == wanted]


def _nearest(places: Sequence[tuple[int, int]], one: Page, likeness: Floats) -> tuple[int, int]:
    """Of several places, the one in the sentence that is most like the question."""
    return max(places, key=lambda place: likeness[one.tokens[place[0]].sentence])


def _words(text: str) -> list[str]:
    return [m[0].casefold() for m in _TOKEN.finditer(text) if m[0][0].isalnum()]
