"""What commands print: results to stdout, progress to stderr. rich is imported when it is needed."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from adapters.progress import TrainProgress


_QUIET_S = 15  # without a terminal, a measurement is told only so often


def print_json(value: Any) -> None:
    """`value` as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A plain table on stdout, or the line `empty` on stderr (an empty list says what to do next)."""
    if not rows:
        say(empty)
        return
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [[c.upper() for c in columns], *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(line: str) -> None:
    """One line of progress on stderr."""
    typer.echo(line, err=True)


@contextmanager
def working(title: str) -> Iterator[Callable[[str], None]]:
    """A line that tells what is going on, with the seconds; without a terminal, a line for each change."""
    if not sys.stderr.isatty():
        last = [""]

        def tell(detail: str) -> None:
            if detail != last[0]:
                say(f"{title}: {detail}")
                last[0] = detail

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(title), TextColumn("[dim]{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda detail: progress.update(task, description=detail)


@contextmanager
def training_bar(title: str) -> Iterator[Callable[["TrainProgress"], None]]:
    """A bar with loss, tokens/s and time left, and one below it while something is measured; without a terminal, a
    line every tenth of the way."""
    if not sys.stderr.isatty():
        yield _training_lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def update(p: "TrainProgress") -> None:
            if p.phase not in bars:
                name = title if p.phase == "training" else f"{title}, {p.phase}"
                bars[p.phase] = progress.add_task(name, total=p.steps, facts="")
            passing = p.phase != "training"
            progress.update(bars[p.phase], completed=p.step, total=p.steps, facts=p.words,
                            visible=not passing or p.step < p.steps)  # fmt: skip

        yield update


def _training_lines(title: str) -> Callable[["TrainProgress"], None]:
    said = time.monotonic()

    def update(p: "TrainProgress") -> None:
        nonlocal said
        if p.phase != "training":
            if time.monotonic() - said >= _QUIET_S and p.step < p.steps:
                said = time.monotonic()
                say(f"{title}: {p.phase} {p.step}/{p.steps}, {p.words}")
        elif p.step == 1 or p.step == p.steps or p.step % max(1, p.steps // 10) == 0:
            said = time.monotonic()
            say(f"{title}: step {p.step}/{p.steps}, {p.words}")

    return update
