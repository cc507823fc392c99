"""`brogue data`: import, check and list datasets."""

import typer

from assistant.cli_data_check import check_
from assistant.cli_data_import import import_
from assistant.cli_data_options import Json
from assistant.cli_data_split import balance, split
from assistant.console import print_json, print_table
from data.dataset import list_datasets
from data.errors import one_line
from data.home import Home
from data.records import SPLITS

app = typer.Typer(help="Datasets: import files, check them, list them.", no_args_is_help=True)

app.command("import")(import_)
app.command("check")(check_)
app.command("split")(split)
app.command("balance")(balance)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the datasets."""
    cards = list_datasets(Home.from_environment())
    if json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    rows = [
        (c.name, c.kind, *(c.records[s] for s in SPLITS), len(c.steps), one_line(c.licence, 24) or "-",
         one_line(c.origin or c.source, 40), c.created)
        for c in cards
    ]  # fmt: skip
    empty = "no datasets yet; import one: brogue data import FILE --into NAME"
    print_table(("name", "kind", *SPLITS, "steps", "licence", "origin", "created"), rows, empty)
