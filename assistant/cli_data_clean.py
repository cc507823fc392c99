"""`brogue data dedupe` and `redact`: a new dataset from one there is, the step recorded in its card."""

from typing import Annotated

import typer

from assistant.console import print_json, say, working
from data.dataset import DatasetCard, Row, Step, load_card, load_rows, rewrite
from data.duplicates import drop_duplicates
from data.errors import BrogueError, one_line
from data.home import Home, check_name
from data.records import SPLITS
from data.redaction import NOT_RECOGNISED, Redacted, redact, texts

Name = Annotated[str, typer.Argument(help="The dataset to start from; it stays as it is.")]
Into = Annotated[str, typer.Option(help="Name of the new dataset.")]
Replace = Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def dedupe(
    name: Name,
    into: Into,
    near: Annotated[
        bool,
        typer.Option("--near", help="Near duplicates too, and questions that stand in another split as well."),
    ] = False,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Keep one of each set of duplicates: rows that repeat another one, with --near also those that all but do."""
    home, card = start(name, into, replace)
    with working(f"looking for duplicates in {name}") as tell:
        rows, counts = drop_duplicates(load_rows(home, name), near, tell)
    new = rewrite(home, card, rows, Step(name="dedupe", options={"near": near}, counts=counts), into, replace)
    words = {"exact": "exact repeats", "near": "near duplicates", "leaks": "questions of another split"}
    print_change(card, new, json, ", ".join(f"{count} {words[key]}" for key, count in counts.items()) + " dropped")


def redact_(
    name: Name,
    into: Annotated[str | None, typer.Option(help="Name of the new dataset.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show what would change; write nothing.")] = False,
    show: Annotated[int, typer.Option(min=0, help="How many changed rows a preview shows.")] = 10,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Replace e-mail addresses, phone, card and bank numbers, IP addresses, national ids and API keys by placeholders.

    The same value has the same placeholder throughout the dataset. Names and postal addresses are not recognised.
    """
    if into is None and not preview:
        raise BrogueError("wanted --into NEW for the redacted dataset, or --preview to see what would change")
    home, card = start(name, into or name, replace or preview)
    with working(f"redacting {name}") as tell:
        rows = load_rows(home, name)
        tell(f"{len(rows)} rows")
        done = redact(rows)
    if preview:
        _print_preview(done, show, json)
        return
    new = rewrite(home, card, done.rows, Step(name="redact", counts=done.counts), into, replace)
    print_change(card, new, json, _found(done.counts))
    say(NOT_RECOGNISED)


def start(name: str, into: str, replace: bool) -> tuple[Home, DatasetCard]:
    """The home and the card, after what can be refused before the work is done."""
    home = Home.from_environment()
    card = load_card(home, name)
    if (home.datasets / check_name("a dataset", into)).exists() and not replace:
        raise BrogueError(f"dataset '{into}' exists already; choose another name or add --replace")
    return home, card


def _found(counts: dict[str, int]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind.isupper() and count)
    dropped = f"; {counts['dropped']} dropped whose two answers became the same" if counts["dropped"] else ""
    return f"{kinds or 'nothing'} replaced in {counts['changed']} rows{dropped}"


def print_change(before: DatasetCard, after: DatasetCard, json: bool, what: str) -> None:
    if json:
        print_json(after.model_dump(mode="json"))
        return
    sizes = ", ".join(f"{split} {after.records[split]}" for split in SPLITS)
    rows = sum(before.records.values()), sum(after.records.values())
    typer.echo(f"{after.name}: {what}\n{rows[0]} rows before, {rows[1]} now; {sizes}")


def _print_preview(done: Redacted, show: int, json: bool) -> None:
    shown = [
        {"id": before.id, "before": _lines(before), "after": _lines(after)} for before, after in done.changed[:show]
    ]
    if json:
        print_json({"counts": done.counts, "rows": shown, "not_recognised": NOT_RECOGNISED})
        return
    for row in shown:
        for old, new in zip(row["before"], row["after"], strict=True):
            if old != new:
                typer.echo(f"{row['id']}\n- {one_line(old)}\n+ {one_line(new)}")
    typer.echo(f"{_found(done.counts).replace('replaced', 'would be replaced')}; nothing was written")
    say(NOT_RECOGNISED)


def _lines(row: Row) -> list[str]:
    return list(texts(row.record))
