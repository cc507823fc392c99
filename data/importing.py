"""From a user's file to records, one after another: every fault is named by file and line.

How files are written stands in data/formats_files.py, what their rows look like in data/formats.py, and how a file's
format and columns are chosen in data/importing_choice.py. Here records are made and checked as the file is read, so
that it may be larger than the memory.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from data.dataset import Row, Shares
from data.errors import DataError, one_line
from data.formats import Draft
from data.formats_files import FILE_TYPES, SplitRows, digest, file_type, read_rows
from data.importing_choice import Reading, choose_reading
from data.importing_weight import WEIGHTED, weight_of
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    Kind,
    LabelledRecord,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
    Split,
    assign_split,
    position,
    record_id,
    split_at,
)

MAX_FAULTS = 1000  # so many are kept with their lines; all are counted
PROGRESS_ROWS = 10_000
# The words by which the `datasets` library knows splits, as in train_sft or test-small.
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_RECORDS: dict[Kind, Callable[..., AnyRecord]] = {
    "chat": ChatRecord, "instruction": InstructionRecord, "labelled": LabelledRecord, "preference": PreferenceRecord,
    "ranking": RankingRecord, "rated": RatedRecord,
}  # fmt: skip


class Found(NamedTuple):
    """A record, and what its file says about it."""

    record: AnyRecord
    where: str  # file:line
    group: str | None = None
    subject: str | None = None
    split: Split | None = None  # where the file's folder puts it
    weight: float = 1.0


@dataclass
class Imported:
    """What a file held; the counts are right when it has been read to its end."""

    records: list[AnyRecord] = field(default_factory=list)  # by read_file; stream_file hands them on and keeps none
    faults: list[str] = field(default_factory=list)  # "file:line: what is wrong", the first MAX_FAULTS of them
    columns: dict[str, str] = field(default_factory=dict)  # our field → the file's column
    unused: list[str] = field(default_factory=list)
    sha256: str = ""
    kind: Kind = "instruction"
    format: str = ""  # how it was written and what its rows looked like, such as "jsonl, openai-chat"
    rows: int = 0
    kept: int = 0  # records
    without: int = 0  # rows that hold no record of this kind, such as a tree without ranked answers
    refused: Counter[str] = field(default_factory=Counter)  # why → how many records
    has_own_splits: bool = False  # a folder with several; the next two tell which
    own_splits: dict[str, Split] = field(default_factory=dict)  # a folder's name of a split → ours
    strange_splits: Counter[str] = field(default_factory=Counter)  # of these: not one we know → its rows
    weighted: int = 0  # rows whose column `weight` says other than 1
    nameless: Counter[str] = field(default_factory=Counter)  # column of groups or subjects → rows without a value

    def raise_if_faulty(self) -> None:
        """One line with the first fault and the number of others."""
        if self.faults:
            others = self.refused.total() - 1
            more = f" (and {others} more like it)" if others else ""
            raise DataError(
                f"{self.faults[0]}{more}; nothing was imported. Mend the file and run it again, "
                "or leave such rows out with --skip-faulty"
            )


def read_file(path: Path, kind: Kind | None, columns: dict[str, str | None], format: str | None = None,
              on_progress: Callable[[int], None] | None = None) -> Imported:  # fmt: skip
    """All records of the file at `path` at once; see `stream_file`."""
    result, found = stream_file(path, kind, columns, format, on_progress)
    result.records = [one.record for one in found]
    return result


def stream_file(path: Path, kind: Kind | None, columns: dict[str, str | None], format: str | None = None,
                on_progress: Callable[[int], None] | None = None, group_column: str | None = None,
                subject_column: str | None = None) -> tuple[Imported, Iterator[Found]]:  # fmt: skip
    """What the file at `path` is, and its records as they are read; without `kind` and `format` both are recognised.

    `columns` maps our fields to the file's column names; `group_column` and `subject_column` name what a row belongs
    to and whose data it is. Faults of single records are collected, a file that cannot be read at all raises
    `DataError`: here, or while its records are read.
    """
    written = format if format in FILE_TYPES else file_type(path)
    result = Imported(sha256=digest(path))
    rows = read_rows(path, written)
    head = list(islice(rows, 20))
    if not head:
        raise DataError(f"{path}: no records in it; wanted a header and at least one row (or JSON objects)")
    sample = next((row for _, row, _ in head if isinstance(row, dict)), None)
    if sample is None:
        line, row, _ = head[0]
        found = row if isinstance(row, str) else f"wanted an object, found {type(row).__name__}"
        raise DataError(f"{path}:{line}: {one_line(found)}; nothing was imported")
    reading = choose_reading(path, sample, kind, columns, None if format in FILE_TYPES else format)
    named = {"group": group_column, "subject": subject_column}
    _check_columns(path, [c for c in named.values() if c is not None], [row for _, row, _ in head])
    result.kind, result.columns, result.format = reading.kind, reading.columns, f"{written}, {reading.name}"
    used = {*reading.columns.values(), *named.values(), *(("weight",) if reading.kind in WEIGHTED else ())}
    result.has_own_splits = head[0][2] is not None
    result.unused = [c for c in sample if c not in used] if reading.columns else []
    return result, _read(result, path, chain(head, rows), reading, named, on_progress)


def ids_in(row: dict[str, Any]) -> set[str]:
    """The ids of the records that a row would become, whatever its format; none for what is no record."""
    try:
        reading = choose_reading(Path(), row, None, {}, None)
    except DataError:
        return set()
    return {record_id(record) for record in _records(Imported(), "", row, reading)}


def dataset_rows(imported: Imported, found: Iterable[Found], shares: Shares | None, skip_faulty: bool) -> Iterator[Row]:
    """Rows to be saved. The split is the folder's own without `shares`, else by the group if there is one, else by the
    question. A fault ends it with `DataError` unless it may be skipped, after the whole file has been looked at."""
    for one in found:
        if skip_faulty or not imported.faults:
            yield Row(id=record_id(one.record), split=_split(one, shares), record=one.record, group=one.group,
                      subject=one.subject, weight=one.weight)  # fmt: skip
    if not skip_faulty:
        imported.raise_if_faulty()
    if not imported.kept:
        raise DataError(f"none of the file's {imported.rows} rows is a {imported.kind} record; nothing was imported")


def _split(found: Found, shares: Shares | None) -> Split:
    if shares is None:
        return found.split or "train"
    if found.group is not None:
        return split_at(position(found.group), shares)
    return assign_split(found.record, shares)


def _check_columns(path: Path, wanted: list[str], head: list[Any]) -> None:
    """Refuse a column of groups or subjects that none of the first rows has."""
    there = dict.fromkeys(column for row in head if isinstance(row, dict) for column in row)
    for column in wanted:
        if column not in there:
            have = ", ".join(c or "(no name)" for c in there)
            raise DataError(f"{path}: no column '{column}'; the columns are: {have}")


def _read(result: Imported, path: Path, rows: SplitRows, reading: Reading, named: dict[str, str | None],
          on_progress: Callable[[int], None] | None) -> Iterator[Found]:  # fmt: skip
    for line, row, split in rows:
        result.rows += 1
        where = f"{path}:{line}"
        belongs = _belongs(result, row, reading, named, line)
        own = _own_split(result, split)
        try:
            weight = weight_of(row, reading.kind)
        except ValueError as error:
            _refuse(result, where, str(error))
            continue
        result.weighted += weight != 1
        for record in _records(result, where, row, reading):
            result.kept += 1
            yield Found(record, where, belongs["group"], belongs["subject"], own, weight)
        if on_progress and result.rows % PROGRESS_ROWS == 0:
            on_progress(result.rows)


def _belongs(result: Imported, row: Any, reading: Reading, named: dict[str, str | None],
             line: int) -> dict[str, str | None]:  # fmt: skip
    """The row's group and subject: as its columns say, else what its format keeps together."""
    values: dict[str, str | None] = {"group": None, "subject": None}
    if not isinstance(row, dict):
        return values
    for what, column in named.items():
        if column is not None:
            value = row.get(column)
            text = str(value).strip() if isinstance(value, str | int) else ""
            values[what] = text.encode(errors="replace").decode() or None  # half a character cannot be stored
            result.nameless[column] += values[what] is None
    if named["group"] is None and reading.group:
        values["group"] = str(reading.group(row) or line)
    return values


def _own_split(result: Imported, name: str | None) -> Split | None:
    if name is None:
        return None
    if name not in result.own_splits:
        known = next((_SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLIT_WORDS), None)
        result.own_splits[name] = known or "train"
        if known is None:
            result.strange_splits[name] = 0
    if name in result.strange_splits:
        result.strange_splits[name] += 1
    return result.own_splits[name]


def _records(result: Imported, where: str, row: Any, reading: Reading) -> Iterator[AnyRecord]:
    """The records of one row; its faults are noted."""
    found, refused = 0, result.refused.total()
    try:
        for draft in _drafts(row, reading):
            try:
                record = _RECORDS[reading.kind](**draft)
                record_id(record)  # JSON can spell half a character, which no file can store
                found += 1
                yield record
            except UnicodeEncodeError:
                _refuse(result, where, "a text holds half a character (a lone surrogate)")
            except ValidationError as error:
                _refuse(result, where, _complaint(error))
    except (ValueError, TypeError, AttributeError) as error:  # a converter met something of another shape
        shape = isinstance(error, ValueError)
        _refuse(result, where, str(error) if shape else f"not as '{reading.name}' records are ({error})")
    except RecursionError:
        _refuse(result, where, "nested too deeply for a record")
    result.without += not found and refused == result.refused.total()


def _drafts(row: Any, reading: Reading) -> Iterable[Draft]:
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
