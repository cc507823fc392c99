"""`brogue gates`: the rules that say whether a version may go on, those we ship and the home's own."""

from typing import Annotated, Any

import typer

from adapters.gate_rules import DEFAULT, SHIPPED, AnyOf, Gate, load_gate, names
from assistant.cli_data_options import Json
from assistant.console import print_json, print_table
from data.home import Home

app = typer.Typer(help="Gates: what a version must pass to go on.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the gates with the number of their rules; one with a mistake in it is told."""
    home = Home.from_environment()
    gates = [load_gate(home, name) for name in names(home)]
    if json:
        print_json([{"name": one.name, "about": one.about, "rules": len(one.rules), "path": str(one.path)}
                    for one in gates])  # fmt: skip
        return
    rows = [
        (one.name, len(one.rules), "shipped" if one.path.parent == SHIPPED else str(one.path), one.about)
        for one in gates
    ]
    print_table(("gate", "rules", "file", "about"), rows, "no gates")


@app.command()
def show(
    gate: Annotated[str, typer.Argument(help="A gate's name, or a YAML file.")] = DEFAULT, json: Json = False
) -> None:
    """Check a gate and print it as it is written: a start for one of your own."""
    found = load_gate(Home.from_environment(), gate)
    if json:
        print_json({"name": found.name, "about": found.about, "items": found.items, "rules": _rules(found)})
    else:
        typer.echo(found.path.read_text(encoding="utf-8"), nl=False)


def _rules(gate: Gate) -> list[dict[str, Any]]:
    return [
        {"any": [one.text for one in rule.rules]}
        if isinstance(rule, AnyOf)
        else {"rule": rule.text, "optional": rule.optional}
        | ({"unless": [one.text for one in rule.unless]} if rule.unless else {})
        for rule in gate.rules
    ]
