"""A dataset as a file for other tools, or for an import elsewhere: row by row, whole or not at all.

Where records of a kind have no place in a format (data/exporting_shapes.py), it is refused; ties have none among pairs
and are counted. TRL's columns come with one more, `weight`, where rows or the pairs of a ranking differ in it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from data.dataset import DatasetCard, Row, iter_rows, load_card
from data.errors import BrogueError, DataError
from data.exporting_files import FILES
from data.exporting_shapes import SHAPES, Fields, Shape, pair_weight
from data.home import Home
from data.records import Split, assign_split, position, split_at

_TABLES = ("jsonl", "csv", "parquet")
_BOOKS = ("split", "group", "subject", "synthetic_of", "weight")  # what our own columns say of a row beside its record


class Exported(NamedTuple):
    """What was written."""

    lines: int
    left_out: int  # records without a line, such as ties among pairs
    synthetic: int  # of the records, those that a model made
    resplit: int  # records that an import of it would put into another split; 0: it gives the same splits
    books: tuple[str, ...]  # columns beside the record: split, group, subject, synthetic_of, weight


def export(home: Home, name: str, to: Path, format: str, split: Split | None, replace: bool,
           on_progress: Callable[[int], None] = lambda _: None) -> Exported:  # fmt: skip
    """Write dataset `name`, or one split of it, to the file `to`; TRL's and OpenAI's columns go into Parquet too."""
    card = load_card(home, name)
    shape = _shape(card, format)
    written_as = format if format in FILES else "parquet" if to.suffix == ".parquet" else "jsonl"
    with whole_file(to, replace) as temporary:
        rows = (row for row in iter_rows(home, name) if split is None or row.split == split)
        trl = format.startswith("trl-")
        books = _books(home, card, split) if trl or format in _TABLES else ()
        weighted = trl and ("weight" in books or card.kind == "ranking")
        maker = _Maker(shape, card, books if format in _TABLES else (), weighted)
        FILES[written_as](temporary, maker.lines(rows, on_progress))
        if not maker.written:
            raise DataError(_nothing(card, format, split, maker.left_out))
    return Exported(maker.written, maker.left_out, maker.synthetic, maker.resplit, maker.books)


def guess_format(to: Path) -> str:
    """The format that a file's name tells."""
    suffix = to.suffix.removeprefix(".").lower()
    if suffix not in FILES:
        raise BrogueError(f"'{to}' does not tell how to write it; end it in .{', .'.join(FILES)}, or add --format")
    return suffix


class _Maker:
    """Rows into lines, counted."""

    def __init__(self, shape: Shape, card: DatasetCard, books: tuple[str, ...], weighted: bool) -> None:
        self._shape, self._shares, self.books, self._weighted = shape, card.shares, books, weighted
        self.written = self.left_out = self.synthetic = self.resplit = 0

    def lines(self, rows: Iterator[Row], on_progress: Callable[[int], None]) -> Iterator[Fields]:
        for number, row in enumerate(rows, 1):
            before = self.written
            more = {name: getattr(row, name) for name in self.books}
            if self._weighted:
                more["weight"] = row.weight * pair_weight(row.record)
            for fields in self._shape(row.record):
                self.written += 1
                yield fields | more
            self.left_out += before == self.written
            self.synthetic += row.synthetic_of is not None
            self.resplit += self._again(row) != row.split
            if number % 10_000 == 0:
                on_progress(number)

    def _again(self, row: Row) -> Split | None:
        """The split that an import of what is written gives the row."""
        if self._shares is None:
            return None
        if row.group is not None and "group" in self.books:
            return split_at(position(row.group), self._shares)
        return assign_split(row.record, self._shares)


def _books(home: Home, card: DatasetCard, split: Split | None) -> tuple[str, ...]:
    """The columns beside the record that any row has something in."""
    wanted = {name: Row.model_fields[name].default for name in _BOOKS if name != "split"}
    found = {name for row in iter_rows(home, card.name) for name, none in wanted.items() if getattr(row, name) != none}
    return tuple(name for name in _BOOKS if name in found or (name == "split" and split is None))


def _nothing(card: DatasetCard, format: str, split: Split | None, left_out: int) -> str:
    where = f"the {split} split of '{card.name}'" if split else f"dataset '{card.name}'"
    why = "holds only ties" if left_out else "is empty"
    return f"{where} {why}, so there is nothing to write as {format}"


@contextmanager
def whole_file(to: Path, replace: bool) -> Iterator[Path]:
    """A file beside `to` that takes its place when the block succeeds, and vanishes otherwise."""
    if to.is_dir():
        raise BrogueError(f"{to} is a folder; name a file in it")
    if to.exists() and not replace:
        raise BrogueError(f"{to} exists already; choose another name or add --replace")
    if not to.parent.is_dir():
        raise BrogueError(f"no folder {to.parent}; make it first: mkdir -p {to.parent}")
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(to)
    except OSError as error:
        raise BrogueError(f"cannot write {to} ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _shape(card: DatasetCard, format: str) -> Shape:
    if format not in SHAPES:
        raise BrogueError(f"no format '{format}'; have: {', '.join(SHAPES)}")
    found = SHAPES[format].get(card.kind)
    if found is None:
        fitting = [name for name, kinds in SHAPES.items() if card.kind in kinds]
        raise BrogueError(
            f"'{format}' takes {' or '.join(SHAPES[format])} records, and '{card.name}' holds {card.kind} records; "
            f"for these there is --format {', '.join(fitting)}"
        )
    return found
