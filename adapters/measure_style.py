"""How a text is written, in numbers: sentence and word length, readability, punctuation, layout, variety of words.

Counts of sentences and words and LIX are textstat's. Nothing here needs syllables, so any language with spaces does.
"""

import re
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Parts

Figures = NDArray[np.float64]
_WORD = re.compile(r"\w+")
_MARKS = {  # signs per 100 words
    "commas": re.compile(r"[,;:،，；]"),
    "exclamation marks": re.compile(r"[!！]"),
    "question marks": re.compile(r"[?？]"),
    "dashes and brackets": re.compile(r"[()\[\]–—]| - "),
    "quotes": re.compile(r"[\"“”„«»]"),
    "digits": re.compile(r"\d"),
    "emojis": re.compile(r"[\u2600-\u27bf\U0001f300-\U0001faff]"),
    "capitals": re.compile(r"\b[A-Z]{2,}\b"),
    "marks of layout": re.compile(r"^\s*(?:[-*•#>|]|\d+[.)])|\*\*|`", re.MULTILINE),
    "contractions": re.compile(r"\w['’]\w"),
}
FEATURES = ("words", "words per sentence", "letters per word", "LIX", "new words", "lines", *_MARKS)
WIDEST = 5.0  # standard deviations: one feature that never varies in the brand's texts must not drown the others


def features(text: str) -> list[float]:
    """The `FEATURES` of a text. "words" and "lines" are logarithms: twice as long counts the same everywhere."""
    found = _WORD.findall(text.casefold())
    count = max(1, len(found))
    stat = _textstat()
    shape = [stat.words_per_sentence(text), sum(map(len, found)) / count, stat.lix(text)] if found else [0.0, 0.0, 0.0]
    variety = len(set(found[:100])) / min(count, 100)  # of the first 100 words, since long texts repeat more
    marks = [100 * len(pattern.findall(text)) / count for pattern in _MARKS.values()]
    return [float(np.log(count)), *shape, variety, float(np.log1p(text.count("\n"))), *marks]


def grade(text: str) -> float:
    """The American school year that reads it with ease (automated readability index; Smith and Senter 1967)."""
    return float(_textstat().automated_readability_index(text)) if _WORD.search(text) else 0.0


class Style:
    """How a brand's own texts are written: what a mean text of others is compared with."""

    def __init__(self, texts: list[str]) -> None:
        table = np.array([features(text) for text in texts])
        self.mean: Figures = table.mean(0)
        # What hardly ever varies still varies by something.
        self.spread: Figures = np.maximum(table.std(0), 0.05 * np.abs(self.mean) + 0.1)

    def parts(self, texts: list[str]) -> Parts:
        """The features of each text and a 1: [texts, features + 1]."""
        return np.array([[*features(text), 1.0] for text in texts])

    def distance(self, sums: Parts) -> Figures:
        """Of summed parts: how far the mean text lies from the brand's, in its standard deviations, over features.

        The mean of the absolute standardised differences, as Burrows' Delta (2002) has it for words' frequencies.
        """
        mean = sums[:, :-1] / np.maximum(sums[:, -1:], 1e-12)
        far: Figures = np.minimum(np.abs(mean - self.mean) / self.spread, WIDEST).mean(1)
        return far


@cache
def _textstat() -> Any:
    from textstat import textstat  # type: ignore[import-untyped]

    return textstat
