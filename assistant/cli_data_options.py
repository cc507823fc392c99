"""Options that several `brogue data` commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from assistant.console import working
from data.errors import BrogueError
from data.importing_choice import FORMAT_NAMES
from data.records import Kind

DEFAULT_SPLIT = "80/10/10"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
As = Annotated[Kind | None, typer.Option("--as", help="What the records are (default: recognised).")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help=f"How the file is written (default: recognised): {', '.join(FORMAT_NAMES)}."),
]
PromptColumn = Annotated[str | None, typer.Option(help="Column with the question.")]
ResponseColumn = Annotated[str | None, typer.Option(help="Column with the answer (instruction).")]
SystemColumn = Annotated[str | None, typer.Option(help="Column with a system message of its own.")]
MessagesColumn = Annotated[str | None, typer.Option(help="Column with the list of messages (chat).")]
TextColumn = Annotated[str | None, typer.Option(help="Column with the text (labelled).")]
LabelColumn = Annotated[str | None, typer.Option(help="Column with the label (labelled).")]
ChosenColumn = Annotated[str | None, typer.Option(help="Column with the better answer (preference).")]
RejectedColumn = Annotated[str | None, typer.Option(help="Column with the worse answer (preference).")]
Replace = Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")]


def columns_of(**named: str | None) -> dict[str, str | None]:
    """Our fields and the columns that were named for them."""
    return named


def parse_shares(text: str) -> tuple[int, int, int]:
    """ "80/10/10" as numbers that add up to 100."""
    parts = text.split("/")
    if len(parts) != 3 or not all(p.isdigit() for p in parts) or sum(map(int, parts)) != 100 or int(parts[0]) == 0:
        raise BrogueError(f"--split wants three percentages that add up to 100, such as 80/10/10; found '{text}'")
    return int(parts[0]), int(parts[1]), int(parts[2])


@contextmanager
def reading(file: Path) -> Iterator[Callable[[int], None]]:
    """Shows how many rows of `file` have been read."""
    with working(f"reading {file.name}") as tell:
        yield lambda rows: tell(f"{rows:,} rows")
