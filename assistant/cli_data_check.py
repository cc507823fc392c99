"""`brogue data check`: what is wrong with a dataset or a file, worst first, with what to do; and the check before a
training."""

from collections.abc import Iterable, Iterator
from pathlib import Path
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
    ResponseColumn,
    SystemColumn,
    TextColumn,
    columns_of,
    parse_shares,
)
from assistant.console import print_json, say, working
from data.checking import MAX_TOKENS, Options, check
from data.checking_figures import CountTokens
from data.checking_records import Faults
from data.checking_report import Finding, Report, Seen, Target
from data.contamination import exam_cards, exam_records
from data.dataset import DatasetCard, Shares, iter_rows, load_card
from data.duplicates import Tell
from data.errors import BrogueError, DataError
from data.home import Home
from data.importing import Found, Imported, dataset_rows, stream_file
from data.records import SPLITS
from data.settings import load_settings


def check_(
    target: Annotated[str, typer.Argument(help="A dataset's name, or a file.")],
    exam: Annotated[
        list[str] | None, typer.Option(help="A dataset that is used as an exam: none of it may stand in train.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as a page with plots.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longer records are told (training leaves them out).")] = (
        MAX_TOKENS
    ),
    examples: Annotated[int, typer.Option(min=0, help="So many records are shown with each finding.")] = 5,
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
    """Check a dataset or a file: faults, duplicates, leaks, lengths, languages, secrets. Exit code 1 on errors."""
    home = Home.from_environment()
    _refuse_page(html, target)
    columns = columns_of(
        prompt=prompt_column, response=response_column, system=system_column, messages=messages_column,
        text=text_column, label=label_column, chosen=chosen_column, rejected=rejected_column,
    )  # fmt: skip
    a_file = kind is not None or format is not None or Path(target).suffix or Path(target).exists()
    is_dataset = (home.datasets / target / "card.json").is_file() or not a_file
    exams = exam_records(home, exam_cards(home, target, exam)) if exam else None
    options = Options(_base_tokens(home), max_tokens, exams, examples)
    with working(f"checking {target}") as tell:
        if is_dataset:
            report = check_dataset(home, load_card(home, target), options, tell)
        else:
            imported, found = stream_file(Path(target), kind, columns, format)
            report = check_file(target, imported, found, parse_shares(DEFAULT_SPLIT), options, tell)
    if html is not None:
        from assistant.report_html import write_report

        write_report(html, report)
        say(f"report: {html}")
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        print_report(report)
    if errors := report.of("error"):
        raise DataError(f"{target}: {_line(errors[0])}")


def check_dataset(home: Home, card: DatasetCard, options: Options, tell: Tell) -> Report:
    """The report of a stored dataset; a record is found by its id."""
    rows = (Seen(row.id, row) for row in iter_rows(home, card.name))
    return check(Target(card.name), card.kind, "dataset", rows, Faults(), options, tell)


def check_file(target: str, imported: Imported, found: Iterable[Found], shares: Shares, options: Options,
               tell: Tell) -> Report:  # fmt: skip
    """The report of a file as it would be imported; a record is found by file and line."""
    shown = shares if not imported.has_own_splits else None
    rows = _rows_with_lines(imported, found, shown)
    faults = Faults(imported.refused, imported.faults)
    return check(Target(target, is_file=True), imported.kind, imported.format, rows, faults, options, tell)


def check_before_training(home: Home, card: DatasetCard, count_tokens: CountTokens, max_tokens: int) -> None:
    """Say each warning in a line; refuse in one line what cannot be learnt from."""
    with working(f"checking {card.name}") as tell:
        report = check_dataset(home, card, Options(count_tokens, max_tokens, examples=0), tell)
    for finding in report.of("warning"):
        say(f"warning: {_line(finding)}")
    if errors := report.of("error"):
        raise DataError(f"dataset '{card.name}': {_line(errors[0])}; all findings: brogue data check {card.name}")


def print_report(report: Report) -> None:
    """The report as a person reads it: figures first, then findings, worst first, each with what to do."""
    splits = ", ".join(f"{split} {report.splits[split]:,}" for split in SPLITS)
    typer.echo(f"{report.target}: {report.kind} ({report.format})\nrecords: {report.records:,} ({splits})")
    if report.lengths:
        sizes = report.lengths
        typer.echo(
            f"lengths: median {sizes.median:,}, 95% up to {sizes.p95:,}, longest {sizes.longest:,} {report.unit}"
        )
    if report.classes:
        labels = len(report.classes) + report.other_classes
        largest, count = next(iter(report.classes.items()))
        typer.echo(f"classes: {labels:,}, largest {largest} ({count:,})")
    if report.languages:
        typer.echo("languages: " + ", ".join(f"{code} {n:,}" for code, n in list(report.languages.items())[:6]))
    if not report.findings:
        typer.echo("nothing was found that needs mending")
        return
    _print_findings(report.findings)


def _print_findings(findings: Iterable[Finding]) -> None:
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Into a file or a pipe nothing is wrapped, so that a line can be searched for.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=400, highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("severity", "finding"):
        table.add_column(column, overflow="fold")
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for finding in findings:
        table.add_row("", "")
        table.add_row(f"[{colours[finding.severity]}]{finding.severity}[/]", escape(finding.message))
        for example in finding.examples:
            other = f" = {example.other}" if example.other else ""
            text = f"  {example.text}" if example.text else ""
            table.add_row("", f"[dim]{escape(example.record + other + text)}[/]")
        if finding.next_step:
            table.add_row("", f"→ {escape(finding.next_step)}")
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        typer.echo(line.rstrip())


def _line(finding: Finding) -> str:
    return f"{finding.message}; {finding.next_step}" if finding.next_step else finding.message


def _rows_with_lines(imported: Imported, found: Iterable[Found], shares: Shares | None) -> Iterator[Seen]:
    """The rows that an import would store, each with its line."""
    where = ""

    def watched() -> Iterator[Found]:
        nonlocal where
        for one in found:
            where = one.where
            yield one

    try:
        for row in dataset_rows(imported, watched(), shares, skip_faulty=True):
            yield Seen(where, row)
    except DataError:
        if not imported.faults or imported.kept:  # a file of faults alone is reported, with its lines
            raise


def _base_tokens(home: Home) -> CountTokens | None:
    """How to count the base model's tokens; None where it is not on this machine yet."""
    from adapters.base_model import on_disk
    from adapters.counting import token_counter

    folder = on_disk(load_settings(home.settings_file).base_model, home)
    return None if folder is None else token_counter(folder)


def _refuse_page(html: Path | None, target: str) -> None:
    if html is None:
        return
    if html.exists() and Path(target).exists() and html.samefile(target):
        raise BrogueError(f"--html would overwrite {target}, the file that is checked; name another one")
    if html.is_dir() or not html.absolute().parent.is_dir():
        raise BrogueError(f"--html wants a file in a folder that is there; found {html}")
