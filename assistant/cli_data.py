"""`brogue data`: import, check and list datasets."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from assistant.console import print_json, print_table, say
from data.dataset import DatasetCard, list_datasets, load_card, load_rows, make_rows, save_dataset
from data.errors import BrogueError, DataError
from data.home import Home
from data.importing import Imported, read_file
from data.records import SPLITS, assign_split, record_id

app = typer.Typer(help="Datasets: import files, check them, list them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
As = Annotated[Literal["instruction", "chat"], typer.Option("--as", help="What the records are.")]
PromptColumn = Annotated[str | None, typer.Option(help="Column with the question (instruction).")]
ResponseColumn = Annotated[str | None, typer.Option(help="Column with the answer (instruction).")]
SystemColumn = Annotated[str | None, typer.Option(help="Column with a system message of its own (instruction).")]
MessagesColumn = Annotated[str | None, typer.Option(help="Column with the list of messages (chat).")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .csv, .tsv, .json or .jsonl file in UTF-8.")],
    kind: As,
    into: Annotated[str, typer.Option(help="Name of the dataset.")],
    prompt_column: PromptColumn = None,
    response_column: ResponseColumn = None,
    system_column: SystemColumn = None,
    messages_column: MessagesColumn = None,
    split: Annotated[str, typer.Option(help="Percent of train/validation/test.")] = "80/10/10",
    replace: Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")] = False,
    json: Json = False,
) -> None:
    """Import FILE as a dataset: every row is checked, then split into train, validation and test by its question."""
    shares = parse_shares(split)
    imported = read_file(file, kind, _columns(prompt_column, response_column, system_column, messages_column))
    imported.raise_if_faulty()
    home = Home.from_environment()
    home.create()
    rows = make_rows(imported.records, shares)
    card = save_dataset(home, into, rows, file.name, imported.sha256, imported.columns, shares, replace)
    if json:
        print_json(card.model_dump(mode="json"))
        return
    _print_summary(imported, card)
    typer.echo(f"next: brogue train ADAPTER --data {into}")


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="A dataset's name, or a file (then --as is needed).")],
    kind: Annotated[
        Literal["instruction", "chat"] | None, typer.Option("--as", help="What a file's records are.")
    ] = None,
    prompt_column: PromptColumn = None,
    response_column: ResponseColumn = None,
    system_column: SystemColumn = None,
    messages_column: MessagesColumn = None,
    json: Json = False,
) -> None:
    """Check a dataset or a file: faulty rows with their lines, duplicates, lengths, splits. Exit code 1 on faults."""
    if kind is None:
        if Path(target).suffix:
            raise BrogueError(f"wanted --as instruction or --as chat to check the file {target}")
        home = Home.from_environment()
        card = load_card(home, target)
        imported = Imported([row.record for row in load_rows(home, target)], [], card.columns, [], card.source_sha256)
        shares = card.shares
    else:
        columns = _columns(prompt_column, response_column, system_column, messages_column)
        imported, shares = read_file(Path(target), kind, columns), parse_shares("80/10/10")
    report = _report(imported, shares)
    if json:
        print_json(report)
    else:
        for name, value in report.items():
            for line in value if isinstance(value, list) else [f"{name}: {value}"]:
                typer.echo(line)
    if imported.faults:
        raise DataError(f"{len(imported.faults)} faulty of {len(imported.faults) + len(imported.records)} records")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the datasets."""
    cards = list_datasets(Home.from_environment())
    if json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    rows = [(c.name, c.kind, *(c.records[s] for s in SPLITS), c.source, c.created) for c in cards]
    empty = "no datasets yet; import one: brogue data import FILE --as instruction --into NAME"
    print_table(("name", "kind", *SPLITS, "source", "created"), rows, empty)


def parse_shares(text: str) -> tuple[int, int, int]:
    """ "80/10/10" as numbers that add up to 100."""
    parts = text.split("/")
    if len(parts) != 3 or not all(p.isdigit() for p in parts) or sum(map(int, parts)) != 100 or int(parts[0]) == 0:
        raise BrogueError(f"--split wants three percentages that add up to 100, such as 80/10/10; found '{text}'")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _columns(
    prompt: str | None, response: str | None, system: str | None, messages: str | None
) -> dict[str, str | None]:
    return {"prompt": prompt, "response": response, "system": system, "messages": messages}


def _report(imported: Imported, shares: tuple[int, int, int]) -> dict[str, object]:
    records = imported.records
    splits = Counter(assign_split(r, shares) for r in records)
    ids = Counter(record_id(r) for r in records)
    lengths = sorted(len(r.messages[-1].content.split()) for r in records)
    middle = lengths[len(lengths) // 2] if lengths else 0
    return {
        "records": len(records),
        "columns": ", ".join(f"{ours}={theirs}" for ours, theirs in imported.columns.items()),
        "columns not used": ", ".join(imported.unused) or "none",
        "exact duplicates": len(records) - len(ids),
        "words of an answer": f"median {middle}, longest {lengths[-1] if lengths else 0}",
        "split": ", ".join(f"{s} {splits[s]}" for s in SPLITS),
        "faults": imported.faults,
    }


def _print_summary(imported: Imported, card: DatasetCard) -> None:
    total = sum(card.records.values())
    splits = ", ".join(f"{s} {card.records[s]}" for s in SPLITS)
    typer.echo(f"{card.name}: {total} rows checked, all valid; {splits}")
    typer.echo(f"columns: {', '.join(f'{ours}={theirs}' for ours, theirs in card.columns.items())}")
    if imported.unused:
        say(f"not used: {', '.join(imported.unused)}")
    if card.duplicates:
        say(f"{card.duplicates} rows repeat another row exactly; they are kept")
