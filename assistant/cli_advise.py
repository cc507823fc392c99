"""`brogue advise`: every way to do a task, measured, with a verdict; `advise apply`: the winner as an assistant;
`brogue advice`: what was advised before."""

import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError
from data.home import Home

if TYPE_CHECKING:
    from assistant.advice_types import Advice

advise = typer.Typer(invoke_without_command=True)
app = typer.Typer(help="Advice that was given: list, show.", no_args_is_help=True)
QUIET_S = 15.0
_UNITS = {"s": 1 / 60, "m": 1.0, "min": 1.0, "h": 60.0, "": 1.0}


@advise.callback()
def advise_(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="The dataset; see: brogue data list.")] = None,
    knowledge: Annotated[Path | None, typer.Option(help="Documents to look up: a file or a folder.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="For all of it, such as 30m or 2h (default: brogue.toml's, 30m).")
    ] = None,
    target: Annotated[str | None, typer.Option(help="What is good enough, such as accuracy=0.9.")] = None,
    arms: Annotated[str | None, typer.Option(help="Only these, such as prompt,few-shot-nearest.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Test records at most (default: 200).")] = None,
    metric: Annotated[str | None, typer.Option(help="The figure that decides (default: by the records).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of trainings, samples and intervals.")] = 0,
    json: Json = False,
) -> None:
    """Prompt, examples, documents, fine-tuning or a small model: measure all on your data, and recommend one.

    Every way to do the task is tried on the same test records; `brogue up` must be running. Whatever ends it early, the
    same command goes on where it was; with a longer --budget it goes further.
    """
    if context.invoked_subcommand is not None:
        return
    if data is None:
        raise typer.BadParameter("wanted a dataset: brogue advise --data NAME", context)
    from adapters.threads import share_processor

    wanted, figure = read_target(target, metric)
    minutes = None if budget is None else read_budget(budget)
    share_processor(serving=True)  # before torch is imported: the engine answers beside our work
    from assistant.advice_files import Asked
    from assistant.advice_run import run_advice
    from assistant.exams import running

    home = Home.from_environment()
    home.create()
    names = tuple(name for name in re.split(r"[,\s]+", arms or "") if name)
    asked = Asked(data=data, knowledge=knowledge, budget_minutes=minutes, target=wanted, metric=figure, arms=names,
                  limit=limit, seed=seed)  # fmt: skip
    gateway = running(home)
    try:
        with working("advice") as tell:
            found = run_advice(home, asked, gateway, tell if sys.stderr.isatty() else seldom(tell))
    except (KeyboardInterrupt, SystemExit):
        say("what was made and measured is kept; the same command goes on from there")
        raise
    _print(home, found, json)


@advise.command("apply")
def apply_(
    id: Annotated[
        str | None, typer.Argument(help="The advice's id; see: brogue advice list (default: latest).")
    ] = None,
    name: Annotated[str | None, typer.Option("--as", help="The assistant's name.")] = None,
    arm: Annotated[str | None, typer.Option(help="Another arm than the recommended one.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In the place of what has that name.")] = False,
    json: Json = False,
) -> None:
    """Make the recommended arm an assistant, which is served at once: prompt, examples, documents, weights."""
    if name is None:
        raise BrogueError("the assistant wants a name: brogue advise apply --as NAME")
    from assistant.advice_apply import apply, chosen
    from assistant.advice_files import load, newest
    from assistant.services import running_gateway

    home = Home.from_environment()
    advice = load(home, id or newest(home))
    result = chosen(advice, arm)
    with working(name) as tell:
        tell(f"taking {result.arm.name} over from advice {advice.id} on {advice.task.dataset}")
        done = apply(home, result, name, replace)
    if json:
        print_json({"advice": advice.id} | done._asdict())
        return
    typer.echo(f"{name}: {done.title} ({done.arm}) → {done.file}")
    parts = {
        "adapter": done.adapter,
        "specialist": done.specialist,
        "records": done.dataset,
        "documents": done.knowledge,
    }
    for what, part in parts.items():
        if part is not None:
            typer.echo(f"{what}: {part}")
    typer.echo(f"next: {'' if running_gateway(home) else 'brogue up, then '}brogue chat {name}")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the advice that was given, the latest first, with its verdict."""
    from assistant.advice_files import ids, load

    home = Home.from_environment()
    found = sorted((load(home, id) for id in ids(home)), key=lambda one: one.created, reverse=True)
    if json:
        print_json([_summary(one) for one in found])
        return
    rows = [
        (one.id, one.task.dataset, one.recommendation.result, one.recommendation.arm or "-",
         one.recommendation.fine_tune, sum(result.test is not None for result in one.results),
         f"{one.minutes:.0f} min", one.created[:16])
        for one in found
    ]  # fmt: skip
    columns = ("advice", "dataset", "verdict", "arm", "fine-tuning", "measured", "took", "when")
    print_table(columns, rows, "no advice yet; ask for one: brogue advise --data NAME")


@app.command()
def show(
    id: Annotated[
        str | None, typer.Argument(help="The advice's id; see: brogue advice list (default: latest).")
    ] = None,
    json: Json = False,
) -> None:
    """Show an advice again: the recommendation and what was measured of each arm."""
    from assistant.advice_files import load, newest

    home = Home.from_environment()
    _print(home, load(home, id or newest(home)), json)


def seldom(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, but of one arm only every 15 seconds: what a terminal shows in one line, a log need not hold in full."""
    head, said = "", 0.0

    def told(text: str) -> None:
        nonlocal head, said
        if text.partition(",")[0] != head or time.monotonic() - said >= QUIET_S:
            head, said = text.partition(",")[0], time.monotonic()
            tell(text)

    return told


def read_budget(text: str) -> float:
    """Minutes of "30m", "2h", "1h30m", "90s" or "30"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|$)", text.strip().lower())
    minutes = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != re.sub(r"\s+", "", text.lower()) or minutes <= 0:
        raise BrogueError(f"--budget wants a time such as 30m or 2h; found '{text}'")
    return minutes


def read_target(target: str | None, metric: str | None) -> tuple[float | None, str | None]:
    """(what is aimed at, the figure that decides) of "accuracy=0.9" or "0.9", and of --metric."""
    if target is None:
        return None, metric
    name, _, value = target.rpartition("=")
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 < found <= 1 or ("=" in target and not name):  # also what is no number
        raise BrogueError(f"--target wants a figure and a share of 1, such as accuracy=0.9; found '{target}'")
    if name and metric is not None and name != metric:
        raise BrogueError(f"--target is about {name} and --metric about {metric}; wanted the same figure")
    return found, name or metric


def _summary(advice: "Advice") -> dict[str, object]:
    found = advice.recommendation
    return {
        "id": advice.id, "dataset": advice.task.dataset, "metric": advice.task.metric, "result": found.result,
        "arm": found.arm, "fine_tune": found.fine_tune, "minutes": advice.minutes, "created": advice.created,
    }  # fmt: skip


def _print(home: Home, advice: "Advice", json: bool) -> None:
    from assistant.advice_files import report_path
    from assistant.advice_report import write
    from assistant.advice_table import print_advice

    write(advice, report_path(home, advice.id))
    if json:
        print_json(advice.model_dump(mode="json"))
    else:
        print_advice(advice)
        if advice.recommendation.arm is not None:
            say(f"to use it: brogue advise apply {advice.id} --as NAME")
    say(f"report: {report_path(home, advice.id)}")
