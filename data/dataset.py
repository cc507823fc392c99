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

from pydantic import TypeAdapter, ValidationError

from data.errors import BrogueError, DataError, one_line, unknown
from data.home import Home, check_name, new_folder, write_json
from data.records import SPLITS, ChatRecord, InstructionRecord, Kind, Record, Split, assign_split, record_id
from data.settings import Frozen

_RECORD: TypeAdapter[ChatRecord | InstructionRecord] = TypeAdapter(Record)


class DatasetCard(Frozen):
    """What a dataset is and where it came from."""

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


class Row(Frozen):
    """A stored record with its id and split."""

    id: str
    split: Split
    record: Record


def make_rows(records: Iterable[ChatRecord | InstructionRecord], shares: tuple[int, int, int]) -> list[Row]:
    """Give every record its id and split."""
    return [Row(id=record_id(r), split=assign_split(r, shares), record=r) for r in records]


def save_dataset(home: Home, name: str, rows: list[Row], source: str, source_sha256: str, columns: dict[str, str],
                 shares: tuple[int, int, int], replace: bool = False) -> DatasetCard:  # fmt: skip
    """Write a dataset. An existing name is refused unless `replace`."""
    folder = home.datasets / check_name("a dataset", name)
    if folder.exists() and not replace:
        raise BrogueError(f"dataset '{name}' exists already; choose another name or add --replace")
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
        digest=hashlib.sha256("".join(f"{r.id}{r.split}\n" for r in rows).encode()).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    staging = folder.with_name(f".{name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    with new_folder(staging) as temporary:
        lines = "".join(row.model_dump_json() + "\n" for row in rows)
        (temporary / "records.jsonl").write_text(lines, encoding="utf-8")
        write_json(temporary / "card.json", card.model_dump(mode="json"))
    old = folder.with_name(f".{name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return card


def list_datasets(home: Home) -> list[DatasetCard]:
    """The cards of all datasets, by name."""
    cards = sorted(home.datasets.glob("[!.]*/card.json")) if home.datasets.exists() else []
    return [DatasetCard.model_validate_json(path.read_text(encoding="utf-8")) for path in cards]


def load_card(home: Home, name: str) -> DatasetCard:
    """The card of dataset `name`, or an error that names those there are."""
    path = home.datasets / name / "card.json"
    if not path.is_file():
        known = [card.name for card in list_datasets(home)]
        raise unknown("dataset", name, known, "Import one: brogue data import FILE --as instruction --into NAME")
    return DatasetCard.model_validate_json(path.read_text(encoding="utf-8"))


def load_rows(home: Home, name: str) -> list[Row]:
    """All rows of dataset `name`, in the imported order."""
    load_card(home, name)
    path = home.datasets / name / "records.jsonl"
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            raw = json.loads(line)
            rows.append(Row(id=raw["id"], split=raw["split"], record=_RECORD.validate_python(raw["record"])))
        except (ValueError, KeyError, ValidationError) as error:
            raise DataError(
                f"{path}:{number}: not a record ({one_line(error, 120)}); import the dataset again"
            ) from error
    return rows
