"""`brogue data template` and `expand`: how a dataset begins, and how a small one grows."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, say, working
from data.dataset import DatasetCard, load_card
from data.dataset_folder import refuse_existing
from data.errors import BrogueError, one_line
from data.home import Home, check_name, write_text
from data.templates import Form, Template
from data.templates import template as template_of
from data.variations import LIKENESS, Variation

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.expanding import Answers, Plan, Work


def template(
    form: Annotated[Form, typer.Argument(help="What the records are to be.")],
    to: Annotated[Path | None, typer.Option("--to", help="The file to write (default: print it).")] = None,
    replace: Annotated[bool, typer.Option(help="Overwrite a file of that name.")] = False,
    json: Json = False,
) -> None:
    """Write an example file to fill in: examples to replace, with what to know about each column."""
    made = template_of(form)
    if to is not None:
        _write(to, made, replace)
    if json:
        print_json({"form": form, **made._asdict(), "path": str(to.absolute()) if to else None})
        return
    if to is None:
        typer.echo(made.text, nl=False)
    for note in made.notes:
        say(f"# {note}")
    file = to or f"FILE{made.suffix}"
    say(f"next: fill it in, then brogue data import {file} --as {made.kind} --into NAME")


def _write(to: Path, made: Template, replace: bool) -> None:
    if to.suffix != made.suffix:
        wanted = to.with_suffix(made.suffix)
        raise BrogueError(f"a file for {made.kind} records ends in {made.suffix}; wanted --to {wanted}, found {to}")
    if to.exists() and not replace:
        raise BrogueError(f"{to} exists already; choose another name or add --replace")
    try:
        write_text(to, made.text)
        to.chmod(0o644)
    except OSError as error:
        raise BrogueError(f"cannot write {to} ({error.strerror})") from error


def expand(
    name: Annotated[str, typer.Argument(help="The dataset to start from; it stays as it is.")],
    into: Annotated[str | None, typer.Option(help="Name of the new dataset.")] = None,
    per_record: Annotated[int, typer.Option(min=1, max=8, help="Rewordings wanted of a question, at most.")] = 2,
    model: Annotated[
        str | None, typer.Option("--with", help="The model that writes them (default: the served base model).")
    ] = None,
    only: Annotated[int | None, typer.Option(min=1, help="Only so many questions (default: all).")] = None,
    likeness: Annotated[
        float, typer.Option(min=0, max=1, help="Refuse what has less in common with its question.")
    ] = LIKENESS,
    preview: Annotated[int | None, typer.Option(min=1, help="Show it for so many questions; write nothing.")] = None,
    replace: Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")] = False,
    json: Json = False,
) -> None:
    """Add rewordings of a dataset's training questions, written by a served model; each keeps its answer or label.

    They are marked, never stand in validation or test, and none repeats a question that is there. `brogue up` must run.
    """
    from assistant.expanding import Plan, base_model, check_model, gather
    from assistant.local_gateway import local_client

    if into is None and preview is None:
        raise BrogueError("wanted --into NEW for the grown dataset, or --preview 5 to see what would be added")
    home = Home.from_environment()
    card = load_card(home, name)
    if preview is None:
        refuse_existing(home, check_name("a dataset", into or name), replace)
    client = local_client(home)
    plan = Plan(
        model=check_model(client, model) if model else base_model(client), per_record=per_record, likeness=likeness,
        only=only,
    )  # fmt: skip
    work = gather(home, card, preview or only)
    if preview is not None or into is None:
        _preview(client, plan, work, json)
    else:
        _expand(home, card, client, plan, work, into, replace, json)


def _expand(home: Home, card: DatasetCard, client: "Client", plan: "Plan", work: "Work", into: str, replace: bool,
            json: bool) -> None:  # fmt: skip
    from assistant.client import GatewayError
    from assistant.expanding import answers_file, ask, grow, kept_answers, weigh

    with working(f"expanding {card.name}") as tell, kept_answers(home, card, plan) as kept:
        if kept.answers:
            tell(f"{len(kept.answers):,} questions were asked before")
        try:
            ask(client, plan, work.rows, kept.answers, kept.add, _now_and_then(tell, len(work.rows)), _say_stopping)
        except (GatewayError, KeyboardInterrupt, SystemExit) as error:
            done = sum(row.id in kept.answers for row in work.rows)
            say(f"{done:,} of {len(work.rows):,} questions are answered and kept; the same command goes on")
            raise error
        variations = weigh(work, plan, kept.answers, tell)
        new = grow(home, card, plan, work, variations, into, replace)
        shutil.rmtree(answers_file(home, card, plan).parent)
    if json:
        print_json(new.model_dump(mode="json"))
        return
    counts = dict(new.steps[-1].counts)
    asked, added = counts.pop("asked"), counts.pop("kept")
    rows = sum(card.records.values()), sum(new.records.values())
    typer.echo(f"{new.name}: {added} rewordings by {plan.model} of {asked} questions added; all of them in train")
    typer.echo(f"{rows[0]} rows before, {rows[1]} now")
    for why, number in counts.items():
        say(f"refused {number}: {why}")
    say(f"read some of them before you train: brogue data export {new.name} --to FILE.csv, column synthetic_of")


def _say_stopping() -> None:
    say("stopping; the questions on their way are still answered")


def _now_and_then(tell: Callable[[str], None], total: int) -> Callable[[str], None]:
    """`tell`, about fifty times in all: a line each, where there is no terminal."""
    every, told = max(1, total // 50), count(1)
    return lambda line: tell(line) if next(told) % every == 0 else None


def _preview(client: "Client", plan: "Plan", work: "Work", json: bool) -> None:
    from assistant.expanding import ask, tally, weigh

    with working("asking") as tell:
        answers: Answers = {}
        ask(client, plan, work.rows, answers, lambda _row, _answers: None, tell)
        variations = weigh(work, plan, answers, tell)
    counts = tally(work, variations)
    if json:
        found = [{"question": work.questions[v.of].text, "text": v.text, "fault": v.fault} for v in variations]
        print_json({"model": plan.model, "counts": counts, "variations": found})
        return
    for row, place in zip(work.rows, work.places, strict=True):
        typer.echo(f"{row.id}  {one_line(work.questions[place].text)}")
        for variation in (v for v in variations if v.of == place):
            typer.echo(_line(variation))
    typer.echo(f"{counts['kept']} of {len(variations)} rewordings would be added; nothing was written")


def _line(variation: Variation) -> str:
    text = one_line(variation.text, 200)
    return f"- {text}  ({variation.fault})" if variation.fault else f"+ {text}"
