"""Files of lines, read row by row with their line numbers: CSV and CoNLL, and what every text file may hold.

A row comes out as (line where it begins, dictionary); a string in the dictionary's place says what is wrong with it.
A file that cannot be read at all raises `DataError`. The csv and json modules are used rather than the `datasets`
library because they tell at which line a row began.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import DataError

Rows = Iterator[tuple[int, Any]]

MIB = 2**20
MAX_RECORD = 4 * MIB  # of a line, a CSV cell, an object in an array: far above any conversation
MAX_SENTENCE = 10_000  # tokens


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers and line ends, decoded one by one, so that a fault has its line."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_RECORD + 1):
            number += 1
            if len(raw) > MAX_RECORD:
                raise DataError(f"{path}:{number}: a line of over {MAX_RECORD // MIB} MiB; cut it or leave it out")
            yield number, decode(path, raw, number)


def decode(path: Path, raw: bytes, first_line: int) -> str:
    """`raw` as text without a byte order mark; it begins at `first_line` of the file, for the error's sake."""
    again = "save the file as UTF-8 and run it again"
    if first_line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}:1: UTF-16 text, wanted UTF-8; {again}")
    nul = raw.find(b"\0")
    if nul >= 0:
        line = first_line + raw[:nul].count(b"\n")
        raise DataError(f"{path}:{line}: a NUL byte, so this is no UTF-8 text; {again}")
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw[: error.start].count(b"\n")
        raise DataError(f"{path}:{line}: not UTF-8 text; {again}") from error


def csv_rows(path: Path) -> Rows:
    """A header, then rows; the delimiter (`,` `;` tab) is the one that the header has most of."""
    csv.field_size_limit(MAX_RECORD)
    header_line = next((text for _, text in lines(path)), "")
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader((text for _, text in lines(path)), delimiter=delimiter, strict=True)
    begin = 1
    try:
        header = next(reader, [])
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice:
            raise DataError(f"{path}:1: two columns are called '{twice}'; rename one of them")
        begin = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(header):
                yield begin, dict(zip(header, cells, strict=True))
            elif cells:
                yield begin, f"{len(cells)} cells, but the header has {len(header)} columns (a missing quote?)"
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begin}: broken CSV ({error}); check the quotes of this row") from error


def conll_rows(path: Path) -> Rows:
    """Sentences as {"tokens", "tags"}: one token a line, first and last column, an empty line between sentences."""
    begin, cells, fault = 0, list[list[str]](), ""
    for number, line in _lines_and_end(path):
        if not line.strip():
            if cells or fault:
                yield begin, fault or {"tokens": [c[0] for c in cells], "tags": [c[-1] for c in cells]}
            cells, fault, begin = [], "", 0
            continue
        begin = begin or number
        cells.append(line.strip("\r\n").split("\t") if "\t" in line else line.split())
        if cells[-1][0] == "-DOCSTART-":
            cells.pop()
        elif len(cells[-1]) < 2:
            fault = fault or f"line {number} has no tag; wanted a token, a tab and its tag"
        elif len(cells) > MAX_SENTENCE:
            raise DataError(f"{path}:{begin}: no empty line for {MAX_SENTENCE:,} tokens; is this a CoNLL file?")


def _lines_and_end(path: Path) -> Iterator[tuple[int, str]]:
    yield from lines(path)
    yield 0, ""
