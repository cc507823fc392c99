"""`brogue data`: import, check and list datasets."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from assistant.console import print_json, print_table, say, working
from data.dataset import DatasetCard, Step, list_datasets, load_card, load_rows, make_rows, save_dataset
from data.errors import BrogueError, DataError
from data.home import Home
from data.importing import FORMAT_NAMES, Imported, read_file
from data.records import SPLITS, Kind, answer, assign_split, record_id

app = typer.Typer(help="Datasets: import files, check them, list them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
As = Annotated[Kind | None, typer.Option("--as", help="What the records are [default: recognised].")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help=f"How the file is written [default: recognised]: {', '.join(FORMAT_NAMES)}."),
]
PromptColumn = Annotated[str | None, typer.Option(help="Column with the question.")]
ResponseColumn = Annotated[str | None, typer.Option(help="Column with the answer (instruction).")]
SystemColumn = Annotated[str | None, typer.Option(help="Column with a system message of its own.")]
MessagesColumn = Annotated[str | None, typer.Option(help="Column with the list of messages (chat).")]
TextColumn = Annotated[str | None, typer.Option(help="Column with the text (labelled).")]
LabelColumn = Annotated[str | None, typer.Option(help="Column with the label (labelled).")]
ChosenColumn = Annotated[str | None, typer.Option(help="Column with the better answer (preference).")]
RejectedColumn = Annotated[str | None, typer.Option(help="Column with the worse answer (preference).")]


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="A .csv, .tsv, .json, .jsonl, .parquet or .conll file, or a dataset folder.")
    ],
    into: Annotated[str, typer.Option(help="Name of the dataset.")],
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
    split: Annotated[str, typer.Option(help="Percent of train/validation/test.")] = "80/10/10",
    origin: Annotated[str, typer.Option(help="Who made the data and where it is from, for its card.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, for its card.")] = "",
    skip_faulty: Annotated[bool, typer.Option(help="Leave faulty rows out and count them.")] = False,
    replace: Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")] = False,
    json: Json = False,
) -> None:
    """Import FILE as a dataset: every row is checked, then split into train, validation and test by its question."""
    shares = parse_shares(split)
    columns = _columns(
        prompt=prompt_column, response=response_column, system=system_column, messages=messages_column,
        text=text_column, label=label_column, chosen=chosen_column, rejected=rejected_column,
    )  # fmt: skip
    with _reading(file) as on_progress:
        imported = read_file(file, kind, columns, format, on_progress)
    if not skip_faulty:
        imported.raise_if_faulty()
    if not imported.records:
        raise DataError(f"{file}: none of its {imported.rows} rows is a {imported.kind} record; nothing was imported")
    home = Home.from_environment()
    home.create()
    rows = make_rows(imported.records, shares)
    step = Step(
        name="import", options={"format": imported.format, "skip_faulty": skip_faulty}, counts=_counts(imported)
    )
    card = save_dataset(
        home, into, rows, file.name, imported.sha256, imported.columns, shares, replace, origin, licence, (step,)
    )
    if json:
        print_json(card.model_dump(mode="json"))
        return
    _print_summary(imported, card)
    if card.kind in ("chat", "instruction"):
        typer.echo(f"next: brogue train ADAPTER --data {into}")
    else:
        typer.echo(f"next: brogue data check {into}")


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
        imported.rows, shares = len(imported.records), card.shares
    else:
        columns = _columns(
            prompt=prompt_column, response=response_column, system=system_column, messages=messages_column,
            text=text_column, label=label_column, chosen=chosen_column, rejected=rejected_column,
        )  # fmt: skip
        with _reading(Path(target)) as on_progress:
            imported = read_file(Path(target), kind, columns, format, on_progress)
        shares = parse_shares("80/10/10")
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
    rows = [(c.name, c.kind, *(c.records[s] for s in SPLITS), c.source, c.created) for c in cards]
    empty = "no datasets yet; import one: brogue data import FILE --into NAME"
    print_table(("name", "kind", *SPLITS, "source", "created"), rows, empty)


def parse_shares(text: str) -> tuple[int, int, int]:
    """ "80/10/10" as numbers that add up to 100."""
    parts = text.split("/")
    if len(parts) != 3 or not all(p.isdigit() for p in parts) or sum(map(int, parts)) != 100 or int(parts[0]) == 0:
        raise BrogueError(f"--split wants three percentages that add up to 100, such as 80/10/10; found '{text}'")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _columns(**named: str | None) -> dict[str, str | None]:
    return named


@contextmanager
def _reading(file: Path) -> Iterator[Callable[[int], None]]:
    with working(f"reading {file.name}") as tell:
        yield lambda rows: tell(f"{rows:,} rows")


def _counts(imported: Imported) -> dict[str, int]:
    return {
        "rows": imported.rows,
        "kept": len(imported.records),
        "refused": imported.refused.total(),
        "without a record": imported.without,
    }


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


def _print_summary(imported: Imported, card: DatasetCard) -> None:
    refused = imported.refused.total()
    kept = f"{len(imported.records)} {card.kind} records kept"
    if not refused and imported.rows == len(imported.records):
        kept = "all valid"
    elif refused:
        kept = f"{kept}, {refused} refused"
    splits = ", ".join(f"{s} {card.records[s]}" for s in SPLITS)
    say(f"recognised: {imported.format} → {card.kind} (if that is wrong: --format, --as)")
    typer.echo(f"{card.name}: {imported.rows} rows checked, {kept}; {splits}")
    for why, count in imported.refused.most_common(5):
        say(f"refused {count}: {why}")
    if imported.without:
        say(f"{imported.without} rows hold no {card.kind} record")
    if card.columns:
        typer.echo(f"columns: {', '.join(f'{ours}={theirs}' for ours, theirs in card.columns.items())}")
    if imported.unused:
        say(f"not used: {', '.join(c or '(no name)' for c in imported.unused)}")
    if card.duplicates:
        say(f"{card.duplicates} rows repeat another row exactly; they are kept")
