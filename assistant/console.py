"""What commands print: results to stdout, progress to stderr. rich is imported when it is needed."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from adapters.progress import TrainProgress


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
    """A bar with loss, tokens/s and time left; without a terminal, a line every tenth of the way."""
    if not sys.stderr.isatty():
        yield _training_lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    facts = TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s  {task.fields[left]} left")
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), facts)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None, loss="-", speed="-", left="-")

        def update(p: "TrainProgress") -> None:
            progress.update(
                task, completed=p.step, total=p.steps, loss=f"{p.loss:.3f}", speed=f"{p.tokens_per_s:.0f}",
                left=f"{p.seconds_left:.0f} s",
            )  # fmt: skip

        yield update


def _training_lines(title: str) -> Callable[["TrainProgress"], None]:
    def update(p: "TrainProgress") -> None:
        if p.step == 1 or p.step == p.steps or p.step % max(1, p.steps // 10) == 0:
            say(
                f"{title}: step {p.step}/{p.steps}, loss {p.loss:.3f}, {p.tokens_per_s:.0f} tokens/s, "
                f"{p.seconds_left:.0f} s left"
            )

    return update
