"""What a sentence states that can be looked up letter for letter: its numbers, names and quoted spans; and its words.

Texts are compared without case, accents and English plurals; numbers by value: "1,000.50", "1.000,50" and "1000.5" are
equal, and so are "three" and 3. Nothing here knows a language but for number words and months in English and German.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from data.settings import Frozen

# Chinese, Japanese and Thai are written without blanks: every sign counts as a word there.
_SIGNS = "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SIGNS}]|(?:(?![{_SIGNS}])\w)+")
_APOSTROPHES = re.compile(r"(?<=\w)['’`´](?=\w)")
_NUMBER = re.compile(r"\d+(?:[.,'’\u00a0\u202f ]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*")
_SCALE = re.compile(r"\s?(thousand|million|billion|tausend|millionen|milliarden|mio|mrd|[km](?!\w))", re.IGNORECASE)
_SCALES = {"thousand": 1e3, "tausend": 1e3, "k": 1e3, "million": 1e6, "millionen": 1e6, "mio": 1e6, "m": 1e6,
           "billion": 1e9, "milliarden": 1e9, "mrd": 1e9}  # fmt: skip
_COUNTED = """zero|null two|zwei three|drei four|vier five|fünf six|sechs seven|sieben eight|acht nine|neun ten|zehn
eleven|elf twelve|zwölf"""
_MONTHS = """january|januar february|februar march|märz april may|mai june|juni july|juli august september
october|oktober november december|dezember"""
_TENS = "twenty|zwanzig thirty|dreißig forty|vierzig fifty|fünfzig sixty|sechzig seventy|siebzig eighty|achtzig"
_QUOTE = re.compile(r"\"([^\"\n]{2,200})\"|[“„]([^”“\n]{2,200})[”“]|«([^»\n]{2,200})»|「([^」\n]{1,200})」")
_CAPITAL = re.compile(r"[^\W\d_]\w*(?:[-'’&.][^\W\d_]\w*)*")


class Item(Frozen):
    """Something that a passage must hold if it is to support the sentence."""

    kind: Literal["number", "name", "quote"]
    text: str  # as the sentence has it


class Text(NamedTuple):
    """A text made ready to look things up in."""

    words: frozenset[str]
    numbers: frozenset[float]
    flat: str  # all its words in order, a blank before, between and after them


def words(text: str) -> list[str]:
    """The words of `text` in order, made equal where only case, accents, apostrophes or a plural's s differ."""
    return [_singular(word) for word in _WORD.findall(_fold(text))]


@lru_cache(maxsize=256)
def read(text: str) -> Text:
    """`text` ready to look things up in."""
    found = words(text)
    return Text(frozenset(found), frozenset(v for _, values in _numbers(text) for v in values), f" {' '.join(found)} ")


def items(sentence: str, capitals: bool = True) -> list[Item]:
    """What `sentence` (without citations) states that can be looked up, each once.

    `capitals`: whether a capital at the start of a word makes it a name, see `capitals_tell`.
    """
    found = [Item(kind="number", text=text) for text, _ in _numbers(sentence)]
    found += [Item(kind="name", text=name) for name in _names(sentence, capitals)]
    quotes = (next(filter(None, m.groups())).strip() for m in _QUOTE.finditer(sentence))
    found += [Item(kind="quote", text=quote) for quote in quotes if words(quote)]
    return list(dict.fromkeys(found))


def holds(text: Text, item: Item) -> bool:
    """Whether the item stands in `text`: the number by value, each word of the name, the quote word by word."""
    if item.kind == "number":
        return any(value in text.numbers for _, values in _numbers(item.text) for value in values)
    if item.kind == "name":
        return text.words.issuperset(words(item.text))
    return f" {' '.join(words(item.text))} " in text.flat


def capitals_tell(text: str) -> bool:
    """Whether words with a capital are names in `text`; in German all nouns have one, in headings most words."""
    inner: list[str] = re.findall(r"(?<=[\w,;] )[^\W\d_]{4,}", text)
    return sum(word[0].isupper() for word in inner) <= len(inner) / 3


def _fold(text: str) -> str:
    """Without case, accents (of Latin letters) and apostrophes within words."""
    plain = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text)).casefold())
    return unicodedata.normalize("NFC", "".join(c for c in plain if not "\u0300" <= c <= "\u036f"))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _table() -> dict[str, float]:
    """Number words and months with their values. "One" is left out: it is a pronoun more often than not."""
    lists = (
        (_COUNTED.split(), (0, *range(2, 13))),
        (_MONTHS.split(), range(1, 13)),
        (_TENS.split(), range(20, 90, 10)),
    )
    return {_fold(name): float(n) for names, numbers in lists
            for spelt, n in zip(names, numbers, strict=True) for name in spelt.split("|")}  # fmt: skip


_SPELT = _table()
_MONTH_NAMES = frozenset(_fold(name) for name in re.split(r"[\s|]+", _MONTHS))


def _numbers(text: str) -> Iterator[tuple[str, set[float]]]:
    """Each number with the values that it may have: "1.234" is 1234 or 1.234, "2.5 million" 2500000 or 2.5."""
    text = unicodedata.normalize("NFKC", text)
    for match in _NUMBER.finditer(text):
        values = _values(match[0])
        scale = _SCALE.match(text, match.end())
        if scale:
            values |= {value * _SCALES[scale[1].lower()] for value in values}
        yield text[match.start() : scale.end() if scale else match.end()], values
    for word in re.findall(r"[^\W\d_]+", text):
        # A month counts as its number, lest "3 May" not be found in "03/05"; "may" is a verb.
        folded = _fold(word)
        if folded in _SPELT and not (folded in _MONTH_NAMES and word.islower()):
            yield word, {_SPELT[folded]}


def _values(digits: str) -> set[float]:
    """The values that a run of digits, dots and commas may have; parts of dates and versions count by themselves."""
    digits = re.sub(r"['’\u00a0\u202f ]", "", digits)
    values = set()
    for decimal, thousands in ((".", ","), (",", ".")):
        grouped = re.fullmatch(rf"\d{{1,3}}(?:[{thousands}]\d{{3}})+(?:[{decimal}]\d+)?", digits)
        if grouped or re.fullmatch(rf"\d+(?:[{decimal}]\d+)?", digits):
            values.add(float(digits.replace(thousands, "").replace(decimal, ".")))
    return values or {float(part) for part in re.split(r"[.,]", digits)}


def _names(sentence: str, capitals: bool) -> Iterator[str]:
    """Words with a capital within, or, where that tells, at the start, unless they begin the sentence or a quote."""
    for position, match in enumerate(_CAPITAL.finditer(sentence)):
        word = re.sub(r"['’]s$", "", match[0])
        begins = position == 0 or re.search(r"[:!?;\"“„»*#|–—-]\s*$", sentence[: match.start()][-6:])
        named = any(c.isupper() for c in word[1:]) or (capitals and word[0].isupper() and not begins)
        if len(word) > 1 and named and _fold(word) not in _SPELT:
            yield word
