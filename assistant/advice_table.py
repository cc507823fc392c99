"""An advice on the terminal: the recommendation, then a table of the arms, fit for 80 columns."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant import advice_words as shown
from assistant import exam_words as words
from assistant.advice_types import Advice, Result
from assistant.exam_table import plain_table, safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 110  # columns from which on there is room for the price and for how an arm does beside the best
_COLOURS = {"use": "green", "nothing works": "red", "not enough evidence": "yellow"}


def print_advice(advice: Advice, width: int | None = None) -> None:
    """The advice on stdout; `width` in columns, else the terminal's (80 where there is none)."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=width, highlight=False, emoji=False)
    _print_recommendation(console, advice)
    console.print(_arms(advice, console.width >= _WIDE))
    _print_notes(console, advice)
    _print_list(console, "What would change this:", advice.recommendation.changes)
    _print_list(console, "More data:", shown.growth_that_matters(advice))
    _print_unfinished(console, advice)


def _print_recommendation(console: "Console", advice: Advice) -> None:
    recommendation = advice.recommendation
    console.print(f"[dim]{safe(shown.circumstances(advice))}[/]")
    for place, line in enumerate(recommendation.words):
        console.print(safe(line), style=f"bold {_COLOURS[recommendation.result]}" if not place else "")
    console.print()


def _print_list(console: "Console", heading: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"[bold]{heading}[/]")
    for line in lines:
        console.print(f"- {safe(line)}")


def _arms(advice: Advice, wide: bool) -> "Table":
    """The arms whose metric is known, the best first."""
    known = [result for result in shown.ordered(advice) if shown.found(result)]
    prices = any(result.price_per_1000 is not None for result in known)
    table = plain_table(2 if wide else 1)
    table.add_column("", no_wrap=True)
    table.add_column("arm", overflow="fold")
    table.add_column(f"{safe(shown.metric(advice))} (95% interval)", min_width=18)
    for name in ("rows", "min", "tokens", "p50/p95 s", *(["price"] if prices else [])):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("memory", justify="right", no_wrap=True)
        table.add_column("beside the best", no_wrap=True)
    for result in known:
        style = "bold" if result.arm.name == advice.recommendation.arm else "" if result.test else "dim"
        table.add_row(*_row(advice, result, prices, wide), style=style)
    return table


def _row(advice: Advice, result: Result, prices: bool, wide: bool) -> list[str]:
    known, standing = shown.found(result), shown.standing(advice, result)
    assert known is not None
    mark = "→" if result.arm.name == advice.recommendation.arm else "=" if standing == "perhaps as good" else ""
    unit = shown.unit(advice)
    figure = f"{words.number(known.figure.value, unit)} ({shown.span(known.figure, unit)})"
    cells = [mark, safe(result.arm.name), figure + (" *" if known.validation else ""), f"{known.rows:,}",
             shown.minutes_to_make(result)]  # fmt: skip
    if test := result.test:
        cells += [f"{test.prompt_tokens:,.0f}+{test.answer_tokens:,.0f}",
                  f"{shown.seconds(test.seconds_p50)}/{shown.seconds(test.seconds_p95)}"]  # fmt: skip
    else:
        cells += ["", ""]
    price = result.price_per_1000
    cells += ["" if price is None else words.number(price, "")] if prices else []
    return cells + ([shown.size(result.memory) if result.memory else "", _beside(advice, result)] if wide else [])


def _beside(advice: Advice, result: Result) -> str:
    """Such as "−7.8 points, worse"."""
    comparison, unit = shown.beside_the_best(advice).get(result.arm.name), shown.unit(advice)
    if comparison is None:
        return shown.standing(advice, result)
    return f"{words.difference(comparison.difference, unit)}, {shown.standing(advice, result)}"


def _print_notes(console: "Console", advice: Advice) -> None:
    results, unit, currency = advice.results, shown.unit(advice), shown.currency(advice)
    floor = f"{shown.metric(advice)} without looking at the question: {words.number(advice.task.floor, unit)}"
    notes = ["→ recommended; = perhaps as good as the best; tokens: of question + answer; min: to make it",
             floor]  # fmt: skip
    if any(shown.found(result) and not result.test for result in results):
        notes.append("* on the validation records, when it was stopped")
    if any(result.price_per_1000 is not None for result in results):
        notes.append(f"price: {f'{currency} ' if currency else ''}for 1,000 answers, by [prices] in brogue.toml")
    for line in notes:
        console.print(f"[dim]{safe(line)}[/]")
    console.print()


def _print_unfinished(console: "Console", advice: Advice) -> None:
    for result, state in shown.unfinished(advice):
        console.print(f"{state}: [bold]{safe(result.arm.name)}[/]: {safe(result.why)}")
    for line in shown.left_out(advice):
        console.print(f"left out: {safe(line)}")
