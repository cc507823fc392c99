"""Loaders of web pages and Word documents: both become Markdown."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.documents import Clean, Document
from assistant.loaders_text import from_markdown
from data.errors import DataError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

MAX_UNPACKED = 512 * 2**20  # bytes of all that a Word document's archive holds
_NO_TEXT = ["script", "style", "noscript", "template", "svg", "nav", "button", "select", "iframe", "object", "head"]
_AROUND = ["header", "footer", "aside"]  # of a page; within its main part they belong to the text
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_WITHOUT_MARKS = ["a", "img", "b", "strong", "i", "em", "u", "s", "del", "code", "kbd", "samp", "sub", "sup", "input"]


def load_html(path: Path, source: str, clean: Clean) -> Document:
    """A page's main part as Markdown: without menus, scripts, and what its style hides."""
    raw = path.read_bytes()
    if b"\0" in raw and raw[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: NUL bytes in it, so this is no HTML; save the page anew")
    title, text = _markdown(raw, clean)
    return from_markdown("html", source, text, title)


def load_docx(path: Path, source: str, clean: Clean) -> Document:
    """A Word document as Markdown; pictures, comments, heads and feet of pages are left out."""
    import mammoth  # type: ignore[import-untyped]

    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if "word/document.xml" not in [part.filename for part in parts]:
        raise DataError(f"{path}: a ZIP archive, not a Word document; unpack it and add what is in it")
    if sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise DataError(f"{path}: unpacks to over {MAX_UNPACKED // 2**20} MiB; save a copy without pictures")
    with path.open("rb") as file:
        html = mammoth.convert_to_html(file, convert_image=lambda _: []).value
    return from_markdown("docx", source, _markdown(html, clean)[1])


def _markdown(html: str | bytes, clean: Clean) -> tuple[str, str]:
    """The page's title, and its text as Markdown."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    with warnings.catch_warnings():  # XHTML is read as HTML on purpose
        warnings.simplefilter("ignore")
        soup = BeautifulSoup(html, "html.parser")
    title = clean(soup.title.get_text()) if soup.title else ""
    converter = MarkdownConverter(
        heading_style="ATX", bullets="-", strip=_WITHOUT_MARKS, escape_asterisks=False, escape_underscores=False,
        table_infer_header=True,
    )  # fmt: skip
    text = converter.convert_soup(_main_part(soup))
    return title, re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", clean(text))).strip()


def _main_part(soup: "BeautifulSoup") -> Any:
    for tag in soup.find_all(_NO_TEXT):
        tag.decompose()
    for tag in soup.find_all(lambda t: t.has_attr("hidden") or bool(_HIDDEN.search(str(t.get("style", ""))))):
        tag.decompose()
    for name in ("main", "article"):
        found = soup.find_all(name)
        if len(found) == 1 and found[0].get_text(strip=True):
            return found[0]
    for tag in soup.find_all(_AROUND):
        if tag.name != "header" or tag.find("h1") is None:  # often it holds the page's title
            tag.decompose()
    return soup
