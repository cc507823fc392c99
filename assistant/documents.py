"""A document as its loader leaves it: clean text, and the blocks (headings, tables, lists, …) that it is made of.

Everything becomes text with Markdown's marks, so that one parser finds the blocks of all kinds of files.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from data.errors import one_line

if TYPE_CHECKING:
    from markdown_it.token import Token

Clean = Callable[[str], str]
BlockKind = Literal["heading", "paragraph", "list", "table", "code", "row"]

MAX_HEADING = 200  # characters; what is longer is no heading but a paragraph in a heading's place
_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading", "paragraph_open": "paragraph", "blockquote_open": "paragraph", "html_block": "paragraph",
    "bullet_list_open": "list", "ordered_list_open": "list", "table_open": "table", "fence": "code",
    "code_block": "code",
}  # fmt: skip
_LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
# Control characters; soft hyphens and blanks of no width; what reverses the direction of writing or hides text (tag
# characters); halves of surrogate pairs. Joiners of no width stay: emoji, Persian and Indic scripts need them.
_DROPPED = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
    "\U000e0000-\U000e007f]"
)
_BLANKS = re.compile("[\u00a0\u202f\u2007]")
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the text, without blank lines around it."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0  # of a heading, 1 to 6
    title: str = ""  # of a heading, or of a row
    header_end: int = 0  # text[start:header_end] is repeated where the block is cut; 0: nothing is
    cuts: tuple[int, ...] = ()  # where it may be cut: beginnings of rows, items or lines, ascending, after start
    meta: tuple[tuple[str, str], ...] = ()  # of a row


@dataclass(frozen=True)
class Document:
    """One file's text. `pages` holds the place where each page begins; `notes` is what a person should know of it."""

    source: str
    type: str
    title: str
    text: str
    blocks: Sequence[Block]
    pages: Sequence[int] = ()
    meta: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def page(self, place: int) -> int | None:
        """The page (from 1) of a character, None where there are no pages."""
        return max(1, bisect_right(self.pages, place)) if self.pages else None


def cleaner(template_tokens: Sequence[str] = ()) -> Clean:
    """A function that takes out of a text what no passage may hold.

    Control and invisible characters go, and the `template_tokens` of the base model's chat template: a document that
    holds them could end its own message and begin one in the name of the system. They become blanks, so that what
    stands around them cannot grow together into another one.
    """
    harmless = without_tokens(template_tokens)

    def clean(text: str) -> str:
        text = _BLANKS.sub(" ", _DROPPED.sub("", _LINE_ENDS.sub("\n", text)))
        return harmless(unicodedata.normalize("NFC", text))

    return clean


def without_tokens(template_tokens: Sequence[str]) -> Clean:
    """A function that makes blanks of the `template_tokens` in a text, and leaves all else as it is."""
    wanted = sorted({token.strip() for token in template_tokens if token.strip()}, key=len, reverse=True)
    if not wanted:
        return lambda text: text
    tokens = re.compile("|".join(map(re.escape, wanted)))
    return lambda text: tokens.sub(" ", text)


def short(text: str, limit: int = MAX_HEADING) -> str:
    """A title or a heading as one line without Markdown's marks."""
    text = re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", text)
    return one_line(re.sub(r"!?\[([^][]*)\]\([^()]*\)", r"\1", text), limit)


def without_comments(text: str) -> str:
    """Markdown without the HTML comments that stand by themselves: no reader sees them."""
    lines = text.splitlines(keepends=True)
    for token in reversed(_tokens(text, "markdown")):
        if token.type == "html_block" and token.map and _COMMENT.fullmatch(token.content):
            del lines[token.map[0] : token.map[1]]
    return "".join(lines)


def blocks_of(text: str, style: Literal["markdown", "text", "plain"]) -> list[Block]:
    """The blocks of a text: all of Markdown's, those but indented code ("text"), or lists and paragraphs ("plain")."""
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    tokens = _tokens(text, style)
    return [block for i, token in enumerate(tokens) if (block := _block(text, starts, tokens, i, token))]


def _tokens(text: str, style: str) -> "list[Token]":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").disable(["inline", "reference"])
    if style == "plain":
        parser.disable(["heading", "lheading", "fence", "code", "html_block", "blockquote", "hr"])
    else:
        parser.enable("table")
        parser.disable("code" if style == "text" else [])
    return parser.parse(text)


def _block(text: str, starts: list[int], tokens: "list[Token]", i: int, token: "Token") -> Block | None:
    kind = _KINDS.get(token.type)
    if kind is None or token.level or not token.map:
        return None
    begin, end = starts[token.map[0]], min(starts[token.map[1]], len(text))
    body = text[begin:end]
    end, begin = begin + len(body.rstrip()), begin + len(body) - len(body.lstrip())
    if begin >= end:
        return None
    if kind == "heading":
        if len(body) > 2 * MAX_HEADING:
            return Block("paragraph", begin, end)
        title = short(tokens[i + 1].content)
        return Block(kind, begin, end, int(token.tag[1]), title) if title else None
    if kind == "table":
        rows = [starts[n] for n in range(token.map[0] + 2, token.map[1]) if starts[n] < end]
        header_end = begin + len(text[begin : rows[0]].rstrip()) if rows else 0
        return Block(kind, begin, end, header_end=header_end, cuts=tuple(rows[1:]))  # the header keeps its first row
    cuts = tuple(sorted({place for place in _cuts(kind, starts, tokens, i, token) if begin < place < end}))
    return Block(kind, begin, end, cuts=cuts)


def _cuts(kind: BlockKind, starts: list[int], tokens: "list[Token]", i: int, token: "Token") -> Iterator[int]:
    if kind == "list":
        for inner in tokens[i + 1 :]:
            if inner.level == 0:
                return
            if inner.type == "list_item_open" and inner.map:
                yield starts[inner.map[0]]
    elif kind == "code" and token.map:
        yield from (starts[n] for n in range(token.map[0] + 1, token.map[1]))
