"""`brogue feedback queue` and `queues`: what raters are given to rank, through the running gateway."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.cli_store import day
from assistant.console import print_json, print_table
from data.errors import BrogueError
from data.home import Home

if TYPE_CHECKING:
    from assistant.client_feedback import FeedbackClient


def queue(
    name: Annotated[str, typer.Argument(help="The queue's name.")],
    arm: Annotated[list[str], typer.Option("--arm", help="MODEL or MODEL:TEMPERATURE, two to six times: an assistant, "
                                                         "a version such as support@3, or the base.")],
    dataset: Annotated[str | None, typer.Option(help="The questions of this dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="Only its split train, validation or test.")] = None,
    traffic: Annotated[str | None, typer.Option(help="What people asked this assistant, the newest first.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what they asked from this day on.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many questions (default: 100).")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A question, as often as you like.")] = None,
    topic: Annotated[str | None, typer.Option(help="What those questions are about.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share of questions that go to several raters "
                                                       "(default: 0.2).")] = None,
    raters: Annotated[int | None, typer.Option(help="How many those go to (default: 2).")] = None,
    repeat: Annotated[float | None, typer.Option(help="Share that come back to the same rater once "
                                                      "(default: 0.1).")] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Make a queue for raters: questions from a dataset, from live traffic, or typed; who answers them is not shown."""
    given = {"--dataset": dataset, "--traffic": traffic, "--prompt": prompt}
    named = [option for option, value in given.items() if value]
    if len(named) != 1:
        raise BrogueError(f"wanted one of {', '.join(given)}; found {' and '.join(named) or 'none'}")
    for option, value, wanted in (
        ("--split", split, "--dataset"), ("--since", since, "--traffic"), ("--topic", topic, "--prompt"),
    ):  # fmt: skip
        if value is not None and named[0] != wanted:
            raise BrogueError(f"{option} goes with {wanted}; found {named[0]}")
    if prompt and limit is not None:
        raise BrogueError("--limit goes with --dataset or --traffic; typed questions are all taken")
    body: dict[str, Any] = {"overlap": overlap, "raters": raters, "repeat": repeat}
    if dataset:
        body["dataset"] = _given(name=dataset, split=split, limit=limit)
    elif traffic:
        start = day("--since", since)
        body["traffic"] = _given(assistant=traffic, since=start and start.isoformat(), limit=limit)
    else:
        body["prompts"] = [_given(messages=[{"role": "user", "content": text}], topic=topic) for text in prompt or ()]
    made = _client().add_queue(name, [_arm(text) for text in arm], **_given(**body))
    if json:
        print_json(made)
    else:
        typer.echo(
            f"queue {name}: {made['tasks']:,} questions, {len(arm)} answers each; raters find it on the page: Rank"
        )


def queues(json: Json = False) -> None:
    """List the raters' queues and how far they are."""
    found = _client().queues()
    if json:
        print_json(found)
        return
    rows = [
        (made["name"], len(made["arms"]), f"{made['done']:,} of {made['tasks']:,}", _said(made["by_rater"]))
        for made in found
    ]
    empty = "no queues yet; make one: brogue feedback queue NAME --arm MODEL --arm MODEL --prompt TEXT"
    print_table(("queue", "arms", "done", "by rater"), rows, empty)


def _client() -> "FeedbackClient":
    from assistant.client_feedback import FeedbackClient
    from assistant.services import running_gateway

    if (running := running_gateway(Home.from_environment())) is None:
        raise BrogueError("queues are made by the running gateway, which writes the answers; start it: brogue up")
    return FeedbackClient.with_key(*running)


def _arm(text: str) -> dict[str, Any]:
    """ "reed:0.7" as model and temperature; what follows a colon and is no number belongs to the model's name."""
    model, _, tail = text.rpartition(":")
    try:
        return {"model": model, "temperature": float(tail)} if model else {"model": text}
    except ValueError:
        return {"model": text}


def _said(by_rater: dict[str, int]) -> str:
    return ", ".join(f"{rater} {count}" for rater, count in by_rater.items()) or "-"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
