"""Named datasets on disk: `<home>/datasets/<name>/records.jsonl` and `card.json`.

A dataset is written whole or not at all. Its digest is over the records' ids and splits, so the same content imported
twice has the same digest; adapter cards keep it.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data.errors import BrogueError, DataError, one_line, unknown
from data.home import Home, check_name, new_folder, write_json
from data.records import SPLITS, AnyRecord, Kind, Record, Split, assign_split, record_id
from data.settings import Frozen

_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Record)


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
    shares: tuple[int, int, int]  # percent: train, validation, test
    digest: str
    created: str
    origin: str = ""  # who made the data and where it is from, in the importer's words
    licence: str = ""
    steps: tuple[Step, ...] = ()  # in the order in which they were done


class Row(Frozen):
    """A stored record with its id and split."""

    id: str
    split: Split
    record: Record


def make_rows(records: Iterable[AnyRecord], shares: tuple[int, int, int]) -> list[Row]:
    """Give every record its id and split."""
    return [Row(id=record_id(r), split=assign_split(r, shares), record=r) for r in records]


def save_dataset(home: Home, name: str, rows: list[Row], source: str, source_sha256: str, columns: dict[str, str],
                 shares: tuple[int, int, int], replace: bool = False, origin: str = "", licence: str = "",
                 steps: tuple[Step, ...] = ()) -> DatasetCard:  # fmt: skip
    """Write a dataset. An existing name is refused unless `replace`, and so is one without rows."""
    folder = home.datasets / check_name("a dataset", name)
    if folder.exists() and not replace:
        raise BrogueError(f"dataset '{name}' exists already; choose another name or add --replace")
    if not rows:
        raise DataError(f"no rows are left for dataset '{name}'; nothing was written")
    counts = Counter(row.split for row in rows)
    card = DatasetCard(
        name=name,
        kind=rows[0].record.kind,
        source=source,
        source_sha256=source_sha256,
        columns=columns,
        records={split: counts[split] for split in SPLITS},
        duplicates=len(rows) - len({row.id for row in rows}),
        shares=shares,
        digest=_digest(rows),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=origin,
        licence=licence,
        steps=steps,
    )
    _write(folder, card, rows)
    return card


def rewrite(home: Home, card: DatasetCard, rows: list[Row], step: Step, into: str | None = None,
            replace: bool = False) -> DatasetCard:  # fmt: skip
    """The dataset of `card` after one more step: `rows` as dataset `into`, or in its own place without `into`.

    A row whose record was changed needs its id anew (`record_id`); it may keep its split.
    """
    in_place = into is None or into == card.name
    return save_dataset(
        home, into or card.name, rows, card.source, card.source_sha256, card.columns, card.shares,
        replace or in_place, card.origin, card.licence, (*card.steps, step),
    )  # fmt: skip


def _digest(rows: list[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.id}{row.split}\n".encode())
    return digest.hexdigest()


def _write(folder: Path, card: DatasetCard, rows: list[Row]) -> None:
    """The dataset's folder, whole or not at all."""
    staging = folder.with_name(f".{card.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    with new_folder(staging) as temporary:
        with (temporary / "records.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(row.model_dump_json() + "\n" for row in rows)
        write_json(temporary / "card.json", card.model_dump(mode="json"))
    old = folder.with_name(f".{card.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def list_datasets(home: Home) -> list[DatasetCard]:
    """The cards of all datasets, by name."""
    cards = sorted(home.datasets.glob("[!.]*/card.json")) if home.datasets.exists() else []
    return [DatasetCard.model_validate_json(path.read_text(encoding="utf-8")) for path in cards]


def load_card(home: Home, name: str) -> DatasetCard:
    """The card of dataset `name`, or an error that names those there are."""
    path = home.datasets / name / "card.json"
    if not path.is_file():
        known = [card.name for card in list_datasets(home)]
        raise unknown("dataset", name, known, "Import one: brogue data import FILE --into NAME")
    return DatasetCard.model_validate_json(path.read_text(encoding="utf-8"))


def load_rows(home: Home, name: str) -> list[Row]:
    """All rows of dataset `name`, in the imported order."""
    load_card(home, name)
    path = home.datasets / name / "records.jsonl"
    rows = []
    with path.open(encoding="utf-8", newline="\n") as lines:  # str.splitlines would also cut at U+2028 inside a text
        for number, line in enumerate(lines, 1):
            try:
                raw = json.loads(line)
                rows.append(Row(id=raw["id"], split=raw["split"], record=_RECORD.validate_python(raw["record"])))
            except (ValueError, KeyError, ValidationError) as error:
                raise DataError(
                    f"{path}:{number}: not a record ({one_line(error, 120)}); import the dataset again"
                ) from error
    return rows
