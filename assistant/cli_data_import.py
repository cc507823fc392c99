"""`brogue data import`: a file becomes a dataset while it is read, whole or not at all."""

from typing import Annotated

import typer

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
    Replace,
    ResponseColumn,
    SystemColumn,
    TextColumn,
    columns_of,
    parse_shares,
    reading,
)
from assistant.console import print_json, say
from data.dataset import DatasetCard, Step, save_dataset
from data.dataset_folder import refuse_existing
from data.home import Home, check_name
from data.importing import Imported, dataset_rows, stream_file
from data.records import SPLITS
from data.remote import here


def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="A .csv, .tsv, .json, .jsonl, .parquet or .conll file, or a dataset folder; also s3://BUCKET/NAME."
        ),
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
    group_column: Annotated[
        str | None, typer.Option(help="Column with what must not be torn apart by the split, such as the customer.")
    ] = None,
    subject_column: Annotated[
        str | None, typer.Option(help="Column with the person whose data a row is (brogue data forget).")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help=f"Percent of train/validation/test (default: a dataset folder's own, else {DEFAULT_SPLIT})."),
    ] = None,
    origin: Annotated[str, typer.Option(help="Who made the data and where it is from, for its card.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, for its card.")] = "",
    skip_faulty: Annotated[bool, typer.Option(help="Leave faulty rows out and count them.")] = False,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Import FILE as a dataset: every row is checked, then split into train, validation and test by its question."""
    asked = None if split is None else parse_shares(split)
    columns = columns_of(
        prompt=prompt_column, response=response_column, system=system_column, messages=messages_column,
        text=text_column, label=label_column, chosen=chosen_column, rejected=rejected_column,
    )  # fmt: skip
    home = Home.from_environment()
    refuse_existing(home, check_name("a dataset", into), replace)  # before a large file is read
    with here(file) as path, reading(path) as on_progress:
        imported, found = stream_file(path, kind, columns, format, on_progress, group_column, subject_column)
        home.create()
        shares = asked if asked or imported.has_own_splits else parse_shares(DEFAULT_SPLIT)
        card = save_dataset(
            home, into, dataset_rows(imported, found, shares, skip_faulty), path.name, imported.sha256,
            imported.columns, shares, replace, origin, licence,
            lambda: (_step(imported, skip_faulty, group_column, subject_column),),
        )  # fmt: skip
    if json:
        print_json(card.model_dump(mode="json"))
        return
    _print_summary(imported, card)
    if card.kind in ("chat", "instruction"):
        typer.echo(f"next: brogue train ADAPTER --data {into}")
    else:
        typer.echo(f"next: brogue data check {into}")


def _step(imported: Imported, skip_faulty: bool, group_column: str | None, subject_column: str | None) -> Step:
    named = {"group_column": group_column, "subject_column": subject_column}
    return Step(
        name="import",
        options={"format": imported.format, "skip_faulty": skip_faulty} | {k: v for k, v in named.items() if v},
        counts={
            "rows": imported.rows,
            "kept": imported.kept,
            "refused": imported.refused.total(),
            "without a record": imported.without,
        },
    )


def _print_summary(imported: Imported, card: DatasetCard) -> None:
    refused = imported.refused.total()
    kept = f"{imported.kept} {card.kind} records kept"
    if not refused and imported.rows == imported.kept:
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
    if imported.weighted:
        say(f"{imported.weighted} rows have a weight other than 1 (column 'weight'); dpo, kto and reward count them so")
    for column, count in imported.nameless.items():
        if count:
            say(f"{count} rows have no '{column}'")
    if card.shares is None:
        _say_own_splits(imported)
    if card.columns:
        typer.echo(f"columns: {', '.join(f'{ours}={theirs}' for ours, theirs in card.columns.items())}")
    if imported.unused:
        say(f"not used: {', '.join(c or '(no name)' for c in imported.unused)}")
    if card.duplicates:
        say(f"{card.duplicates} rows repeat another row exactly; they are kept")


def _say_own_splits(imported: Imported) -> None:
    taken = ", ".join(f"{name} → {split}" for name, split in imported.own_splits.items())
    say(f"the folder's own splits were kept: {taken} (to split anew: --split {DEFAULT_SPLIT})")
    for name, count in imported.strange_splits.items():
        say(f"split '{name}' is none of {', '.join(SPLITS)}; its {count} rows went into train")
