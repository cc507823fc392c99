"""From a user's file to records: the format is recognised by the first row, every fault is named by file and line.

How files are written stands in data/formats_files.py, what their rows look like in data/formats.py. Here a format is
chosen, columns are mapped to our fields, and records are made and checked.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.errors import DataError, one_line
from data.formats import FORMATS, GENERIC, Convert, Draft, Format
from data.formats_files import FILE_TYPES, digest, file_type, read_rows
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    Kind,
    LabelledRecord,
    PreferenceRecord,
    RankingRecord,
    record_id,
)

FORMAT_NAMES = (*FILE_TYPES, *(f.name for f in FORMATS))
MAX_FAULTS = 1000  # so many are kept with their lines; all are counted
PROGRESS_ROWS = 10_000

# Column names that are taken when none is given, in this order.
_USUAL_COLUMNS = {
    "prompt": ("prompt", "instruction", "question"),
    "response": ("response", "completion", "output", "answer"),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversation"),
    "text": ("text", "sentence", "utterance", "query"),
    "label": ("label", "category", "intent", "class"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "labels"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "tie": ("tie",),
    "replies": ("replies", "responses"),
    "ranks": ("ranks", "ranking"),
}
# Per kind the sets of fields that make it, in the order in which kinds are guessed; field → must it be there?
_FIELDS: dict[Kind, list[dict[str, bool]]] = {
    "preference": [{"chosen": True, "rejected": True, "prompt": False, "messages": False, "system": False,
                    "tie": False}],
    "ranking": [{"replies": True, "ranks": True, "prompt": False, "messages": False, "system": False}],
    "chat": [{"messages": True}],
    "instruction": [{"prompt": True, "response": True, "system": False}],
    "labelled": [{"text": True, "label": True}, {"tokens": True, "tags": True}],
}  # fmt: skip
# Fields that a column option can name, and so tell the kind.
COLUMN_OPTIONS = ("prompt", "response", "system", "messages", "text", "label", "chosen", "rejected")
_RECORDS: dict[Kind, Callable[..., AnyRecord]] = {
    "chat": ChatRecord, "instruction": InstructionRecord, "labelled": LabelledRecord, "preference": PreferenceRecord,
    "ranking": RankingRecord,
}  # fmt: skip


@dataclass
class Imported:
    """What a file held."""

    records: list[AnyRecord] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # "file:line: what is wrong", the first MAX_FAULTS of them
    columns: dict[str, str] = field(default_factory=dict)  # our field → the file's column
    unused: list[str] = field(default_factory=list)
    sha256: str = ""
    kind: Kind = "instruction"
    format: str = ""  # how it was written and what its rows looked like, such as "jsonl, openai-chat"
    rows: int = 0
    without: int = 0  # rows that hold no record of this kind, such as a tree without ranked answers
    refused: Counter[str] = field(default_factory=Counter)  # why → how many records

    def raise_if_faulty(self) -> None:
        """One line with the first fault and the number of others."""
        if self.faults:
            others = self.refused.total() - 1
            more = f" (and {others} more like it)" if others else ""
            raise DataError(
                f"{self.faults[0]}{more}; nothing was imported. Mend the file and run it again, "
                "or leave such rows out with --skip-faulty"
            )


@dataclass(frozen=True)
class _Reading:
    """How the rows of a file become records."""

    kind: Kind
    name: str
    convert: Convert
    columns: dict[str, str]


def read_file(path: Path, kind: Kind | None, columns: dict[str, str | None], format: str | None = None,
              on_progress: Callable[[int], None] | None = None) -> Imported:  # fmt: skip
    """All records of the file at `path`; without `kind` and `format` both are recognised.

    `columns` maps our fields to the file's column names. Faults of single records are collected, a file that cannot be
    read at all raises `DataError`.
    """
    written = format if format in FILE_TYPES else file_type(path)
    result = Imported(sha256=digest(path))
    rows = read_rows(path, written)
    head = list(islice(rows, 20))
    if not head:
        raise DataError(f"{path}: no records in it; wanted a header and at least one row (or JSON objects)")
    sample = next((row for _, row in head if isinstance(row, dict)), None)
    if sample is None:
        _, row = head[0]
        found = row if isinstance(row, str) else f"wanted an object, found {type(row).__name__}"
        raise DataError(f"{path}:{head[0][0]}: {one_line(found)}; nothing was imported")
    reading = _choose(path, sample, kind, columns, None if format in FILE_TYPES else format)
    result.kind, result.columns, result.format = reading.kind, reading.columns, f"{written}, {reading.name}"
    result.unused = [c for c in sample if c not in reading.columns.values()] if reading.columns else []
    for line, row in chain(head, rows):
        result.rows += 1
        _take(result, f"{path}:{line}", row, reading)
        if on_progress and result.rows % PROGRESS_ROWS == 0:
            on_progress(result.rows)
    return result


def _take(result: Imported, where: str, row: Any, reading: _Reading) -> None:
    """Add the records of one row, or its faults."""
    before = len(result.records) + result.refused.total()
    try:
        for draft in _drafts(row, reading):
            try:
                record = _RECORDS[reading.kind](**draft)
                record_id(record)  # JSON can spell half a character, which no file can store
                result.records.append(record)
            except UnicodeEncodeError:
                _refuse(result, where, "a text holds half a character (a lone surrogate)")
            except ValidationError as error:
                _refuse(result, where, _complaint(error))
    except (ValueError, TypeError, AttributeError) as error:  # a converter met something of another shape
        shape = isinstance(error, ValueError)
        _refuse(result, where, str(error) if shape else f"not as '{reading.name}' records are ({error})")
    except RecursionError:
        _refuse(result, where, "nested too deeply for a record")
    result.without += before == len(result.records) + result.refused.total()


def _drafts(row: Any, reading: _Reading) -> Iterable[Draft]:
    if not isinstance(row, dict):
        raise ValueError(row if isinstance(row, str) else f"wanted an object, found {type(row).__name__}")
    if not reading.columns:
        return reading.convert(row)
    missing = next((column for column in reading.columns.values() if column not in row), None)
    if missing is not None:
        raise ValueError(f"no '{missing}' in this record")
    return reading.convert({name: row[column] for name, column in reading.columns.items()})


def _refuse(result: Imported, where: str, why: str) -> None:
    why = one_line(why)
    if len(result.faults) < MAX_FAULTS:
        result.faults.append(f"{where}: {why}")
    result.refused[re.sub(r"\d+", "N", why) if len(result.refused) < MAX_FAULTS else "other"] += 1


def _complaint(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _choose(path: Path, row: dict[str, Any], kind: Kind | None, columns: dict[str, str | None],
            wanted: str | None) -> _Reading:  # fmt: skip
    """The reading that was asked for, else the first whose format `row` has, else the one its columns tell."""
    named = {name: column for name, column in columns.items() if column is not None}
    if wanted is not None:
        return _reading(path, _format(wanted), kind)
    if not named:
        for known in FORMATS:
            if known.matches(row) and (kind is None or kind in known.kinds):
                return _reading(path, known, kind)
    for guess in [kind] if kind else _FIELDS:
        for fields in _FIELDS[guess]:
            chosen = _choose_columns(fields, named, list(row))
            if chosen is not None:
                return _Reading(guess, "columns", GENERIC[guess], chosen)
    raise _no_columns(path, kind, named, list(row))


def _format(name: str) -> Format:
    found = next((known for known in FORMATS if known.name == name), None)
    if found is None:
        raise DataError(f"no format '{name}'; have: {', '.join(FORMAT_NAMES)}")
    return found


def _reading(path: Path, known: Format, kind: Kind | None) -> _Reading:
    chosen = kind or next(iter(known.kinds))
    if chosen not in known.kinds:
        raise DataError(f"{path}: the format {known.name} holds {' or '.join(known.kinds)} records, not {chosen}")
    return _Reading(chosen, known.name, known.kinds[chosen], {})


def _choose_columns(fields: dict[str, bool], named: dict[str, str], there: list[str]) -> dict[str, str] | None:
    """Our fields and their columns; None where a field that has to be there has none, or a named one is no field."""
    if not named.keys() <= fields.keys() or not set(named.values()) <= set(there):
        return None
    chosen = {}
    for name, required in fields.items():
        column = named.get(name) or next((c for c in _USUAL_COLUMNS[name] if c in there), None)
        if column is not None:
            chosen[name] = column
        elif required:
            return None
    return chosen


def _no_columns(path: Path, kind: Kind | None, named: dict[str, str], there: list[str]) -> DataError:
    have = f"the columns are: {', '.join(c or '(no name)' for c in there)}"
    for column in named.values():
        if column not in there:
            return DataError(f"{path}: no column '{column}'; {have}")
    if kind is None:
        return DataError(
            f"{path}: cannot tell what its records are; {have}. Say what they are with --as ({', '.join(_FIELDS)}), "
            "and name columns such as --prompt-column and --response-column, or --text-column and --label-column"
        )
    fields = _FIELDS[kind][0]
    wrong = next((name for name in named if name not in fields), None)
    if wrong:
        return DataError(f"{path}: {kind} records have no {wrong}; drop --{wrong}-column or choose another --as")
    name = next(n for n, required in fields.items() if required and not {*_USUAL_COLUMNS[n], named.get(n)} & {*there})
    call = f"Name it with --{name}-column" if name in COLUMN_OPTIONS else "Rename it so"
    return DataError(f"{path}: no column for the {name} ({' or '.join(_USUAL_COLUMNS[name])}); {have}. {call}")
