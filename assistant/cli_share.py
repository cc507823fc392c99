"""`brogue share`: adapters and assistants that several gateways' homes have in common (docs/scaling.md)."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

if TYPE_CHECKING:
    from data.store_shared import Shared

app = typer.Typer(help="What several gateways have in common: list, push, pull.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the shared files."""
    with _opened() as shared:
        rows = sorted(shared.listed().values(), key=lambda row: row.path)
    if json:
        found = [{"path": row.path, "sha256": row.sha256, "changed": row.changed.isoformat()} for row in rows]
        print_json(found)
        return
    cells = [(row.path, (row.sha256 or "")[:12], f"{row.changed:%Y-%m-%d %H:%M}") for row in rows]
    print_table(("file", "sha256", "changed"), cells, "nothing is shared yet; put it there: brogue share push")


@app.command()
def push(
    delete: Annotated[
        bool, typer.Option(help="Take assistants away from all homes whose file is not here any more.")
    ] = False,
    json: Json = False,
) -> None:
    """Let the other homes have this home's assistants, and versions that they lack.

    What is written by commands and by the gateway goes to the others by itself: versions, moves of aliases, verdicts.
    This is for files that were edited by hand, and for a home that begins to share.
    """
    from assistant.share import push_home

    with _opened() as shared, working("shared files") as tell:
        done = push_home(Home.from_environment(), shared, delete, tell)
    if json:
        print_json(done)
    else:
        typer.echo("\n".join(done) or "the others have all of it already")


@app.command()
def pull(
    follow: Annotated[bool, typer.Option(help="Stay, and bring what is changed as it happens.")] = False,
    json: Json = False,
) -> None:
    """Bring what other homes have put there. A gateway, and `brogue engine`, do so by themselves."""
    with _opened() as shared:
        pulled = shared.pull()
        for problem in pulled.problems:
            say(f"left out: {problem}")
        if json:
            print_json({"changed": pulled.changed, "problems": pulled.problems})
        else:
            typer.echo("\n".join(pulled.changed) or "nothing new")
        if follow:
            with following(shared):
                say("following; Ctrl-C ends it")
                threading.Event().wait()
    if pulled.problems:
        raise typer.Exit(1)


def following(shared: "Shared") -> AbstractContextManager[None]:
    """Meanwhile, what other homes change comes here, with a line on stderr."""
    from data.store_follow import Follower

    return Follower(shared, lambda: say("brought what other homes have changed")).running()


@contextmanager
def _opened() -> "Iterator[Shared]":
    from data.sharing import opened_shared

    home = Home.from_environment()
    home.create()
    settings = load_settings(home.settings_file)
    if settings.shared.artefacts is None:
        raise BrogueError(
            f"nothing is shared: set artefacts in [shared] of {home.settings_file}, and store.url to a PostgreSQL "
            "database; see docs/scaling.md"
        )
    with opened_shared(home, settings) as shared:
        yield shared
