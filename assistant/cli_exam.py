"""`brogue exam`: a version beside its predecessor and the base model, and what the gate says; `brogue exams`: all."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.registry import Registry
from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.home import Home

if TYPE_CHECKING:
    from adapters.exam import Asked
    from adapters.exam_types import Exam

app = typer.Typer(help="Exams that were sat, and suites: list, show.", no_args_is_help=True)
SuiteOption = Annotated[
    str | None,
    typer.Option(help="A suite's name, a YAML file, or a folder of JSONL files (default: what the home has)."),
]


def exam(
    version: Annotated[str, typer.Argument(help="name@version, or name@candidate; a bare name is its stable version.")],
    against: Annotated[
        str | None, typer.Option(help="name@version to compare with (default: stable, or the one before it).")
    ] = None,
    suite: SuiteOption = None,
    judge: Annotated[str | None, typer.Option(help="A reward model, NAME@N, that compares answers.")] = None,
    gate: Annotated[str, typer.Option(help="The rules for the verdict: a gate's name, or a YAML file.")] = "default",
    limit: Annotated[int | None, typer.Option(min=1, help="Items of each part at most (default: the suite's).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of samples and of the intervals' draws.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure anew; kept answers are not asked for again.")] = False,
    json: Json = False,
) -> None:
    """Examine a version. Ctrl-C keeps all answers so far; the same command goes on from there."""
    from adapters.threads import share_processor

    share_processor(serving=True)
    from adapters.exam import plan, run_exam
    from adapters.gate_rules import load_gate
    from assistant.exams import judged, running

    home = Home.from_environment()
    load_gate(home, gate)  # a rules file with a mistake is told before the work, not after
    asked = plan(home, version, against=against, suite=suite, judge=judge, limit=limit, seed=seed)
    gateway = running(home)
    say(_announced(asked))
    with working(asked.version.name) as tell:
        found = run_exam(home, asked, gateway, tell, again)
    _print(home, judged(home, found, gate), json)


def _announced(asked: "Asked") -> str:
    others = f"{asked.against.name} and the base model" if asked.against is not None else "the base model"
    parts = ", ".join(part.prefix for part in asked.suite.parts)
    return f"{asked.version.name} beside {others}, suite '{asked.suite.name}': {parts}"


@app.command("list")
def list_(
    adapter: Annotated[str | None, typer.Argument(help="Only this adapter's.")] = None, json: Json = False
) -> None:
    """List the exams, the newest first, with their verdicts."""
    from assistant.exams_api import ExamsApi

    found = ExamsApi(Home.from_environment()).listed(adapter)
    if json:
        print_json(found)
        return
    rows = [
        (one["id"], one["names"]["version"], one["names"].get("against", "-"), one["suite"],
         (one["verdict"] or {}).get("result", "-"), one["counted"], one["created"][:16])
        for one in found
    ]  # fmt: skip
    columns = ("exam", "version", "against", "suite", "verdict", "figures", "when")
    print_table(columns, rows, "no exams yet; examine a version: brogue exam NAME@N")


@app.command()
def show(id: Annotated[str, typer.Argument(help="The exam's id; see: brogue exams list.")], json: Json = False) -> None:
    """Show an exam again: its figures and its verdict."""
    from adapters.exam_files import load

    home = Home.from_environment()
    _print(home, load(home, id), json)


def _print(home: Home, found: "Exam", json: bool) -> None:
    from adapters.exam_files import report_path
    from assistant.exam_table import print_exam

    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_exam(found)
    say(f"report: {report_path(home, found.id)}")


@app.command()
def suites(
    version: Annotated[str | None, typer.Argument(help="Show the default suite of this version, too.")] = None,
    suite: SuiteOption = None,
    json: Json = False,
) -> None:
    """List the suites with their parts, and the measures that a suite can name."""
    from adapters.exam_suites import load_suite, names, suite_for
    from adapters.measures import MEASURES

    home = Home.from_environment()
    found = [load_suite(home, name) for name in ([suite] if suite is not None else names(home))]
    left: list[str] | None = None
    if version is not None:
        own, left = suite_for(home, Registry(home).resolve(version), None)
        found += [] if left is None else [own]  # the home's own 'default' stands there already
    if json:
        parts = [one.model_dump() for one in found]
        print_json({"suites": parts, "measures": sorted(MEASURES), "left_out": left or []})
        return
    rows: list[tuple[Any, ...]] = [
        (one.name, part.prefix, part.measure, part.data or "shipped", part.limit) for one in found for part in one.parts
    ]
    empty = "no suites of your own yet; what a version sits without one: brogue exams suites NAME@N"
    print_table(("suite", "part", "measure", "data", "items"), rows, empty)
    for line in left or []:
        say(f"left out: {line}")
    say(f"measures: {', '.join(sorted(MEASURES))}")
