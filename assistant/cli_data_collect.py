"""`brogue data collect`: what people said of answers becomes a dataset."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json, parse_shares
from assistant.cli_store import day, opened_store
from assistant.console import print_json, say, working
from data.dataset import DatasetCard, Row, Shares, Step, save_dataset
from data.dataset_folder import refuse_existing
from data.errors import BrogueError, DataError
from data.home import Home, check_name
from data.records import SPLITS

if TYPE_CHECKING:
    from data.feedback import Collected
    from data.judgements import StoredJudgement
    from data.store import Store

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
        told = sorted(store.judgements(wanted), key=lambda kept: (kept.created, kept.judgement.id))
        tell(f"{len(told)} judgements")
        weights = {} if unweighted else weights_in(store, wanted, told)
        rows = _rows(store, told, kind, shares, counts, weights)  # type: ignore[arg-type]
        options = {"as": kind, "assistant": assistant, "since": since}
        card = _save(home, into, rows, told, shares, replace, counts, options | {"unweighted": unweighted or None})
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


def _rows(store: "Store", told: "list[StoredJudgement]", kind: "Collected", shares: Shares, counts: Counter[str],
          weights: dict[str, float]) -> Iterator[Row]:  # fmt: skip
    """The rows; nothing to make them of is refused before anything is written."""
    from data.feedback import rows

    made = rows((kept.judgement for kept in told), store.responses_of, kind, shares, counts, weights)
    first = next(made, None)
    if first is None:
        raise DataError(_nothing(kind, len(told), counts))
    return chain([first], made)


def _save(home: Home, into: str, rows: Iterator[Row], told: "list[StoredJudgement]", shares: Shares, replace: bool,
          counts: Counter[str], options: dict[str, Any]) -> DatasetCard:  # fmt: skip
    source = hashlib.sha256("\n".join(kept.judgement.id for kept in told).encode()).hexdigest()
    return save_dataset(
        home, into, rows, "the store", source, {}, shares, replace,
        steps=lambda: (Step(name="collect", options=options, counts=dict(+counts)),),
    )  # fmt: skip


def _nothing(kind: str, told: int, counts: Counter[str]) -> str:
    why = "; ".join(f"{reason} ({count})" for reason, count in counts.most_common(3))
    known = {"preference": "comparisons or corrections", "ranking": "rankings", "rated": "thumbs"}
    wanted = known.get(kind, "thumbs up or corrections")
    return f"the store has no {wanted} for {kind} records among {told} judgements{': ' + why if why else ''}"
