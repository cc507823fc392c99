"""From a file to its text: Markdown, plain text, HTML, PDF, Word, CSV, JSONL.

`load` reads one file; what cannot be read raises one line, what could be read only in part leaves a note.
Files are what strangers wrote: sizes are limited, and whatever a parser trips over is not the end of the run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from assistant.documents import Clean, Document, cleaner
from assistant.loaders_html import load_docx, load_html
from assistant.loaders_pdf import load_pdf
from assistant.loaders_text import load_csv, load_jsonl, load_markdown, load_text
from data.errors import BrogueError, DataError, one_line

Loader = Callable[[Path, str, Clean], Document]

MIB = 2**20
_TEXT_LIMIT = 64 * MIB
_TYPES: dict[str, tuple[Loader, int]] = {
    "markdown": (load_markdown, _TEXT_LIMIT), "text": (load_text, _TEXT_LIMIT), "csv": (load_csv, _TEXT_LIMIT),
    "jsonl": (load_jsonl, _TEXT_LIMIT), "html": (load_html, 16 * MIB),
    "docx": (load_docx, 256 * MIB), "pdf": (load_pdf, 256 * MIB),  # most of these are pictures
}  # fmt: skip
SUFFIXES: dict[str, str] = {
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown", ".txt": "text", ".text": "text", ".html": "html",
    ".htm": "html", ".xhtml": "html", ".pdf": "pdf", ".docx": "docx", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}  # fmt: skip
_SIGNATURES: dict[bytes, str] = {
    b"%PDF-": "a PDF", b"PK\x03\x04": "a ZIP archive or an Office file", b"PK\x05\x06": "an empty ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Office file (before 2007), or an encrypted one", b"{\\rtf": "an RTF file",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"GIF8": "a picture", b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a program", b"MZ": "a program", b"SQLite format 3": "a database",
}  # fmt: skip
_ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")


def load(path: Path, source: str, template_tokens: Sequence[str] = ()) -> Document:
    """The document in the file at `path`, to be cited as `source`; without the base model's `template_tokens`.

    Raises DataError with what the file is, what was wanted, and what to do.
    """
    kind = file_type(path)
    loader, limit = _TYPES[kind]
    try:
        _check(path, kind, limit)
        document = loader(path, source, cleaner(template_tokens))
    except BrogueError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or one_line(error, 100)})") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply to be read; save it anew from the program it comes from") from error
    except Exception as error:  # what a parser says of a broken file is of no fixed kind
        raise DataError(f"{path}: broken, or not {_WANTED[kind]} ({_reason(error)}); save it anew") from error
    if not any(c.isalnum() for c in document.text):
        raise DataError(f"{path}: holds no text; leave it out, or look whether the right file was saved")
    return document


_WANTED = {"markdown": "Markdown", "text": "text", "csv": "CSV", "jsonl": "JSONL", "html": "HTML",
           "docx": "a Word document", "pdf": "a PDF"}  # fmt: skip


def file_type(path: Path) -> str:
    """The type of a file by its name."""
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise DataError(f"{path}: cannot read '{path.suffix}' files; wanted one of {', '.join(SUFFIXES)}")
    return found


def _check(path: Path, kind: str, limit: int) -> None:
    """Refuse what is empty, too large, or not what its name says."""
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); save it again or leave it out")
    if size > limit:
        advice = "split it by chapters or topics" if limit == _TEXT_LIMIT else "save a smaller copy"
        raise DataError(f"{path}: {size / MIB:,.0f} MiB, the most for {_WANTED[kind]} is {limit // MIB}; {advice}")
    with path.open("rb") as file:
        head = file.read(1024)
    found = next((what for mark, what in _SIGNATURES.items() if head.startswith(mark)), None)
    if kind == "pdf":
        fits = b"%PDF-" in head  # some have a few bytes in front
    elif kind == "docx":
        fits = head.startswith(_ZIPPED)
    else:
        fits = found is None
    if not fits:
        raise DataError(
            f"{path}: named {path.suffix}, but it is {found or 'not ' + _WANTED[kind]}; "
            f"save it as {_WANTED[kind]}, or give it its right name"
        )


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 100)
