"""From a user's file (CSV, TSV, JSON, JSONL) to records, every fault named by file and line.

The csv and json modules are used rather than the `datasets` library because they tell at which line a record began.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.errors import DataError, one_line
from data.records import ChatRecord, InstructionRecord, Kind

# Column names that are taken when none is given, in this order.
_USUAL_COLUMNS = {
    "prompt": ("prompt", "instruction", "question"),
    "response": ("response", "completion", "output", "answer"),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversation"),
}
_FIELDS: dict[Kind, dict[str, bool]] = {  # field → must it be there?
    "instruction": {"prompt": True, "response": True, "system": False},
    "chat": {"messages": True},
}
_READERS: dict[str, str] = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass
class Imported:
    """What a file held."""

    records: list[ChatRecord | InstructionRecord] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # "file:line: what is wrong"
    columns: dict[str, str] = field(default_factory=dict)  # our field → the file's column
    unused: list[str] = field(default_factory=list)
    sha256: str = ""

    def raise_if_faulty(self) -> None:
        """One line with the first fault and the number of others."""
        if self.faults:
            more = f" (and {len(self.faults) - 1} more like it)" if len(self.faults) > 1 else ""
            raise DataError(f"{self.faults[0]}{more}; nothing was imported. Mend the file and run it again")


def read_file(path: Path, kind: Kind, columns: dict[str, str | None]) -> Imported:
    """All records of the file at `path` as `kind`; `columns` maps our fields to the file's column names.

    Faults of single records are collected, a file that cannot be read at all raises `DataError`.
    """
    text, sha256 = _read_text(path)
    rows = _rows(path, text)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: no records in it; wanted a header and at least one row (or JSON objects)")
    result = Imported(sha256=sha256)
    _, row = first
    if isinstance(row, dict):
        result.columns = _choose_columns(path, kind, columns, list(row))
        result.unused = [c for c in row if c not in result.columns.values()]
    for line, row in _chain(first, rows):
        try:
            if not isinstance(row, dict):
                raise ValueError(row if isinstance(row, str) else f"wanted an object, found {type(row).__name__}")
            result.records.append(_record(kind, row, result.columns))
        except ValidationError as error:
            result.faults.append(f"{path}:{line}: {_complaint(error)}")
        except ValueError as error:
            result.faults.append(f"{path}:{line}: {one_line(error)}")
    return result


def _read_text(path: Path) -> tuple[str, str]:
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path}: cannot read '{path.suffix}' files; wanted one of {', '.join(_READERS)}")
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8 and run it again") from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return text, hashlib.sha256(raw).hexdigest()


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line where it begins, row) for each row; a row that is a string is the description of a fault."""
    readers: dict[str, Callable[[Path, str], Iterator[tuple[int, Any]]]] = {
        "csv": _csv_rows, "json": _json_rows, "jsonl": _jsonl_rows,
    }  # fmt: skip
    return readers[_READERS[path.suffix.lower()]](path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)
    header_line = text.splitlines()[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    begin = 1
    try:
        header = next(reader)
        begin = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(header):
                yield begin, dict(zip(header, cells, strict=True))
            elif cells:
                yield begin, f"{len(cells)} cells, but the header has {len(header)} columns (a missing quote?)"
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begin}: broken CSV ({error}); check the quotes of this row") from error


def _jsonl_rows(_path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, f"not valid JSON ({error.msg} at column {error.colno})"


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The objects of a JSON array, each with the line where it begins."""
    decoder = json.JSONDecoder()
    position = len(text) - len(text.lstrip())
    if text[position] != "[":
        raise DataError(f"{path}: wanted a JSON array of objects; for one object a line name the file .jsonl")
    position += 1
    line, counted = 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error
        yield line, value


def _choose_columns(path: Path, kind: Kind, given: dict[str, str | None], there: list[str]) -> dict[str, str]:
    chosen = {}
    for name, required in _FIELDS[kind].items():
        wanted = given.get(name)
        if wanted is not None and wanted not in there:
            raise DataError(f"{path}: no column '{wanted}'; the columns are: {', '.join(there)}")
        column = wanted or next((c for c in _USUAL_COLUMNS[name] if c in there), None)
        if column is not None:
            chosen[name] = column
        elif required:
            raise DataError(
                f"{path}: no column for the {name} ({' or '.join(_USUAL_COLUMNS[name])}); "
                f"the columns are: {', '.join(there)}. Name it with --{name}-column"
            )
    return chosen


def _record(kind: Kind, row: dict[str, Any], columns: dict[str, str]) -> ChatRecord | InstructionRecord:
    values = {}
    for name, column in columns.items():
        if column not in row:
            raise ValueError(f"no '{column}' in this record")
        values[name] = row[column]
    if kind == "instruction":
        if not values.get("system"):
            values.pop("system", None)
        return InstructionRecord(**values)
    messages = values["messages"]
    return ChatRecord(messages=json.loads(messages) if isinstance(messages, str) else messages)


def _complaint(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _chain(first: tuple[int, Any], rest: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    yield first
    yield from rest
