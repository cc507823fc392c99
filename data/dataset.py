"""Named datasets on disk: `<home>/datasets/<name>/records.jsonl` and `card.json`.

A dataset is written whole or not at all, row by row, so that it may be larger than the memory. Its digest is over the
records' ids, splits and weights, so the same content imported twice has the same digest; adapter cards keep it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TextIO

from pydantic import Field, ValidationError

from data.dataset_folder import CARD, RECORDS, mend, new_dataset_folder, refuse_existing
from data.errors import DataError, one_line, unknown
from data.home import Home, check_name, write_json
from data.records import SPLITS, AnyRecord, Kind, Record, Split, assign_split, record_id
from data.settings import Frozen


class Step(Frozen):
    """One thing that was done to a dataset after its import: doing it again to the same rows gives the same digest."""

    name: str  # such as "dedupe" or "redact"
    options: dict[str, str | int | float | bool | None] = {}
    counts: dict[str, int] = {}  # what it found and changed


class DatasetCard(Frozen):
    """What a dataset is, where it came from and what was done to it."""

    name: str
    kind: Kind
    source: str  # the imported file's name
    source_sha256: str
    columns: dict[str, str]  # our field → the file's column
    records: dict[Split, int]
    duplicates: int  # records whose content stands in the dataset more than once, beyond the first
    shares: tuple[int, int, int] | None  # percent: train, validation, test; None: the source's own splits were kept
    digest: str
    created: str
    origin: str = ""  # who made the data and where it is from, in the importer's words
    licence: str = ""
    steps: tuple[Step, ...] = ()  # in the order in which they were done


class Row(Frozen):
    """A stored record with its id and split, and whose and what it was made of as far as that is known."""

    id: str
    split: Split
    record: Record
    group: str | None = None  # the customer or conversation that a split must not tear apart
    subject: str | None = None  # the person whose data it is
    response_ids: tuple[str, ...] | None = None  # the answers in the store that it was made from
    synthetic_of: str | None = None  # the id of the record that a model made it from; such rows stand in train only
    # How far it is to be trusted: the mean weight of the raters who said so. A ranking's is of the whole of it: see
    # `exporting.pairs`, which shares it out.
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, exclude_if=lambda weight: weight == 1)


Shares = tuple[int, int, int]
Steps = tuple[Step, ...]


def make_rows(records: Iterable[AnyRecord], shares: Shares) -> list[Row]:
    """Give every record its id and split."""
    return [Row(id=record_id(r), split=assign_split(r, shares), record=r) for r in records]


def save_dataset(home: Home, name: str, rows: Iterable[Row], source: str, source_sha256: str, columns: dict[str, str],
                 shares: Shares | None, replace: bool = False, origin: str = "", licence: str = "",
                 steps: Steps | Callable[[], Steps] = ()) -> DatasetCard:  # fmt: skip
    """Write a dataset, row by row. An existing name is refused unless `replace`, and so is one without rows.

    If `rows` raises, nothing is left behind. `steps` may be a function: it is called after the last row, when what
    was done has been counted.
    """
    refuse_existing(home, check_name("a dataset", name), replace)
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise DataError(f"no rows are left for dataset '{name}'; nothing was written")
    with new_dataset_folder(home, name, replace) as (folder, file):
        written = _Written(first.record.kind)
        for row in chain([first], rows):
            written.add(row, file)
        card = DatasetCard(
            name=name,
            kind=written.kind,
            source=source,
            source_sha256=source_sha256,
            columns=columns,
            records={split: written.splits[split] for split in SPLITS},
            duplicates=written.splits.total() - len(written.ids),
            shares=shares,
            digest=written.digest.hexdigest(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            origin=origin,
            licence=licence,
            steps=steps() if callable(steps) else steps,
        )
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def rewrite(home: Home, card: DatasetCard, rows: Iterable[Row], step: Step | Callable[[], Step],
            into: str | None = None, replace: bool = False, shares: Shares | None = None) -> DatasetCard:  # fmt: skip
    """The dataset of `card` after one more step: `rows` as dataset `into`, or in its own place without `into`.

    A row whose record was changed needs its id anew (`record_id`); it may keep its split. `rows` may come from
    `iter_rows` of the same dataset. `shares` where the step has split it anew.
    """
    in_place = into is None or into == card.name
    return save_dataset(
        home, into or card.name, rows, card.source, card.source_sha256, card.columns, shares or card.shares,
        replace or in_place, card.origin, card.licence, lambda: (*card.steps, step() if callable(step) else step),
    )  # fmt: skip


class _Written:
    """What is kept in memory of the rows that were written: counts, the digest so far, and the ids."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.splits: Counter[Split] = Counter()
        self.ids: set[str] = set()
        self.digest = hashlib.sha256()

    def add(self, row: Row, file: TextIO) -> None:
        if row.record.kind != self.kind:
            raise DataError(f"a dataset holds records of one kind; found {self.kind} and {row.record.kind}")
        if row.synthetic_of is not None and row.split != "train":
            raise DataError(f"record {row.id} was made by a model, so it may stand in train only, not in {row.split}")
        file.write(row.model_dump_json(exclude_none=True) + "\n")
        self.splits[row.split] += 1
        self.ids.add(row.id)
        weight = "" if row.weight == 1 else f" {row.weight}"  # it changes what is learnt
        self.digest.update(f"{row.id}{row.split}{weight}\n".encode())


def list_datasets(home: Home) -> list[DatasetCard]:
    """The cards of all datasets, by name."""
    if next(home.datasets.glob(".old.*"), None) is not None:
        mend(home)  # a dataset is just being replaced, or its replacement was killed
    cards = sorted(home.datasets.glob("[!.]*/card.json")) if home.datasets.exists() else []
    return [DatasetCard.model_validate_json(path.read_text(encoding="utf-8")) for path in cards]


def load_card(home: Home, name: str) -> DatasetCard:
    """The card of dataset `name`, or an error that names those there are."""
    path = home.datasets / name / CARD
    if not path.is_file():
        mend(home)  # it may be just being replaced, or its replacement was killed
    if not path.is_file():
        known = [card.name for card in list_datasets(home)]
        raise unknown("dataset", name, known, "Import one: brogue data import FILE --into NAME")
    return DatasetCard.model_validate_json(path.read_text(encoding="utf-8"))


def load_rows(home: Home, name: str) -> list[Row]:
    """All rows of dataset `name`, in the imported order."""
    return list(iter_rows(home, name))


def iter_rows(home: Home, name: str) -> Iterator[Row]:
    """The rows of dataset `name` one by one, in the imported order. An unknown name is refused at once."""
    load_card(home, name)
    return _rows(home.datasets / name / RECORDS)


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="\n") as lines:  # str.splitlines would also cut at U+2028 inside a text
        for number, line in enumerate(lines, 1):
            try:
                yield Row.model_validate_json(line)
            except ValidationError as error:
                raise DataError(
                    f"{path}:{number}: not a record ({one_line(error, 120)}); import the dataset again"
                ) from error
