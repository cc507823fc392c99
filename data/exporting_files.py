"""Lines, dictionaries of the same columns, written as JSONL, CSV, Parquet or CoNLL; nothing is held but a batch."""

import csv
import json
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Lines = Iterable[dict[str, Any]]
_BATCH = 2000  # lines of a Parquet row group


def _jsonl(path: Path, lines: Lines) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _csv(path: Path, lines: Lines) -> None:
    """A header and rows; lists as JSON text, nothing for None."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, line in enumerate(lines):
            if number == 0:
                writer.writerow(line)
            writer.writerow([json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for v in line.values()])


def _conll(path: Path, lines: Lines) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            pairs = zip(line["tokens"], line["tags"], strict=True)
            file.writelines([*(f"{token}\t{tag}\n" for token, tag in pairs), "\n"])


def _parquet(path: Path, lines: Lines) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        path.touch()
        return
    schema = pa.schema([(name, _type(value)) for name, value in first.items()])
    lines = chain([first], lines)
    with ParquetWriter(path, schema) as writer:
        while batch := list(islice(lines, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _type(value: Any) -> "pa.DataType":
    """The column's type, from one of its values; what may be missing is a text in all our columns."""
    import pyarrow as pa

    if isinstance(value, dict):
        return pa.struct([(name, _type(inner)) for name, inner in value.items()])
    if isinstance(value, list):
        return pa.list_(_type(value[0]))
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, float):
        return pa.float64()
    return pa.int64() if isinstance(value, int) else pa.string()


FILES: dict[str, Callable[[Path, Lines], None]] = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "conll": _conll}
