"""`brogue feedback`: what people said of answers; how far it can be trusted, who wins, and files to train on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.cli_store import day, opened_store
from assistant.console import print_json, say, working
from data.errors import BrogueError

if TYPE_CHECKING:
    from data.judgements import Wanted
    from data.leaderboard import Leaderboard, Style
    from data.leaderboard_groups import By, Groups
    from data.store import Store

app = typer.Typer(help="What people said of answers.", no_args_is_help=True)

KINDS = ("rating", "comparison", "ranking", "correction")
Assistant = Annotated[str | None, typer.Option(help="Only what was said of this assistant.")]
Version = Annotated[str | None, typer.Option(help="Only what was said of this version, such as support@3.")]
Rater = Annotated[str | None, typer.Option(help="Only what this rater said.")]
Since = Annotated[str | None, typer.Option(help="Only what was said from this day on, such as 2026-03-01.")]
Until = Annotated[str | None, typer.Option(help="Only what was said before this day.")]
Unweighted = Annotated[bool, typer.Option("--unweighted", help="Every rater counts the same.")]


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Option(help=f"Only one kind: {', '.join(KINDS)}.")] = None,
    assistant: Assistant = None,
    version: Version = None,
    rater: Rater = None,
    response: Annotated[str | None, typer.Option(help="Only what was said of this answer.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what this person said, or was answered.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Only what was said of this conversation.")] = None,
    since: Since = None,
    until: Until = None,
    taken_back: Annotated[bool, typer.Option("--taken-back", help="Those that were taken back too.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest.")] = None,
    json: Json = False,
) -> None:
    """List judgements, newest first."""
    if kind is not None and kind not in KINDS:
        raise BrogueError(f"--kind wants one of {', '.join(KINDS)}; found '{kind}'")
    wanted = _wanted(
        kind=kind, assistant=assistant, version=version, rater=rater, response=response, subject=subject,
        conversation=conversation, since=since, until=until, taken_back=taken_back, limit=limit,
    )  # fmt: skip
    with opened_store() as store:
        found = store.judgements(wanted)
    if json:
        print_json([kept.model_dump(mode="json") for kept in found])
        return
    from assistant.feedback_tables import print_judgements

    print_judgements(found)


@app.command()
def agreement(
    assistant: Assistant = None, since: Since = None, until: Until = None, json: Json = False
) -> None:  # fmt: skip
    """Tell how far raters agree, with each other and with themselves; flag and weigh those who do not.

    Krippendorff's alpha, nominal for comparisons and ordinal for rankings: 1 is full agreement, 0 is chance.
    """
    from assistant.feedback_tables import print_agreement
    from data.memory import many_objects
    from data.raters import agreement as measured
    from data.raters import ranked

    with opened_store() as store, working("agreement") as tell, many_objects():
        found = ranked(store, _wanted(assistant=assistant, since=since, until=until))
        tell(f"{len(found):,} comparisons and rankings")
        report = measured(found, store.judged_lengths())
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        print_agreement(report)


@app.command()
def leaderboard(
    assistant: Assistant = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[str | None, typer.Option(help="One for each topic, or for each assistant too.")] = None,
    style: Annotated[bool, typer.Option("--style", help="At equal length, list items, headings and bold.")] = False,
    unweighted: Unweighted = False,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this file, .png or .svg.")] = None,
    json: Json = False,
) -> None:
    """Tell which version people prefer (Bradley-Terry, with 95% bootstrap intervals)."""
    from assistant.feedback_tables import print_groups, print_leaderboard
    from data.leaderboard_groups import BY

    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise BrogueError(f"--plot wants a file that ends in .png or .svg; found '{plot}'")
    if by is not None and by not in BY:
        raise BrogueError(f"--by wants one of {', '.join(BY)}; found '{by}'")
    wanted = _wanted(assistant=assistant, since=since, until=until)
    board, groups, weights = _estimated(wanted, by, style, unweighted)
    if plot is not None:
        from assistant.feedback_plot import draw

        drawn = draw(groups.boards if groups and groups.boards else {"": board}, plot)
    if json:
        lighter = {rater: weight for rater, weight in weights.items() if weight < 1}
        print_json(board.model_dump(mode="json") | {"raters_below_1": lighter} | (_groups_json(by, groups)))
        return
    print_leaderboard(board, weights)
    if groups is not None:
        print_groups(str(by), groups)
    if plot is not None:
        some = groups is not None and drawn < len(groups.boards)
        say(f"drawn: {plot}" + (f" (the {drawn} with the most matches)" if some else ""))


def _estimated(wanted: "Wanted", by: "By | None", style: bool,
               unweighted: bool) -> "tuple[Leaderboard, Groups | None, dict[str, float]]":  # fmt: skip
    """The leaderboard of all, those of its parts, and what raters weigh."""
    from data.leaderboard import leaderboard as estimated
    from data.leaderboard_groups import grouped
    from data.memory import many_objects
    from data.raters import ranked, weights_in

    with opened_store() as store, working("leaderboard") as tell, many_objects():
        found = ranked(store, wanted)
        tell(f"{len(found):,} comparisons and rankings")
        styles = _styles(store) if style else None
        weights = {} if unweighted else weights_in(store, wanted, found)
        board = estimated(found, weights, styles)
        groups = None
        if by is not None:
            tell(f"by {by}")
            groups = grouped(found, by, weights, styles)
    return board, groups, weights


def _groups_json(by: str | None, groups: "Groups | None") -> dict[str, Any]:
    if groups is None:
        return {}
    boards = {name: board.model_dump(mode="json") for name, board in groups.boards.items()}
    return {"by": by, "groups": boards, "groups_without": list(groups.without), "in_no_group": groups.mixed}


@app.command()
def export(
    kind: Annotated[str, typer.Option("--as", help="Columns of TRL's trainers (sft, dpo, kto, reward), ranking, or "
                                                   "jsonl: the judgements as they are.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write: JSON lines, or Parquet if it ends so.")],
    assistant: Assistant = None,
    version: Version = None,
    rater: Rater = None,
    since: Since = None,
    until: Until = None,
    unweighted: Unweighted = False,
    replace: Annotated[bool, typer.Option(help="Overwrite a file of that name.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Write judgements as a file to train on; the column `weight` says how far its raters can be trusted."""
    from data.feedback_export import FORMATS, export_feedback
    from data.memory import many_objects
    from data.raters import weights_in

    if kind not in FORMATS:
        raise BrogueError(f"--as wants one of {', '.join(FORMATS)}; found '{kind}'")
    wanted = _wanted(assistant=assistant, version=version, rater=rater, since=since, until=until)
    with opened_store() as store, working("exporting") as tell, many_objects():
        found = store.judgements(wanted)
        tell(f"{len(found):,} judgements")
        weights = {} if unweighted else weights_in(store, wanted, found)
        counts = export_feedback(
            found, store.responses_of, weights, kind, to, replace, lambda lines: tell(f"{lines:,} lines")
        )
    lines = counts.pop("lines")
    skipped = {why.removeprefix("skipped: "): count for why, count in sorted(counts.items()) if count}
    if json:
        print_json(
            {"path": str(to.absolute()), "as": kind, "judgements": len(found), "lines": lines, "skipped": skipped}
        )
        return
    typer.echo(f"{to}: {lines:,} lines ({kind}) from {len(found):,} judgements")
    for why, count in skipped.items():
        say(f"skipped: {why} ({count:,})")


def _wanted(*, since: str | None = None, until: str | None = None, **given: Any) -> "Wanted":
    from data.judgements import Wanted

    return Wanted(since=day("--since", since), until=day("--until", until), **given)


def _styles(store: "Store") -> "dict[str, Style]":
    from data.leaderboard import looks

    return {id: looks(text) for id, text in store.judged_texts()}
