"""`brogue data`: import, check and list datasets."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from assistant.cli_data_import import import_
from assistant.cli_data_options import (
    DEFAULT_SPLIT,
    As,
    ChosenColumn,
    FormatName,
    Json,
    LabelColumn,
    MessagesColumn,
    PromptColumn,
    RejectedColumn,
    ResponseColumn,
    SystemColumn,
    TextColumn,
    columns_of,
    parse_shares,
    reading,
)
from assistant.cli_data_split import balance, split
from assistant.console import print_json, print_table
from data.dataset import list_datasets, load_card, load_rows
from data.errors import DataError, one_line
from data.home import Home
from data.importing import Imported, read_file
from data.records import SPLITS, answer, assign_split, record_id

app = typer.Typer(help="Datasets: import files, check them, list them.", no_args_is_help=True)

app.command("import")(import_)
app.command("split")(split)
app.command("balance")(balance)


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="A dataset's name, or a file.")],
    kind: As = None,
    format: FormatName = None,
    prompt_column: PromptColumn = None,
    response_column: ResponseColumn = None,
    system_column: SystemColumn = None,
    messages_column: MessagesColumn = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    chosen_column: ChosenColumn = None,
    rejected_column: RejectedColumn = None,
    json: Json = False,
) -> None:
    """Check a dataset or a file: faulty rows with their lines, duplicates, lengths, splits. Exit code 1 on faults."""
    home = Home.from_environment()
    a_file = kind is not None or format is not None or Path(target).suffix or Path(target).is_file()
    if (home.datasets / target / "card.json").is_file() or not (a_file or Path(target).exists()):
        card = load_card(home, target)
        imported = Imported([row.record for row in load_rows(home, target)], columns=card.columns, kind=card.kind)
        imported.rows, shares = len(imported.records), card.shares or parse_shares(DEFAULT_SPLIT)
    else:
        columns = columns_of(
            prompt=prompt_column, response=response_column, system=system_column, messages=messages_column,
            text=text_column, label=label_column, chosen=chosen_column, rejected=rejected_column,
        )  # fmt: skip
        with reading(Path(target)) as on_progress:
            imported = read_file(Path(target), kind, columns, format, on_progress)
        shares = parse_shares(DEFAULT_SPLIT)
    report = _report(imported, shares)
    if json:
        print_json(report)
    else:
        for name, value in report.items():
            for line in value if isinstance(value, list) else [f"{name}: {value}"]:
                typer.echo(line)
    if imported.faults:
        refused = imported.refused.total()
        raise DataError(f"{refused} faulty of {refused + len(imported.records)} records")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the datasets."""
    cards = list_datasets(Home.from_environment())
    if json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    rows = [
        (c.name, c.kind, *(c.records[s] for s in SPLITS), len(c.steps), one_line(c.licence, 24) or "-",
         one_line(c.origin or c.source, 40), c.created)
        for c in cards
    ]  # fmt: skip
    empty = "no datasets yet; import one: brogue data import FILE --into NAME"
    print_table(("name", "kind", *SPLITS, "steps", "licence", "origin", "created"), rows, empty)


def _report(imported: Imported, shares: tuple[int, int, int]) -> dict[str, object]:
    records = imported.records
    splits = Counter(assign_split(r, shares) for r in records)
    ids = Counter(record_id(r) for r in records)
    lengths = sorted(len(answer(r).split()) for r in records)
    middle = lengths[len(lengths) // 2] if lengths else 0
    return {
        "kind": imported.kind,
        "format": imported.format or "a dataset",
        "records": len(records),
        "columns": ", ".join(f"{ours}={theirs}" for ours, theirs in imported.columns.items()) or "by the format",
        "columns not used": ", ".join(c or "(no name)" for c in imported.unused) or "none",
        "exact duplicates": len(records) - len(ids),
        "words of an answer": f"median {middle}, longest {lengths[-1] if lengths else 0}",
        "split": ", ".join(f"{s} {splits[s]}" for s in SPLITS),
        "faults": imported.faults,
    }
