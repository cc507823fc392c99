"""The sentences of an answer and the passages that each cites, as in "Refunds take 14 days [2]."

In goes the answer's text, out come its sentences with their places in it. Whether what is cited says so too is looked
at in assistant/grounding.py.
"""

import re

from data.settings import Frozen

# "[1]", "[1, 2]", "[1-3]", and the brackets 【1】 and ［1］ of models that were trained on Chinese and Japanese text.
_MARK = r"[\[【［]\s*(\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*)\s*[\]】］]"
_CITATION = re.compile(_MARK)
_CITED_BEHIND = re.compile(rf"(?:[ \t]*{_MARK})+")  # the full stop
_RANGE = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

_CLOSING = "\"'”’»›)\\]}」』】）*_"
# Signs that end a sentence where a blank follows, and those of scripts that put none after them.
_END = re.compile(rf"[.!?…؟۔։።।॥]+[{_CLOSING}]*(?=\s|[\[【［]\d)|[。！？｡]+[{_CLOSING}]*")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•‣–]|\d{1,3}[.)]|[a-zA-Z][.)]|#{1,6}|>|\|)[ \t]*(?=\S)")
_LAST_WORD = re.compile(r"[^\s(\[\"“„'«]*$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]\.")  # "J.", "U.S.", "e.g.", "z.B."
_WITH_DOT = """mr mrs ms mx dr prof rev hon st sr jr capt lt vs cf ca approx nos nr vol fig figs eq p pp dept est bzw
bspw vgl ggf evtl inkl zzgl mme mlle"""
_ABBREVIATIONS = frozenset(_WITH_DOT.split())


class Sentence(Frozen):
    """One sentence of an answer: `answer[start:end]` is `text`, in which citations still stand."""

    start: int  # characters
    end: int
    text: str
    citations: tuple[int, ...] = ()  # the numbers as the model wrote them, each once; there may be no such passage


def sentences(answer: str) -> list[Sentence]:
    """The sentences of `answer` in order; list items, headings, table rows and code blocks stand alone.

    A citation behind the full stop belongs to the sentence before it, unless the answer begins with one: then they all
    stand in front of theirs. White space between sentences is in none.
    """
    code = [(m.start(), m.end()) for m in _CODE.finditer(answer)]
    found = []
    for start, end in _spans(answer, code):
        cited = dict.fromkeys(n for m in _citations(answer, start, end, code) for n in _numbers(m[1]))
        found.append(Sentence(start=start, end=end, text=answer[start:end], citations=tuple(cited)))
    return found


def bare(text: str) -> str:
    """A sentence without its citations and without a list's mark, to be compared with what passages say."""
    text = _LIST_ITEM.sub("", text, count=1) if _LIST_ITEM.match(text) else text
    return re.sub(r"[ \t]+(?=[.,;:!?])", "", _CITATION.sub("", text)).strip()


def _citations(answer: str, start: int, end: int, code: list[tuple[int, int]]) -> list[re.Match[str]]:
    """Citations between two places, without what is code: `row[1]` cites nothing."""
    found = _CITATION.finditer(answer, start, end)
    return [m for m in found if not any(a <= m.start() < b for a, b in code)]


def _numbers(inside: str) -> list[int]:
    """The numbers in "1, 3-5"; a range that runs backwards or far is its two ends."""
    numbers: list[int] = []
    for match in _RANGE.finditer(inside):
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, last + 1) if first <= last < first + 10 else (first, last)
    return numbers


def _spans(answer: str, code: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where sentences begin and end, white space around them left out."""
    cuts = [0, len(answer)]
    cuts += [place for place in _line_ends(answer) if not _inside(place, code)]
    ends = [m for m in _END.finditer(answer) if not _inside(m.start(), code) and _ends(answer, m)]
    in_front = _CITATION.match(answer.lstrip())
    behind = [None if in_front else _CITED_BEHIND.match(answer, m.end()) for m in ends]
    cuts += [cited.end() if cited else m.end() for m, cited in zip(ends, behind, strict=True)]
    blocks = [(a, b) for a, b in code if answer.startswith("```", a)]
    cuts += [place for block in blocks for place in block]
    ordered = sorted(set(cuts))
    spans = []
    for start, end in zip(ordered, ordered[1:], strict=False):
        text = answer[start:end]
        if bare := text.strip():
            begin = start + text.index(bare)
            spans.append((begin, begin + len(bare)))
    return spans


def _inside(place: int, code: list[tuple[int, int]]) -> bool:
    return any(start < place < end for start, end in code)


def _line_ends(answer: str) -> list[int]:
    """Line breaks that end a sentence: all but those in the middle of a paragraph, where a small letter follows."""
    places = []
    for match in re.finditer(r"\n+", answer):
        rest = answer[match.end() : match.end() + 20].lstrip(" \t")
        wrapped = len(match[0]) == 1 and rest[:1].islower() and not _LIST_ITEM.match(answer, match.end())
        if not wrapped:
            places.append(match.end())
    return places


def _ends(answer: str, match: re.Match[str]) -> bool:
    """Whether the full stop found is one: not that of an abbreviation, of initials or of a list's number."""
    line_start = answer.rfind("\n", 0, match.start()) + 1
    item = _LIST_ITEM.match(answer, line_start)
    if item and item.end() >= match.end():
        return False
    following = answer[match.end() : match.end() + 20].lstrip()
    if following[:1].islower():
        return match[0][-1] in "!?؟"  # "Really? yes." are two sentences, '"Why?" and' and "approx. five" are within one
    if not match[0].startswith(".") or len(match[0].strip(_CLOSING)) > 1:
        return True
    word = _word_before(answer, line_start, match.start()).casefold()
    if word == "no":
        return not following[:1].isdigit()
    return word not in _ABBREVIATIONS and not _INITIALS.fullmatch(word + ".")


def _word_before(answer: str, line_start: int, end: int) -> str:
    match = _LAST_WORD.search(answer[max(line_start, end - 40) : end])
    return match[0] if match else ""
