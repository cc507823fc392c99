"""`brogue data split` and `balance`: a new dataset from one there is, the step recorded in its card."""

from collections import Counter
from typing import Annotated

import typer

from assistant.cli_data_clean import Into, Name, print_change, start
from assistant.cli_data_options import DEFAULT_SPLIT, Json, Replace, parse_shares
from assistant.console import say, working
from data.dataset import Step, iter_rows, rewrite
from data.records import SPLITS
from data.splitting import BalanceBy, SplitBy, balance_rows, plan_balance, plan_split, split_rows


def split(
    name: Name,
    into: Into,
    by: Annotated[
        SplitBy,
        typer.Option(help="hash: by the question; group: no group is torn apart; stratified: each label by itself."),
    ] = "hash",
    split: Annotated[str, typer.Option(help="Percent of train/validation/test.")] = DEFAULT_SPLIT,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Split a dataset anew. Rows that a model made, and those that they were made of, stay in train."""
    shares = parse_shares(split)
    home, card = start(name, into, replace)
    counts = Counter[str](moved=0)
    with working(f"splitting {name}") as tell:
        tell("looking at all rows")
        plan = plan_split(iter_rows(home, name), by, shares)
        tell(f"writing {into}")
        rows = split_rows(iter_rows(home, name), by, plan, counts)
        new = rewrite(
            home, card, rows, lambda: Step(name="split", options={"by": by, "split": split}, counts=dict(counts)),
            into, replace, shares,
        )  # fmt: skip
    print_change(card, new, json, f"{counts['moved']} rows moved to another split")
    for part, share in zip(SPLITS, shares, strict=True):
        if share and not new.records[part]:
            say(f"no rows went into {part}: there are too few {'groups' if by == 'group' else 'questions'}")


def balance(
    name: Name,
    into: Into,
    by: Annotated[BalanceBy, typer.Option(help="What is to have equally many rows.")] = "label",
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Rows that each may have in train (default: what the smallest has).")
    ] = None,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Take rows of the larger labels out of train, until none has more than the smallest. Other splits stay."""
    home, card = start(name, into, replace)
    counts = Counter[str](dropped=0)
    with working(f"balancing {name}") as tell:
        tell("counting")
        stay, limit, smallest = plan_balance(iter_rows(home, name), by, at_most)
        tell(f"writing {into}")
        rows = balance_rows(iter_rows(home, name), stay, counts)
        options: dict[str, str | int | float | bool | None] = {"by": by, "at_most": limit}
        new = rewrite(
            home, card, rows, lambda: Step(name="balance", options=options, counts=dict(counts)), into, replace
        )
    why = "" if at_most else f", as many as the smallest ('{smallest}')"
    print_change(card, new, json, f"{counts['dropped']} rows dropped; each {by} has at most {limit} in train{why}")
    if at_most is None and counts["dropped"] > len(stay):
        say(f"more than half of train is gone; to keep more: --at-most N with N over {limit}")
