"""Passages: what an assistant's documents are cut into, to be found and cited.

A document comes from assistant/loaders.py as text in blocks. Passages are made of whole blocks of one section, as many
as fit; only what does not fit is cut: a table between rows, a list between items, a paragraph between sentences.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from pydantic import Field

from assistant.documents import Block, Document
from data.settings import Frozen

Count = Callable[[str], int]
Span = tuple[int, int]

_PATH = " > "
_MAX_PATH = 300  # characters of a heading path; hostile documents nest hundreds of headings
_CHARACTERS = 16  # a text of more characters a token than this cannot fit, so it need not be counted as a whole
# Between sentences, and before a line that begins a list item (text files and PDFs have no other marks for them).
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"')\]”’»]*\s+(?=[^\sa-z])|(?<=[。！？])|\n(?=[ \t]*(?:[-*•–]|\d+[.)])\s)|\n{2,}"
)


class Passage(Frozen):
    """One piece of a document.

    `text` is `document[start:end]`; what begins in the middle of a table has its header row in front, so that
    `text.endswith(document[start:end])` holds always. Two passages with one id have the same `searchable()` text, so
    an id that is known need not be embedded again; its page and span may have moved, so they are written again.
    """

    id: str  # 32 hex digits: see passage_id
    source: str  # path relative to what was added, with '/'
    title: str  # the document's, else its file name
    section: str = ""  # headings above it, the outermost first: "Returns > Damaged goods"
    page: int | None = None  # of a PDF, the first is 1: where the passage begins
    start: int  # characters in the document's extracted text
    end: int
    text: str
    sha256: str  # of `text`: equal for equal passages of different documents
    meta: dict[str, str] = {}  # to filter by: "type" (pdf, markdown, …), and what a CSV or JSONL row brings along

    def searchable(self) -> str:
        """What is embedded and indexed: the text, under those of its title and headings that it does not hold."""
        above = [line for line in (self.title, *self.section.split(_PATH)) if line and line not in self.text]
        return "\n".join([*filter(None, [_PATH.join(dict.fromkeys(above))]), self.text])


class Chunking(Frozen):
    """How large passages are, in tokens of the embedding model."""

    max_tokens: int = Field(220, ge=16, description="of a passage with its title and headings; the model's limit")
    overlap: int = Field(30, ge=0, description="at most this much of the sentences before, where a paragraph is cut")


def passage_id(source: str, title: str, section: str, text: str, nth: int) -> str:
    """A passage's id; `nth` counts passages of one source that are otherwise equal, from 0.

    It is not the place in the document: a paragraph put in front must not rename all that follow.
    """
    whole = "\0".join((source, title, section, str(nth), text))
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def count_words(text: str) -> int:
    """Words, for want of the embedding model's tokens."""
    return len(text.split())


def cut(document: Document, count: Count = count_words, rule: Chunking | None = None) -> list[Passage]:
    """The passages of a document in their order. `count` gives the tokens of a text; no passage has more than the rule.

    Tokens are added up piece by piece, so a passage may be off by a token or two at the seams.
    """
    rule = rule or Chunking()
    passages, seen = list[Passage](), Counter[tuple[str, str]]()
    for run in _runs(document):
        above = count(f"{document.title}{_PATH}{run.section}")
        limit = max(rule.max_tokens - above, rule.max_tokens // 2)
        for start, end, header in _Cutter(document.text, count, limit, min(rule.overlap, limit // 2)).spans(run):
            repeated = document.text[slice(*header)] + "\n" if header else ""
            text = repeated + document.text[start:end]
            passages.append(
                Passage(
                    id=passage_id(document.source, document.title, run.section, text, seen[run.section, text]),
                    source=document.source, title=document.title, section=run.section, page=document.page(start),
                    start=start, end=end, text=text, sha256=hashlib.sha256(text.encode()).hexdigest(),
                    meta=document.meta | dict(run.meta) | {"type": document.type},
                )
            )  # fmt: skip
            seen[run.section, text] += 1
    return passages


@dataclass(frozen=True)
class _Run:
    """What may share a passage: headings and the blocks up to the next heading, or one row."""

    section: str
    headings: Span | None
    blocks: tuple[Block, ...]
    meta: tuple[tuple[str, str], ...] = ()


def _runs(document: Document) -> Iterator[_Run]:
    path, headings, blocks = list[Block](), list[Block](), list[Block]()

    def close() -> Iterator[_Run]:
        names = [h.title for h in path]
        section = _PATH.join(names[1:] if names[:1] == [document.title] else names)
        section = section if len(section) <= _MAX_PATH else "…" + section[-_MAX_PATH:]
        if headings or blocks:
            yield _Run(section, (headings[0].start, headings[-1].end) if headings else None, tuple(blocks))
        headings.clear()
        blocks.clear()

    for block in document.blocks:
        if block.kind == "heading":
            if blocks:  # headings right after one another stay together with what follows
                yield from close()
            while path and path[-1].level >= block.level:
                path.pop()
            path.append(block)
            headings.append(block)
        elif block.kind == "row":
            yield from close()
            yield _Run(block.title, None, (block,), block.meta)
        else:
            blocks.append(block)
    yield from close()


@dataclass(frozen=True, slots=True)
class _Atom:
    """The least that is not cut. `header` is repeated where a passage begins with this atom."""

    start: int
    end: int
    tokens: int
    header: Span | None = None
    header_tokens: int = 0
    follows: bool = False  # a sentence of the same paragraph stands before it


@dataclass(frozen=True)
class _Cutter:
    """Cuts one run of a text; `limit` and `overlap` in tokens."""

    text: str
    count: Count
    limit: int
    overlap: int

    def spans(self, run: _Run) -> Iterator[tuple[int, int, Span | None]]:
        """The passages of a run: start, end, and what is repeated in front."""
        atoms = self._atoms(run)
        total = sum(a.tokens for a in atoms)
        again = self.overlap if any(a.follows for a in atoms) else 0
        passages = max(1, ceil((total - again) / (self.limit - again)))
        even = (total - again) / passages + again  # rather two halves than a whole one and a crumb
        first, size = 0, 0
        for i, atom in enumerate(atoms):
            if i > first and (size + atom.tokens > self.limit or size >= even):
                yield atoms[first].start, atoms[i - 1].end, atoms[first].header
                first = self._back(atoms, first, i)
                size = atoms[first].header_tokens + sum(a.tokens for a in atoms[first:i])
            size += atom.tokens
        if atoms:
            yield atoms[first].start, atoms[-1].end, atoms[first].header

    def _back(self, atoms: list[_Atom], first: int, i: int) -> int:
        """Where the passage begins whose first new atom is `i`: some sentences earlier, if it cuts a paragraph."""
        free = min(self.overlap, self.limit - atoms[i].tokens)
        while i - 1 > first and atoms[i].follows and atoms[i - 1].tokens <= free:
            i -= 1
            free -= atoms[i].tokens
        return i

    def _atoms(self, run: _Run) -> list[_Atom]:
        """The blocks that fit whole, the pieces of the others; headings and the first of them are one atom."""
        above = self._tokens(*run.headings) if run.headings else 0
        atoms, lead = list[_Atom](), None
        for block in run.blocks:
            if lead and block.kind in ("list", "table", "code"):  # "You need:" belongs to the list after it
                atoms.pop()
                block = replace(block, start=lead.start, header_end=block.header_end or lead.end)
            room = self.limit - (0 if atoms else above)
            pieces = list(self._pieces(block, max(room, self.limit // 2)))
            atoms += pieces
            ends_open = block.kind == "paragraph" and self.text[block.start : block.end].endswith((":", "："))
            lead = block if ends_open and len(pieces) == 1 and pieces[0].tokens <= self.limit // 4 else None
        if run.headings and atoms and above <= self.limit // 2:
            atoms[0] = replace(atoms[0], start=run.headings[0], tokens=above + atoms[0].tokens)
        elif run.headings:
            atoms = [*self._pieces(Block("paragraph", *run.headings), self.limit), *atoms]
        return atoms

    def _pieces(self, block: Block, limit: int) -> Iterator[_Atom]:
        tokens = self._tokens(block.start, block.end)
        if tokens <= limit:
            yield _Atom(block.start, block.end, tokens)
            return
        header = (block.start, block.header_end) if block.header_end else None
        header_tokens = self._tokens(*header) if header else 0
        if header_tokens > limit // 2:
            header, header_tokens = None, 0
        places = [block.start, *block.cuts, block.end]
        for start, end in zip(places, places[1:], strict=False):
            for piece, (begin, stop, size) in enumerate(self._sentences(start, end, limit - header_tokens)):
                repeat = (header, header_tokens) if begin >= block.header_end else (None, 0)
                yield _Atom(begin, stop, size, *repeat, follows=piece > 0)

    def _sentences(self, start: int, end: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """Start, end, tokens of the part where it fits, else of its sentences, too long ones halved until they fit."""
        if self._tokens(start, end) <= limit:
            ends = [end]
        else:
            ends = [*(m.end() for m in _SENTENCE_END.finditer(self.text, start, end)), end]
        for stop in ends:
            yield from self._halves(start, stop, limit)
            start = stop

    def _halves(self, start: int, end: int, limit: int) -> Iterator[tuple[int, int, int]]:
        body = self.text[start:end]
        start, end = start + len(body) - len(body.lstrip()), start + len(body.rstrip())
        if start >= end:
            return
        size = self._tokens(start, end)
        if end - start == 1 or size <= limit:
            yield start, end, size
            return
        middle = (start + end) // 2
        blank = max(self.text.rfind(mark, start + (end - start) // 4, middle) for mark in " \n")
        place = blank if blank > start else middle
        yield from self._halves(start, place, limit)
        yield from self._halves(place, end, limit)

    def _tokens(self, start: int, end: int) -> int:
        """The tokens of a span; a number above the limit, uncounted, for one that is far too long."""
        return self.count(self.text[start:end]) if end - start <= _CHARACTERS * self.limit else end - start
