"""What logs, runs and uploaded files hold of a person, line by line: counted, or taken out.

A file of JSON lines, as all uploaded ones are, is written anew without them. In any other text file, such as a log that
a running process holds open, the line is overwritten with blanks in its place.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data.home import Home, write_text
from data.importing import ids_in

_SUFFIXES = (".jsonl", ".log", ".txt", ".json", ".csv", ".md")
_IDS = re.compile(rb"resp-[0-9a-f]{32}|(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])")
_TELLING = 6  # characters: a shorter name, such as "7" or "ann", is looked for in quotes only


class Traces(NamedTuple):
    """By what a line is known to be about a person."""

    subject: str
    ids: set[str]  # of their answers and of their records
    asked: set[str]  # what they asked, for lines that were written before these carried ids

    def pattern(self) -> "re.Pattern[bytes]":
        """Their name, as it stands in JSON or in plain text."""
        names = {self.subject, json.dumps(self.subject)[1:-1], json.dumps(self.subject, ensure_ascii=False)[1:-1]}
        ways = []
        for name in names:
            word = re.escape(name.encode("utf-8", "surrogatepass"))
            ways.append(b'"' + word + b'"' if len(name) < _TELLING else rb"(?<![\w-])" + word + rb"(?![\w-])")
        return re.compile(b"|".join(ways))


def count(home: Home, traces: Traces) -> dict[str, int]:
    """Lines about the person by file (its path in the home)."""
    named = traces.pattern()
    counts = {path: sum(_is_theirs(line, named, traces) for line in _lines(path)) for path in _files(home)}
    counts |= {path: sum(_is_uploaded(line, named, traces) for line in _lines(path)) for path in _uploads(home)}
    return {path.relative_to(home.root).as_posix(): lines for path, lines in counts.items() if lines}


def clean(home: Home, traces: Traces) -> list[str]:
    """Take these lines out; the ids of the uploaded files that have changed."""
    named, changed = traces.pattern(), []
    for path in _uploads(home):
        kept = [line for line in _lines(path) if not _is_uploaded(line, named, traces)]
        if sum(map(len, kept)) < path.stat().st_size:
            write_text(path, b"".join(kept).decode("utf-8", "replace"))
            changed.append(path.name)
    for path in _files(home):
        if not any(_is_theirs(line, named, traces) for line in _lines(path)):
            continue
        if path.suffix == ".jsonl":
            kept = [line for line in _lines(path) if not _is_theirs(line, named, traces)]
            write_text(path, b"".join(kept).decode("utf-8", "replace"))
        else:
            _blank(path, named, traces)
    return changed


def _files(home: Home) -> list[Path]:
    found = [path for folder in (home.logs, home.runs) for path in folder.rglob("*") if path.suffix in _SUFFIXES]
    return sorted(path for path in found if path.is_file())


def _uploads(home: Home) -> list[Path]:
    return sorted(home.files.glob("file-*")) if home.files.exists() else []


def _is_uploaded(line: bytes, named: "re.Pattern[bytes]", traces: Traces) -> bool:
    """Whether a line of an uploaded file is theirs: also by its content, which has no id there."""
    if _is_theirs(line, named, traces):
        return True
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and bool(traces.ids) and not traces.ids.isdisjoint(ids_in(row))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _is_theirs(line: bytes, named: "re.Pattern[bytes]", traces: Traces) -> bool:
    if named.search(line) or any(found.decode() in traces.ids for found in _IDS.findall(line)):
        return True
    return b'"messages"' in line and b'"response_id"' not in line and not traces.asked.isdisjoint(_asked(line))


def _asked(line: bytes) -> set[str]:
    try:
        messages = json.loads(line)["messages"]
        return {m["content"] for m in messages if m.get("role") == "user" and isinstance(m["content"], str)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _blank(path: Path, named: "re.Pattern[bytes]", traces: Traces) -> None:
    with path.open("r+b") as file:
        begin = 0
        for line in iter(file.readline, b""):
            end = file.tell()
            if _is_theirs(line, named, traces):
                text = line.rstrip(b"\r\n")
                file.seek(begin)
                file.write(b" " * len(text))
                file.seek(end)
            begin = end
