"""How files are written, and the two ways of writing that need a library: Parquet and Hugging Face folders.

Rows come out as data/formats_text.py says, with row numbers where a file has no lines. No file can fill the memory:
a row, and what a file unpacks to, are limited.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data.errors import DataError, one_line
from data.formats_json import json_rows, jsonl_rows
from data.formats_text import MIB, Rows, conll_rows, csv_rows
from data.home import sha256_of

SplitRows = Iterator[tuple[int, Any, str | None]]

MAX_UNPACKED = 256 * MIB  # of a Parquet file, or MAX_RATIO times its size where that is more
MAX_RATIO = 100

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
            ".conll": "conll", ".bio": "conll", ".iob": "conll"}  # fmt: skip


def file_type(path: Path) -> str:
    """How the file at `path` is written, from its name."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        return "folder"
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        wanted = f"wanted one of {', '.join(SUFFIXES)}, a Hugging Face dataset folder, or --format csv (json, jsonl, …)"
        raise DataError(f"{path}: cannot read '{path.suffix}' files; {wanted}")
    return found


def read_rows(path: Path, kind_of_file: str) -> SplitRows:
    """The rows of the file or folder at `path`, with the name of the split where a folder has several."""
    if kind_of_file == "folder":
        return _folder_rows(path)
    return ((line, row, None) for line, row in FILE_TYPES[kind_of_file](path))


def digest(path: Path) -> str:
    """sha256 of a file; of a folder, over its files' names and contents."""
    try:
        if not path.is_dir():
            if path.stat().st_size == 0:
                raise DataError(f"{path}: the file is empty")
            return sha256_of(path)
        total = hashlib.sha256()
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{part.relative_to(path)}\0{sha256_of(part)}\n".encode())
        return total.hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _parquet_rows(path: Path) -> Rows:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    limit = max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size)
    number = unpacked = 0
    try:
        file = ParquetFile(path)
        chunks = [file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups)]
        # A value is no larger than its row group, so few rows at once keep a batch of repeated huge values small.
        rows_at_once = min(1000, max(1, MAX_UNPACKED // (max(chunks, default=1) or 1)))
        if sum(chunks) <= limit:
            for batch in file.iter_batches(batch_size=rows_at_once):
                for one in range(batch.num_rows):  # row by row: a value kept once may stand in every row
                    [row] = batch.slice(one, 1).to_pylist()
                    unpacked += _size(row)
                    if unpacked > limit:
                        break
                    number += 1
                    yield number, row
                if unpacked > limit:
                    break
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({one_line(error, 100)}); write it again") from error
    if max(unpacked, sum(chunks)) > limit:
        raise DataError(
            f"{path}: unpacks to over {math.floor(limit / MIB)} MiB, {MAX_RATIO} times its size or more; "
            "if that is meant, write it as JSONL and import that"
        )


def _size(value: Any) -> int:
    """Roughly the bytes that a value takes."""
    if isinstance(value, dict | list):
        return 64 + sum(map(_size, value.values() if isinstance(value, dict) else value))
    return 64 + (len(value) if isinstance(value, str | bytes) else 0)


def _folder_rows(path: Path) -> SplitRows:
    """A folder of `save_to_disk`, or one with data files as on the Hugging Face hub; every split, one after another."""
    import datasets
    import pyarrow

    number = 0
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(str(path), streaming=True)  # streaming: no copy in a cache
        splits = loaded if isinstance(loaded, dict) else {None: loaded}
        for name, split in splits.items():
            names = _label_names(split.features or {})
            for row in split:
                number += 1
                named = row | {c: _named(row[c], names[c]) for c in names}
                yield number, named, str(name) if len(splits) > 1 else None
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{path}: not a dataset folder that can be read ({one_line(error, 150)})") from error


def _label_names(features: dict[str, Any]) -> dict[str, list[str]]:
    """The columns that hold numbers of classes, with the classes' names."""
    inner = {column: getattr(feature, "feature", feature) for column, feature in features.items()}
    return {column: feature.names for column, feature in inner.items() if hasattr(feature, "names")}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(v, names) for v in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


FILE_TYPES: dict[str, Callable[[Path], Any]] = {
    "csv": csv_rows, "json": json_rows, "jsonl": jsonl_rows, "parquet": _parquet_rows, "conll": conll_rows,
    "folder": _folder_rows,
}  # fmt: skip
