"""Whether passages say what an answer says: a check that needs no model.

Each sentence gets the passage that supports it. If the model cited one, that one must hold the sentence's numbers,
names and quoted spans and enough of its words; if it cited none, or one that does not hold, the best of all passages
is attributed, or none. What is left is unsupported: it may be true, but no passage says it.
Words are compared as they are, so a passage in another language supports nothing unless `similarity` is handed in.
Thresholds: chosen and measured in benchmarks/groundedness.py, see docs/grounding.md.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import computed_field

from assistant.citations import Sentence, bare, sentences
from assistant.claims import Item, Text, capitals_tell, holds, items, read, words
from data.settings import Frozen

# From texts to vectors, one row each, of length 1: an embedding model's.
Similarity = Callable[[list[str]], Any]

SUPPORTED = 0.7  # the share of a sentence's words that a passage must hold
FEW_WORDS = 3  # shorter sentences without any item ("Of course!") claim nothing
LONG = 25  # words; a longer sentence that says the documents are silent says more than that
_EMBEDDED = 0.25  # how much of the score is the similarity, where there is one

# An answer that says it has none claims nothing; what the definition has the assistant say then is handed in.
_SILENT = re.compile(
    r"\b(documents?|passages?|sources?|texts?|context)\b.{0,40}\b(do|does|did|has|have)(n['’]t| not) |"
    r"\b(I|we) (do not|don['’]t|cannot|can['’]t) (have|know|say|find|answer)\b",
    re.IGNORECASE,
)

Words = tuple[str, ...]
Items = tuple[Item, ...]
Support = Literal["cited", "attributed", "unsupported", "no claim"]


class _Said(NamedTuple):
    """What is looked up of one sentence."""

    words: Words
    items: Items
    asked: frozenset[str]  # the question's words


class Checked(Sentence):
    """One sentence and what was found out about it. Passages go by their number in the prompt, from 1."""

    support: Support  # "cited": by the model, and it holds; "attributed": by us
    passage: int | None = None  # that supports it
    score: float = 0.0  # 0–1: how much of it stands in that passage, or in the nearest one
    missing: tuple[Item, ...] = ()  # not in the cited passages, or if none is cited or attributed, not in the nearest
    unknown: tuple[int, ...] = ()  # citations of passages that there are not
    wrong: tuple[int, ...] = ()  # citations of passages that do not support it


class Grounding(Frozen):
    """A whole answer."""

    sentences: tuple[Checked, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def score(self) -> float | None:
        """0–1: how much of all that is claimed stands in passages, sentences by their length; None if nothing is."""
        claims = [s for s in self.sentences if s.support != "no claim"]
        length = sum(len(s.text) for s in claims)
        return sum(s.score * len(s.text) for s in claims) / length if length else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unsupported(self) -> int:
        """How many sentences no passage supports."""
        return sum(s.support == "unsupported" for s in self.sentences)


def ground(
    answer: str, passages: Sequence[str], question: str = "", known: str = "", silent: str = "",
    similarity: Similarity | None = None, threshold: float = SUPPORTED,
) -> Grounding:  # fmt: skip
    """Check `answer` against `passages`, as the model saw them and in that order (`Shown.blocks`).

    Words of `question` that a passage lacks count neither for nor against it: an answer may repeat them. Names that
    stand there or in `known` (the turns before, the assistant's definition) need no passage; numbers do.
    `silent` is what the assistant says when its documents are silent: that claims nothing.
    """
    found = sentences(answer)
    asked, names, quiet = read(question), read(f"{question} {known}"), read(silent)
    capitals = capitals_tell(" ".join([answer, *passages]))
    texts = [read(passage) for passage in passages]
    near = _similarities([bare(s.text) for s in found], passages, similarity)
    checked = []
    for sentence, row in zip(found, near, strict=True):
        said = bare(sentence.text)
        wanted = tuple(item for item in items(said, capitals) if not (item.kind == "name" and holds(names, item)))
        spoken = tuple(words(said))
        cited = tuple(n for n in sentence.citations if 1 <= n <= len(texts))
        unknown = tuple(n for n in sentence.citations if n not in cited)
        if not cited and _claims_nothing(said, spoken, wanted, asked, quiet):
            result: dict[str, Any] = {"support": "no claim"}
        else:
            result = _support(_Said(spoken, wanted, asked.words), cited, texts, row, threshold)
        checked.append(Checked(**sentence.model_dump(), **result, unknown=unknown))
    return Grounding(sentences=tuple(checked))


def _claims_nothing(said: str, spoken: Words, wanted: Items, asked: Text, quiet: Text) -> bool:
    """A few words, a question, or that the documents are silent about what was asked for."""
    if quiet.words and quiet.words.issuperset(spoken):
        return True
    if len(spoken) <= LONG and _SILENT.search(said) and all(holds(asked, item) for item in wanted):
        return True
    return not wanted and (len(spoken) < FEW_WORDS or said.endswith(("?", "？", "؟")))


def _support(
    said: _Said, cited: tuple[int, ...], texts: list[Text], near: list[float] | None, threshold: float
) -> dict[str, Any]:
    """What supports a sentence, as fields of `Checked`: what it cites if that holds, else the best passage, else none.

    Among those that hold all items the one with most of the words is the best.
    """
    found = [_compare(said, text, near[i] if near else None) for i, text in enumerate(texts)]
    result: dict[str, Any] = {}
    if cited:
        nearest = max(near[n - 1] for n in cited) if near else None
        score, missing = _compare(said, _merged([texts[n - 1] for n in cited]), nearest)
        if score >= threshold and not missing:
            best = max(cited, key=lambda n: found[n - 1][0])
            return {"support": "cited", "passage": best, "score": score}
        result = {"wrong": cited, "missing": missing}
    order = sorted(range(len(texts)), key=lambda i: (len(found[i][1]), -found[i][0]))
    if not order:
        return {"support": "unsupported", "missing": said.items}
    best = order[0]
    score, missing = found[best]
    if score >= threshold and not missing:
        return result | {"support": "attributed", "passage": best + 1, "score": score}
    return {"missing": missing} | result | {"support": "unsupported", "score": score}


def _compare(said: _Said, text: Text, near: float | None) -> tuple[float, Items]:
    """How much of a sentence stands in `text`, 0–1, and the items that do not.

    A number or name counts twice, as a word and as an item: they are what a wrong answer gets wrong.
    """
    missing = tuple(item for item in said.items if not holds(text, item))
    stands = sum(word in text.words for word in said.words)
    repeated = sum(word in said.asked and word not in text.words for word in said.words)
    total = len(said.words) - repeated + len(said.items)
    share = (stands + len(said.items) - len(missing)) / total if total else 1.0
    return (share if near is None else (1 - _EMBEDDED) * share + _EMBEDDED * max(0.0, near)), missing


def _merged(texts: list[Text]) -> Text:
    return Text(
        frozenset().union(*(t.words for t in texts)),
        frozenset().union(*(t.numbers for t in texts)),
        "".join(t.flat for t in texts),
    )


def _similarities(found: list[str], passages: Sequence[str], similarity: Similarity | None) -> list[list[float] | None]:
    """For each sentence its similarity with the nearest sentence of each passage; None where no model is handed in."""
    if similarity is None or not found or not passages:
        return [None] * len(found)
    parts = [[s.text for s in sentences(passage)] or [passage] for passage in passages]
    vectors = similarity([*found, *(text for part in parts for text in part)])
    own, rest = vectors[: len(found)], vectors[len(found) :]
    columns = []
    for part in parts:
        columns.append((own @ rest[: len(part)].T).max(axis=1))
        rest = rest[len(part) :]
    return [[float(column[i]) for column in columns] for i in range(len(found))]
