"""Loaders of what is text already: Markdown, plain text, and rows (CSV, JSONL), each row a passage of its own."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from assistant.documents import Block, Clean, Document, blocks_of, short, without_comments
from data.errors import DataError
from data.formats_json import jsonl_rows
from data.formats_text import Rows, csv_rows, decode

_FRONT_MATTER = re.compile(r"---\n(.{0,20000}?)\n---\s*\n", re.DOTALL)
_TITLES = ("title", "heading", "name", "subject", "topic")
_BODIES = ("text", "content", "body", "passage", "page_content", "document")
_ONLY_META = ("id", "_id", "uuid", "url", "link", "href")  # to filter by, not to search in
_MAX_META = 16  # fields of a row, or of front matter, to filter by
_MAX_META_VALUE = 100  # characters; what is longer is text, no mark


def load_markdown(path: Path, source: str, clean: Clean) -> Document:
    """Markdown as it is, without front matter (title and what to filter by) and without comments."""
    text = clean(decode(path, path.read_bytes(), 1))
    title, meta, text = _front_matter(text)
    return from_markdown("markdown", source, without_comments(text), title, meta)


def load_text(path: Path, source: str, clean: Clean) -> Document:
    """Plain text; headings, lists and tables in it are found where they are written as in Markdown."""
    text = clean(decode(path, path.read_bytes(), 1))
    return Document(source, "text", name_as_title(source), text, blocks_of(text, "text"))


def from_markdown(kind: str, source: str, text: str, title: str = "", meta: dict[str, str] | None = None) -> Document:
    """A document of Markdown text; its title is the given one, else the heading at its top, else the file's name."""
    blocks = blocks_of(text, "markdown")
    first = next((b for b in blocks if b.kind == "heading"), None)
    top = first.title if first and first.level == 1 else ""
    return Document(source, kind, short(title) or top or name_as_title(source), text, blocks, meta=meta or {})


def name_as_title(source: str) -> str:
    """`hr/travel-policy_2024.pdf` → "travel policy 2024"."""
    name = source.rpartition("/")[2]
    return short(re.sub(r"[-_]+", " ", name.rpartition(".")[0] or name)) or name


def load_csv(path: Path, source: str, clean: Clean) -> Document:
    """Rows, each with its header: `column: value` a line."""
    return _from_rows("csv", source, csv_rows(path), path, clean)


def load_jsonl(path: Path, source: str, clean: Clean) -> Document:
    """Objects, one a line, written as rows of a CSV file are."""
    return _from_rows("jsonl", source, jsonl_rows(path), path, clean)


def _front_matter(text: str) -> tuple[str, dict[str, str], str]:
    """Title, values to filter by, and the text after the front matter, where it has one."""
    found = _FRONT_MATTER.match(text)
    try:
        values = yaml.safe_load(found[1]) if found else None
    except (yaml.YAMLError, ValueError):
        values = None
    if not found or not isinstance(values, dict):
        return "", {}, text
    title = values.pop("title", "")
    return title if isinstance(title, str) else "", _meta(values), text[found.end() :]


def _from_rows(kind: str, source: str, rows: Rows, path: Path, clean: Clean) -> Document:
    parts, blocks, faults, place = list[str](), list[Block](), list[str](), 0
    for line, row in rows:
        if not isinstance(row, dict):
            found = row if isinstance(row, str) else f"wanted an object, found {type(row).__name__}"
            faults.append(f"line {line}: {found}")
            continue
        values = {clean(str(k)): clean(v) for k, value in row.items() if (v := _value(value))}
        title, text = _row_text(values)
        if not text:
            faults.append(f"line {line}: no text in it")
            continue
        lines = list(_line_starts(text, place))
        # The title stays with its first line.
        header_end, cuts = (place + len(title), lines[1:]) if title else (0, lines)
        meta = tuple((_meta(values) | {"row": str(line)}).items())
        blocks.append(
            Block("row", place, place + len(text), title=short(title), header_end=header_end, cuts=tuple(cuts),
                  meta=meta)
        )  # fmt: skip
        parts.append(text)
        place += len(text) + 2
    if not blocks:
        found = f" ({faults[0]})" if faults else ""
        raise DataError(f"{path}: no rows that can be read{found}; wanted a header and rows, or one JSON object a line")
    notes = (f"{path}: {len(faults)} of its rows left out; the first: {faults[0]}",) if faults else ()
    return Document(source, kind, name_as_title(source), "\n\n".join(parts), blocks, notes=notes)


def _row_text(values: Mapping[str, str]) -> tuple[str, str]:
    """The row's title and its whole text: the title, `column: value` lines, and its own text last, without a name."""
    lower = {name.strip().lower(): name for name in values}
    body = next((lower[n] for n in _BODIES if n in lower), None)
    title = next((lower[n] for n in _TITLES if n in lower), None) if body else None
    rest = [n for n in values if n not in (title, body) and n.strip().lower() not in _ONLY_META]
    lines = [f"{n.strip()}: {values[n].strip()}" if n.strip() else values[n].strip() for n in rest]
    head = " ".join(values[title].split()) if title else ""
    return head, "\n".join(filter(None, [head, *lines, values[body].strip() if body else ""]))


def _line_starts(text: str, place: int) -> Iterator[int]:
    return (place + found.end() for found in re.finditer(r"\n(?=.)", text))


def _value(value: Any) -> str:
    """A cell or a JSON value as text; '' for what is empty."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False)


def _meta(values: Mapping[Any, Any]) -> dict[str, str]:
    """The short values, to filter by."""
    named = {
        str(k).strip(): str(v) for k, v in values.items() if isinstance(v, str | int | float) or hasattr(v, "year")
    }
    return dict([(k, v) for k, v in named.items() if k and 0 < len(v) <= _MAX_META_VALUE and "\n" not in v][:_MAX_META])
