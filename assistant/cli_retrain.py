"""`brogue retrain`: from what people said of answers to a better version, in one command."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, say
from data.errors import BrogueError
from data.home import Home, check_name

if TYPE_CHECKING:
    from adapters.loop import Asked, Round

POLL_S = 5.0  # between two looks for new judgements
AGAIN_S = 60.0  # after a round that was refused or went wrong


def retrain(
    adapter: Annotated[str, typer.Argument(help="The adapter's name; training starts from its stable version.")],
    recipe: Annotated[
        str, typer.Option(help="dpo and ppo learn from comparisons, rankings and corrections; sft from thumbs up and "
                               "corrections, kto from thumbs.")
    ] = "dpo",
    auto: Annotated[bool, typer.Option("--auto", help="A version that passes the gate goes live by itself.")] = False,
    canary: Annotated[
        int | None, typer.Option(min=1, max=99, help="Or is tried on so many percent of the traffic.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All judgements, not only those since the stable version.")
    ] = False,
    suite: Annotated[str | None, typer.Option(help="What it is examined in; see: brogue exam.")] = None,
    gate: Annotated[str | None, typer.Option(help="The rules that it must meet; see: docs/gate.md.")] = None,
    train_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, such as epochs=2, learning_rate=1e-4, rounds=20.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of training and exam.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what would be done and about how long.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Whenever enough is new, until Ctrl-C.")] = False,
    every: Annotated[int | None, typer.Option(min=1, help="New judgements that --watch waits for.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Give up a round that was not brought to its end.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Make ADAPTER better by what people said of its answers: dataset, training, exam, gate; then live, or kept.

    Whatever ends it early, the same command goes on where it was; no step that was complete is done again.
    """
    from adapters.loop import RECIPES, Asked
    from adapters.methods import read_options

    if recipe not in RECIPES:
        raise BrogueError(f"--recipe wants one of {', '.join(RECIPES)}; found '{recipe}'")
    if auto and canary is not None:
        raise BrogueError("wanted one of --auto and --canary; found both")
    if every is not None and not watch:
        raise BrogueError("--every goes with --watch")
    home = Home.from_environment()
    home.create()
    check_name("an adapter", adapter)
    asked = Asked(adapter=adapter, recipe=recipe, auto=auto, canary=canary, everything=everything, suite=suite,
                  gate=gate, options=read_options(train_option or (), "--train-option"), seed=seed)  # fmt: skip
    if plan:
        _plan(home, asked, json)
    elif drop:
        _drop(home, asked, json)
    elif watch:
        _watch(home, asked, every, json)
    else:
        _print(home, one_round(home, asked), json)


def one_round(home: Home, asked: "Asked") -> "Round":
    """The unfinished round of the adapter, or a new one, to its end."""
    from adapters.threads import share_processor

    share_processor(serving=True)  # before torch is imported: the engine answers beside the training
    from adapters import loop
    from assistant.retrain import Steps, refuse_same

    steps = Steps(home)
    with loop.alone(home, asked.adapter):
        state = loop.begin(home, asked)
        refuse_same(home, state)
        steps.check(state)
        say(f"round {state.id}: {asked.recipe} from {state.start}")
        return loop.run(home, state, steps.table, say)


def _plan(home: Home, asked: "Asked", json: bool) -> None:
    from adapters import loop
    from assistant import retrain_plan

    found = retrain_plan.planned(home, loop.begin(home, asked), measure=True)
    if json:
        print_json(found)
    else:
        typer.echo("\n".join(retrain_plan.words(found)))


def _drop(home: Home, asked: "Asked", json: bool) -> None:
    from adapters import loop

    with loop.alone(home, asked.adapter):
        known = loop.rounds(home, asked.adapter)
        if not known or known[-1].complete:
            raise BrogueError(f"{asked.adapter} has no unfinished round; see: brogue adapters show {asked.adapter}")
        loop.drop(home, known[-1])
    if json:
        print_json({"dropped": known[-1].id})
    else:
        typer.echo(f"{known[-1].id} is dropped; what it made stays (dataset, versions)")


def _watch(home: Home, asked: "Asked", every: int | None, json: bool) -> None:
    """A round whenever so many judgements are new; one that went wrong is told and tried again."""
    from adapters import loop
    from assistant.retrain import new_judgements
    from data.settings import load_settings

    wanted, told = every or load_settings(home.settings_file).loop.every, ""
    say(f"waiting for {wanted} new judgements on {asked.adapter}; Ctrl-C ends it")
    while True:
        known = loop.rounds(home, asked.adapter)
        unfinished = bool(known) and not known[-1].complete
        since = known[-1].until if known else loop.begin(home, asked).since
        if not unfinished and new_judgements(home, asked.adapter, since) < wanted:
            _pause(POLL_S)
            continue
        try:
            _print(home, one_round(home, asked), json)
            told = ""
        except BrogueError as error:
            if str(error) != told:
                say(f"{error}; it is tried again every minute")
            told = str(error)
            _pause(AGAIN_S)


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _print(home: Home, state: "Round", json: bool) -> None:
    from assistant.retrain_summary import summary, words

    if json:
        print_json(summary(home, state))
    else:
        typer.echo("\n".join(words(home, state)))
