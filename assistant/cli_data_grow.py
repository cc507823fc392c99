"""`brogue data template` and `expand`: how a dataset begins, and how a small one grows."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, say
from data.errors import BrogueError
from data.home import write_text
from data.templates import Form, Template
from data.templates import template as template_of


def template(
    form: Annotated[Form, typer.Argument(help="What the records are to be.")],
    to: Annotated[Path | None, typer.Option("--to", help="The file to write [default: print it].")] = None,
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
