"""The loader of PDFs: text by page, without running heads; what holds no text is named."""

import logging
import re
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.documents import Block, Clean, Document, blocks_of, short
from assistant.loaders_text import name_as_title
from data.errors import DataError

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_PAGES = 5000
_LETTERS: dict[int, str] = {0xF0B7: "•", 0xF0A7: "▪"} | {
    0xFB00 + i: letters for i, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))
}
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zà-ÿ])")
_UNREADABLE = re.compile("[\ufffd\ue000-\uf8ff]|\\(cid:\\d+\\)|/G[0-9A-F]{2}")  # glyphs without a known letter
_EDGE = 2  # lines at the top and the bottom of a page among which running heads are looked for


def load_pdf(path: Path, source: str, clean: Clean) -> Document:
    """A PDF's text, page by page, without running heads; headings where the table of contents names them."""
    reader = _open(path)
    count = len(reader.pages)
    if count > MAX_PAGES:
        raise DataError(f"{path}: {count:,} pages, the most is {MAX_PAGES:,}; split it")
    pages = [_page_text(page.extract_text(), clean) for page in reader.pages]
    empty = [n for n, page in enumerate(pages, 1) if not any(c.isalnum() for c in page)]
    if len(empty) == count:
        raise DataError(
            f"{path}: no text on its {count} pages, so it is probably scanned; run text recognition (OCR) over it first"
        )
    letters = sum(map(len, pages))
    if sum(len(m) for page in pages for m in _UNREADABLE.findall(page)) > letters / 10:
        raise DataError(f"{path}: its letters have no known meaning (a font without a table); save it anew, or use OCR")
    pages = [page + "\n" * (1 if _goes_on(page) else 2) for page in _without_running_heads(pages)]
    text = "".join(pages).rstrip()
    starts = list(accumulate(map(len, pages[:-1]), initial=0))
    blocks = _with_headings(blocks_of(text, "plain"), text, _contents(reader, starts, text, clean))
    notes = (f"{path}: no text on {_some(empty)} of {count} (scanned?), the rest is read",) if empty else ()
    return Document(source, "pdf", _pdf_title(reader, source, clean), text, blocks, starts, notes=notes)


def _open(path: Path) -> "PdfReader":
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its hints on broken files would stand between our lines
    reader = PdfReader(path)
    locked = f"{path}: locked with a password; save a copy without one and add that"
    try:
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError(locked)
    except DependencyError as error:
        raise DataError(locked) from error
    return reader


def _page_text(text: str, clean: Clean) -> str:
    text = _HYPHEN.sub("", clean(text).translate(_LETTERS))
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def _goes_on(page: str) -> bool:
    """Does the last sentence end on the next page?"""
    return bool(page) and page[-1] not in '.!?…:。！？"”)'


def _without_running_heads(pages: list[str]) -> list[str]:
    """The pages without the lines at their top and bottom that stand on most of them, page numbers aside."""
    lines = [page.split("\n") for page in pages]
    edges = [[*page[:_EDGE], *page[-_EDGE:]] for page in lines]
    counts = Counter(s for n, edge in enumerate(edges) for s in set().union(*(_shapes(line, n) for line in edge)))
    running = {shape for shape, n in counts.items() if n >= 3 and n > len(pages) / 2}

    def body(number: int, page: list[str]) -> str:
        last = len(page) - _EDGE
        kept = [line for i, line in enumerate(page) if _EDGE <= i < last or not running & _shapes(line, number)]
        return "\n".join(kept).strip()

    return [body(number, page) for number, page in enumerate(lines)] if running else pages


def _shapes(line: str, number: int) -> set[str]:
    """What a line has in common with those on other pages: itself, and itself with a number that counts pages."""
    line = " ".join(line.split())
    numbers = list(re.finditer(r"\d{1,5}", line))[:9]
    counted = {f"{line[: m.start()]}\0{int(m[0]) - number}\0{line[m.end() :]}" for m in numbers}
    return counted | {line} if line else set()


def _contents(reader: "PdfReader", starts: list[int], text: str, clean: Clean) -> dict[int, tuple[int, int, str]]:
    """Headings from the PDF's own table of contents: where the line begins → its end, level, title."""
    found = dict[int, tuple[int, int, str]]()

    def walk(entries: Any, level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                walk(entry, min(level + 1, 6))
                continue
            title, page = short(clean(str(entry.title))), reader.get_destination_page_number(entry)
            if not title or page is None or not 0 <= page < len(starts):
                continue
            end = starts[page + 1] if page + 1 < len(starts) else len(text)
            words = r"\s+".join(map(re.escape, title.split()))
            line = re.compile(rf"^[ \t]*(?:[\w.:]{{1,12}}[ \t]+){{0,2}}{words}[ \t]*$", re.MULTILINE)
            if place := line.search(text, starts[page], end):
                found[place.start()] = (place.end(), level, title)
            else:  # written otherwise on the page, but the section begins somewhere on it
                found.setdefault(starts[page], (starts[page], level, title))

    try:
        walk(reader.outline, 1)
    except Exception:  # a broken table of contents costs the headings, not the text
        return {}
    return found


def _with_headings(blocks: list[Block], text: str, headings: dict[int, tuple[int, int, str]]) -> list[Block]:
    """The blocks with the headings in them made blocks of their own."""
    if not headings:
        return blocks
    made = list[Block]()
    for block in blocks:
        place = block.start
        for start in sorted(h for h in headings if block.start <= h < block.end):
            end, level, title = headings[start]
            made += [*_rest(block, text, place, start), Block("heading", start, end, level, title)]
            place = end
        made += _rest(block, text, place, block.end)
    return made


def _rest(block: Block, text: str, start: int, end: int) -> list[Block]:
    body = text[start:end]
    start, end = start + len(body) - len(body.lstrip()), start + len(body.rstrip())
    cuts = tuple(c for c in block.cuts if start < c < end)
    return [Block(block.kind, start, end, cuts=cuts)] if start < end else []


def _pdf_title(reader: "PdfReader", source: str, clean: Clean) -> str:
    """The title in the file's properties, if a person wrote it; programs leave file names there."""
    try:
        title = short(clean(str(reader.metadata.title or ""))) if reader.metadata else ""
    except Exception:  # broken properties cost the title only
        title = ""
    made_up = re.search(r"\.\w{2,5}$|^untitled|^microsoft |^\W*$|^slide 1", title, re.IGNORECASE)
    return name_as_title(source) if not title or made_up else title


def _some(numbers: list[int]) -> str:
    """`page 3`, `pages 3, 4, 7`, `pages 1, 2, 3, … (40)`."""
    listed = ", ".join(map(str, numbers[:5])) + (f", … ({len(numbers)})" if len(numbers) > 5 else "")
    return f"page {listed}" if len(numbers) == 1 else f"pages {listed}"
