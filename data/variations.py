"""Which of a model's rewordings of a question may stand beside it: tidied, judged alone, then against the dataset.

A small model often answers the question, talks about its task or drifts away. Nothing here knows what a text means:
what is refused is refused by its form, its figures and its words, so that rewordings with wholly other words go too.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from data.checking_texts import UNDETERMINED, language
from data.duplicates import are_near, find_near, words
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
)

# A request in the form of a conversation: these pairs show what is wanted, also to a model that hardly follows words.
INSTRUCTION = (
    "Rewrite this message in other words. Keep its meaning and its language. Answer with the new message only."
)
EXAMPLES = (
    ("where's my parcel, it should have come on monday", "My package was due on Monday. Where is it?"),
    ("Can I pay by invoice?", "Is it possible to be billed instead of paying right away?"),
    ("I want to change the name on my account.", "How do I update my account name?"),
)  # fmt: skip
MAX_WORDS = 150  # of a question to be reworded: longer ones are articles to read, not ways to ask
LIKENESS = 0.5  # to its question, of the letter groups of both (TF-IDF, cosine); see docs/data-growing.md

_LABEL = re.compile(
    r"^(?:in other words|(?:the )?(?:new|rewritten|rephrased)? ?(?:message|version)|paraphrase)\s*:\s*", re.I
)
_QUOTES = ('""', "''", "“”", "‘’", "«»", "„“", "「」")
# What must be said in both: placeholders, addresses, numbers, names of two words inside a sentence.
_FIGURES = re.compile(
    r"\[[A-Z_]+\d*\]|\{\{.*?\}\}|\S+@\S+|https?://\S+|\d+|(?<=[\w,;] )[A-ZÀ-ÞА-Я][\w'’]*\.? [A-ZÀ-ÞА-Я][\w'’]+"
)
_ASKS = re.compile(r"[?？؟]")
# What a model says of its task or of itself; in a rewording only if the question says it too.
_TALK = (
    "message", "rewrit", "rephras", "paraphras", "in other words", "as an ai", "language model", "i'm sorry",
    "i am sorry", "i apologi", "i'm here to", "i'm unable to", "i cannot assist", "i can assist", "the user",
)  # fmt: skip
_AT_ONCE = 256  # variations: bounds the memory of their comparison with all questions

Tell = Callable[[str], None]


class Question(NamedTuple):
    """A question that stands in the dataset."""

    text: str
    label: str | None = None  # of a labelled record


class Variation(NamedTuple):
    """A rewording of the question at position `of`, and why it is refused, if it is."""

    of: int
    text: str
    fault: str | None = None


def request(question: str) -> list[dict[str, str]]:
    """The conversation that asks a model for a rewording."""
    shown = [
        {"role": role, "content": content}
        for before, after in EXAMPLES
        for role, content in (("user", f"{INSTRUCTION}\n\nMessage: {before}"), ("assistant", after))
    ]
    return [*shown, {"role": "user", "content": f"{INSTRUCTION}\n\nMessage: {question}"}]


def with_question(record: AnyRecord, text: str) -> AnyRecord:
    """The record with its first question in other words; all else stays, the answer above all."""
    if isinstance(record, InstructionRecord):
        return record.model_copy(update={"prompt": text})
    if isinstance(record, LabelledRecord):
        return record.model_copy(update={"text": text})
    assert isinstance(record, ChatRecord | PreferenceRecord | RankingRecord | RatedRecord)
    first = next(i for i, m in enumerate(record.messages) if m.role == "user")
    messages = (*record.messages[:first], Message(role="user", content=text), *record.messages[first + 1 :])
    return record.model_copy(update={"messages": messages})


def tidy(text: str, question: str) -> str:
    """The rewording without what models put around it: a heading, quotation marks, an explanation below."""
    text = text.strip()
    if "\n" not in question.strip():
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        text = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else ""
    text = _LABEL.sub("", text)
    if len(text) > 1 and f"{text[0]}{text[-1]}" in _QUOTES and text[0] != question.strip()[:1]:
        text = text[1:-1].strip()
    return text


def fault(text: str, question: str, cut_off: bool) -> str | None:
    """Why a tidied rewording is refused on its own; none if it is not."""
    if not text:
        return "empty"
    if "\ufffd" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        return "broken characters"
    if cut_off:
        return "cut off"
    lowered, asked = text.casefold().replace("’", "'"), question.casefold()
    if any(phrase in lowered and phrase not in asked for phrase in _TALK):
        return "talks about the task"
    if any(are_near(words(text), words(shown)) for pair in EXAMPLES for shown in pair):
        return "repeats an example"
    if not _is_sane(len(words(text)), len(words(question))):
        return "of another length"
    if Counter(_FIGURES.findall(text)) != Counter(_FIGURES.findall(question)):
        return "other figures or names"
    if _ASKS.search(question) and not _ASKS.search(text):
        return "no longer a question"
    spoken = {language(text), language(question)} - {UNDETERMINED}
    if len(spoken) > 1:
        return "another language"
    return None


def _is_sane(length: int, asked: int) -> bool:
    return asked / 2.5 - 1 <= length <= asked * 2 + 4


def choose(questions: Sequence[Question], variations: Sequence[Variation], per_question: int,
           likeness: float = LIKENESS, tell: Tell = lambda _: None) -> list[Variation]:  # fmt: skip
    """The same variations with their faults: those without one stay, at most `per_question` of each question.

    None stays that all but repeats a question of the dataset, in whatever split, or another variation; and none that
    strays: too little of its question is left in it, or a question of another label is more like it.
    """
    judged = [v for v in variations if v.fault is None]
    near = find_near([(q.text,) for q in questions] + [(v.text,) for v in judged], tell)
    beside: dict[int, set[int]] = {}
    for a, b in near.pairs:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    tell("comparing with the questions there are")
    strays = iter(_strays(questions, judged, likeness))
    stay, taken, result = set(near.first[: len(questions)]), Counter[int](), list[Variation]()
    same = iter(near.first[len(questions) :])  # of each one judged, the first text that has the same words
    for variation in variations:
        if variation.fault is not None:
            result.append(variation)
            continue
        first, strayed = next(same), next(strays)
        if first in stay or not stay.isdisjoint(beside.get(first, ())):
            variation = variation._replace(fault="near duplicate")
        elif strayed:
            variation = variation._replace(fault="strays from its question")
        elif taken[variation.of] == per_question:
            variation = variation._replace(fault="more than wanted")
        else:
            stay.add(first)
            taken[variation.of] += 1
        result.append(variation)
    return result


def _strays(questions: Sequence[Question], variations: Sequence[Variation], likeness: float) -> Iterator[bool]:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    if not variations:
        return
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    there = vectorizer.fit_transform([q.text for q in questions])
    labels = np.array([q.label or "" for q in questions])
    for start in range(0, len(variations), _AT_ONCE):
        part = variations[start : start + _AT_ONCE]
        new = vectorizer.transform([v.text for v in part])
        own = np.asarray(new.multiply(there[[v.of for v in part]]).sum(axis=1)).ravel()
        rivals = _rivals(new @ there.T, labels, [v.of for v in part]) if labels.any() else np.zeros(len(part))
        yield from ((own < likeness) | (rivals > own)).tolist()


def _rivals(alike: Any, labels: Any, of: list[int]) -> Any:
    """For each row of a sparse matrix (variation by question) its largest value at a question of another label."""
    import numpy as np

    found = np.zeros(len(of))
    for row, question in enumerate(of):
        columns, values = (part[alike.indptr[row] : alike.indptr[row + 1]] for part in (alike.indices, alike.data))
        found[row] = values[labels[columns] != labels[question]].max(initial=0)
    return found
