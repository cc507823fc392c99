"""`brogue data collect`: what people said of answers becomes a dataset."""

from collections import Counter
from typing import Annotated

import typer

from assistant.cli_data_options import Json, parse_shares
from assistant.cli_store import day, opened_store
from assistant.console import print_json, say, working
from data.dataset_folder import refuse_existing
from data.errors import BrogueError
from data.home import Home, check_name
from data.records import SPLITS

KINDS = ("chat", "instruction", "preference", "ranking", "rated")


def collect(
    kind: Annotated[str, typer.Option("--as", help=f"What the records are to be: {', '.join(KINDS)}.")],
    into: Annotated[str, typer.Option(help="Name of the dataset.")],
    assistant: Annotated[str | None, typer.Option(help="Only what was said of this assistant.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was said from this day on, such as 2026-03-01.")] = None,
    split: Annotated[str, typer.Option(help="Percent of train/validation/test.")] = "80/10/10",
    unweighted: Annotated[bool, typer.Option("--unweighted", help="Every rater counts the same.")] = False,
    replace: Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")] = False,
    json: Json = False,
) -> None:
    """Make a dataset from what people said of answers: thumbs, corrections, comparisons, rankings."""
    from data.collecting import Source, collected, oldest_first, save
    from data.feedback import LIGHTER
    from data.judgements import Wanted
    from data.memory import many_objects
    from data.raters import weights_in

    if kind not in KINDS:
        raise BrogueError(f"--as wants one of {', '.join(KINDS)}; found '{kind}'")
    shares, home = parse_shares(split), Home.from_environment()
    refuse_existing(home, check_name("a dataset", into), replace)
    wanted = Wanted(assistant=assistant, since=day("--since", since))
    counts: Counter[str] = Counter()
    with opened_store(home) as store, working("collecting") as tell, many_objects():
        told = oldest_first(store.judgements(wanted))
        tell(f"{len(told)} judgements")
        source = Source(store, told, {} if unweighted else weights_in(store, wanted, told))
        rows = collected(source, kind, shares, counts)  # type: ignore[arg-type]
        options = {"as": kind, "assistant": assistant, "since": since, "unweighted": unweighted or None}
        card = save(home, into, rows, source, shares, replace, counts, options)
    if json:
        print_json(card.model_dump(mode="json"))
        return
    sizes = ", ".join(f"{name} {card.records[name]}" for name in SPLITS)
    typer.echo(f"{into}: {counts['kept']} {kind} records of {len(told)} judgements; {sizes}")
    if lighter := counts[LIGHTER]:
        say(f"{lighter} of them weigh less than 1, for their raters do (why: brogue feedback agreement)")
    for why, count in sorted(counts.items()):
        if why.startswith("skipped"):
            say(f"{why} ({count})")
