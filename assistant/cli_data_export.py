"""`brogue data export`: a dataset as a file for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, say, working
from data.dataset import DatasetCard, load_card
from data.exporting import Exported, export, guess_format
from data.exporting_shapes import SHAPES
from data.home import Home
from data.records import Split

_OWN = ("jsonl", "csv", "parquet", "conll")  # an import takes these up again


def export_(
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write.")],
    split: Annotated[Split | None, typer.Option(help="Only this split (default: all).")] = None,
    format: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(SHAPES)} (default: by the file's name).")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Overwrite a file of that name.")] = False,
    json: Json = False,
) -> None:
    """Write a dataset to a file: our own columns, OpenAI's chat and DPO lines, or the columns of TRL's trainers."""
    home = Home.from_environment()
    chosen = format or guess_format(to)
    card = load_card(home, name)
    with working(f"exporting {name}") as tell:
        done = export(home, name, to, chosen, split, replace, lambda rows: tell(f"{rows:,} rows"))
    if json:
        print_json({"dataset": name, "path": str(to.absolute()), "format": chosen, "split": split, **done._asdict()})
        return
    left_out = f"; {done.left_out} records left out: neither answer is better" if done.left_out else ""
    typer.echo(f"{name} → {to}: {done.lines} lines, {chosen}{left_out}")
    for line in _cautions(card, done, chosen, split):
        say(line)


def _cautions(card: DatasetCard, done: Exported, format: str, split: Split | None) -> list[str]:
    """What the file does not say, or what an import of it would not bring back."""
    lines = []
    if done.synthetic:
        lines.append(f"{done.synthetic} of the records were made by a model; keep them out of every test set")
    if format not in _OWN or split is not None:
        return lines
    if done.resplit:
        lines.append(
            f"{done.resplit} records stand in another split than an import would choose; to keep the splits, export "
            "each one into a folder (--split train --to FOLDER/train.jsonl, …) and import the folder"
        )
    elif card.shares is not None:
        options = ["--split", "/".join(map(str, card.shares))]
        options += [word for name in ("group", "subject") if name in done.books for word in (f"--{name}-column", name)]
        lines.append(f"it gives the same dataset again: brogue data import FILE --into NAME {' '.join(options)}")
    return lines
