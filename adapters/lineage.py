"""Which records a version learnt from: written by training, asked when records are forgotten or an answer is traced.

The list lies beside the version's folder (`<n>.records.json`), since engines and PEFT read that folder. It holds ids
only, which are hashes of the records' content.
"""

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.registry import RECORDS, AdapterCard, Mark, Registry
from data.errors import BrogueError, one_line
from data.home import write_json
from data.settings import Frozen


class Lineage(Frozen):
    """What a version was trained on."""

    dataset: str
    digest: str
    records: tuple[str, ...]  # ids of the train split's records that it saw; longer ones were left out


def begin(run: Path, lineage: Lineage) -> None:
    """Keep with a training run what it learns from. Forgetting such a record takes the unfinished run away."""
    write_json(run / RECORDS, lineage.model_dump(mode="json"))


def finish(run: Path, registry: Registry, adapter: str, version: int) -> None:
    """Hand the run's list on to the version that came of it."""
    try:
        registry.keep_records(adapter, version, run / RECORDS)
    except FileNotFoundError as error:
        raise BrogueError(
            "records were forgotten (brogue data forget) while this training learnt from them; train again"
        ) from error


def lineage(registry: Registry, adapter: str, version: int) -> Lineage | None:
    """The list of a version; none for one that was imported, or trained before lists were kept."""
    return read(registry.records_file(adapter, version))


def read(path: Path) -> Lineage | None:
    """The list in a file, if it is there."""
    try:
        return Lineage.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise BrogueError(f"{path}: not a list of records ({one_line(error, 120)}); remove it") from error


def trained_on(registry: Registry, digest: str) -> list[AdapterCard]:
    """The versions that were trained on the dataset of this digest."""
    return [card for card in _cards(registry) if card.dataset_digest == digest]


def learnt_from(
    registry: Registry, records: Collection[str], by_digest: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    """The versions that learnt from any of `records`: name → those ids.

    A version without a list of its own is judged by its dataset: `by_digest` has the ids that are in the train split
    of the dataset of each digest.
    """
    found = {}
    for card in _cards(registry):
        listed = lineage(registry, card.adapter, card.version)
        seen = by_digest.get(card.dataset_digest, ()) if listed is None else set(listed.records)
        if ids := sorted({record for record in records if record in seen}):
            found[card.name] = ids
    return found


def mark_forgotten(registry: Registry, learnt: Mapping[str, list[str]]) -> None:
    """Mark the versions that had learnt from records that are being forgotten."""
    for name, ids in learnt.items():
        adapter, _, version = name.partition("@")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        of = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        registry.mark(adapter, Mark(version=int(version), time=now, records=len(ids), of=of))


def _cards(registry: Registry) -> list[AdapterCard]:
    """All cards that can be read; a broken one is told by `brogue adapters list`."""
    cards = []
    for adapter in registry.adapters():
        for version in registry.versions(adapter):
            try:
                cards.append(registry.card(adapter, version))
            except BrogueError:
                continue
    return cards
