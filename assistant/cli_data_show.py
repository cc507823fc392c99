"""`brogue data show`: what a dataset is, what was done to it, and who has learnt from it."""

from collections import Counter
from itertools import islice
from typing import Annotated, Any

import typer

from adapters.registry import AdapterCard, Registry
from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, working
from data.dataset import DatasetCard, Row, Step, iter_rows, load_card
from data.errors import one_line
from data.home import Home
from data.records import SPLITS, LabelledRecord, Split, answer, question

MAX_LABELS = 20  # in the table; --json has all


def show(
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    rows: Annotated[int, typer.Option(min=0, help="How many of its first rows to show.")] = 3,
    json: Json = False,
) -> None:
    """Show a dataset: its card, what was done to it, its labels, its first rows, and the versions trained on it."""
    home = Home.from_environment()
    card = load_card(home, name)
    first = list(islice(iter_rows(home, name), rows))
    with working(f"counting {name}") as tell:
        if sum(card.records.values()) > 20_000:  # below that it takes no time to speak of
            tell(f"{sum(card.records.values()):,} rows")
        labels, marks = _count(home, card)
    trained, earlier = _versions(home, card)
    if json:
        print_json(
            {
                **card.model_dump(mode="json"),
                "labels": labels,
                "marks": marks,
                "versions": trained,
                "versions_of_earlier_states": earlier,
                "rows": [row.model_dump(mode="json", exclude_none=True) for row in first],
            }
        )
        return
    _print_card(card, marks)
    _print_versions(card, trained, earlier)
    _print_labels(labels)
    for row in first:
        _print_row(row)


def _count(home: Home, card: DatasetCard) -> tuple[dict[str, dict[Split, int]], dict[str, int]]:
    """label → its texts by split (of tags: sentences that hold one), and rows whose subject, group or maker is known.

    Labels come with the most frequent first.
    """
    labels: dict[str, Counter[Split]] = {}
    marks: Counter[str] = Counter()
    for row in iter_rows(home, card.name):
        marks.update(mark for mark in ("subject", "group", "synthetic_of") if getattr(row, mark) is not None)
        for label in _labels(row):
            labels.setdefault(label, Counter())[row.split] += 1
    by_size = sorted(labels, key=lambda label: (-labels[label].total(), label))
    return {label: {split: labels[label][split] for split in SPLITS} for label in by_size}, dict(marks)


def _labels(row: Row) -> set[str]:
    if not isinstance(row.record, LabelledRecord):
        return set()
    tags = {tag.partition("-")[2] or tag for tag in row.record.tags or ()}  # B-place and I-place are one
    return {row.record.label} if row.record.label else tags


def _versions(home: Home, card: DatasetCard) -> tuple[list[str], list[str]]:
    """Versions trained on exactly these rows, and those trained on other rows that bore this name."""
    registry = Registry(home)
    cards: list[AdapterCard] = [
        registry.card(adapter, number) for adapter in registry.adapters() for number in registry.versions(adapter)
    ]
    trained = [c.name for c in cards if c.dataset_digest == card.digest]
    return trained, [c.name for c in cards if c.dataset == card.name and c.dataset_digest != card.digest]


def _print_card(card: DatasetCard, marks: dict[str, int]) -> None:
    sizes = ", ".join(f"{split} {card.records[split]}" for split in SPLITS)
    how = f"split {'/'.join(map(str, card.shares))}" if card.shares else "the source's own splits"
    facts: dict[str, Any] = {
        "kind": card.kind,
        "rows": f"{sum(card.records.values())} ({sizes}; {how})",
        "repeats": card.duplicates or None,
        "with a subject": marks.get("subject"),
        "with a group": marks.get("group"),
        "made by a model": marks.get("synthetic_of"),
        "source": f"{card.source} (sha256 {card.source_sha256[:12]})",
        "origin": card.origin or "not said (--origin of brogue data import)",
        "licence": card.licence or "not said (--licence of brogue data import)",
        "columns": ", ".join(f"{ours}={theirs}" for ours, theirs in card.columns.items()) or None,
        "digest": card.digest[:12],
        "created": card.created,
    }
    typer.echo(card.name)
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"  {name}: {value}")
    for number, step in enumerate(card.steps, 1):
        typer.echo(f"  step {number}: {_step(step)}")


def _step(step: Step) -> str:
    options = ", ".join(f"{name} {value}" for name, value in step.options.items() if value not in (None, False, ""))
    counts = ", ".join(f"{count} {name}" for name, count in step.counts.items() if count)
    return f"{step.name}{f' ({options})' if options else ''}: {counts or 'nothing changed'}"


def _print_versions(card: DatasetCard, trained: list[str], earlier: list[str]) -> None:
    typer.echo(f"  trained on it: {', '.join(trained) or 'no version'}")
    if earlier:
        typer.echo(f"  trained on other rows of the name '{card.name}': {', '.join(earlier)}")


def _print_labels(labels: dict[str, dict[Split, int]]) -> None:
    if not labels:
        return
    typer.echo()
    shown = list(labels.items())[:MAX_LABELS]
    print_table(("label", *SPLITS), [(label, *counts.values()) for label, counts in shown], "")
    if len(labels) > MAX_LABELS:
        typer.echo(f"and {len(labels) - MAX_LABELS} more labels (--json lists all)")


def _print_row(row: Row) -> None:
    typer.echo(f"\n{row.id}  {row.split}{'  made by a model' if row.synthetic_of else ''}")
    typer.echo(f"  {one_line(question(row.record), 200)}\n  → {one_line(answer(row.record), 200)}")
