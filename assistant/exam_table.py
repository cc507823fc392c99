"""An exam on the terminal: the verdict, then a table of all figures, fit for 80 columns."""

import sys
from typing import TYPE_CHECKING

from adapters.exam_types import Arm, Exam, Verdict
from assistant import exam_words as words
from assistant.exam_words import Judged, other_arm

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 110  # columns from which on there is room for the base model and the number of items
_COLOURS = {"better": "green", "worse": "red"}
_SAID = {"better": "better", "worse": "worse", "open": "?", "same": "same", "stated": ""}
_RESULTS = {"fail": "[red]fail[/]", "not enough evidence": "[yellow]open[/]"}


def print_exam(exam: Exam, width: int | None = None) -> None:
    """The exam on stdout; `width` in columns, else the terminal's (80 where there is none)."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=width, highlight=False, emoji=False)
    found = words.judged(exam)
    console.print(f"[bold]{safe(words.heading(exam))}[/]: {words.counted(found)}", soft_wrap=True)
    console.print(_figures(exam, found, console.width >= _WIDE))
    _print_notes(console, exam, found)
    print_verdict(exam.verdict, console)


def print_verdict(verdict: Verdict | None, console: "Console | None" = None) -> None:
    """What the gate says, and each rule that is not met."""
    from rich.console import Console

    console = console or Console(file=sys.stdout, highlight=False, emoji=False)
    console.print(f"[bold]{safe(words.headline(verdict))}[/]")
    if verdict is None:
        return
    table = plain_table()
    table.show_header = False
    table.add_column()
    table.add_column(overflow="fold")
    for rule in words.grouped(verdict):
        if rule.result != "pass":
            reasons = "\n".join(map(safe, rule.reasons))
            table.add_row(_RESULTS[rule.result], f"{safe(rule.text)}\n[dim]{reasons}[/]")
    if table.row_count:
        console.print(table)


def _figures(exam: Exam, found: list[Judged], wide: bool) -> "Table":
    """Every figure with its change; changes of shares in percentage points."""
    other = other_arm(exam)
    arms: list[Arm] = ["version", other]
    if wide and "base" in exam.names and other != "base":
        arms.append("base")
    table = plain_table()
    table.add_column("figure", overflow="fold", min_width=26)
    for arm in arms:
        # "@2" and "base": the whole names stand above the table.
        name = arm if arm == "base" else exam.names.get(arm, arm).removeprefix(exam.adapter)
        table.add_column(safe(name), justify="right", overflow="fold")
    table.add_column("change (95% interval)", overflow="fold")
    table.add_column("", no_wrap=True, min_width=6)
    if wide:
        table.add_column("items", justify="right")
    for one in found:
        table.add_row(*_row(one, arms, wide), style=_COLOURS.get(one.way, ""))
    return table


def _row(one: Judged, arms: list[Arm], wide: bool) -> list[str]:
    figure, change = one.figure, one.change
    cells = [safe(figure.name) + ("" if figure.decides else " *")]
    cells += [words.number(figure.arms[arm].value, figure.unit, False) if arm in figure.arms else "" for arm in arms]
    unit = figure.unit
    cells.append(f"{words.difference(change, unit)} ({words.change_between(change, unit)})" if change else "")
    return [*cells, _SAID[one.way], *([f"{figure.n:,}"] if wide else [])]


def _print_notes(console: "Console", exam: Exam, found: list[Judged]) -> None:
    if any(one.figure.unit == "share" and one.change for one in found):
        console.print("[dim]changes of percentages are in percentage points; ?: the interval holds zero[/]")
    for one in found:
        if not one.figure.decides:
            console.print(f"[dim]* {safe(one.figure.name)}: {safe(one.figure.note or 'stated only')}[/]")
    for line in exam.left_out:
        console.print(f"[dim]left out: {safe(line)}[/]")


def plain_table(gap: int = 2) -> "Table":
    """A table without lines; `gap`: blanks between columns."""
    from rich.table import Table

    return Table(box=None, padding=(0, gap, 0, 0), header_style="bold")


def safe(text: str) -> str:
    """Square brackets in names are no markup."""
    from rich.markup import escape

    return escape(text)
