"""`brogue users`: who may sign in to the page and to /v1/feedback, and as what."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_data_options import Json
from assistant.cli_store import audit, opened_store
from assistant.console import print_json, print_table, say
from data.errors import BrogueError, unknown
from data.home import Home
from data.users import Role

if TYPE_CHECKING:
    from data.store_users import Users

app = typer.Typer(help="Who may sign in, and as what: user (chat), rater (rank too), admin.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name that the person signs in with, such as ann or ann@shop.org.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]


@app.command()
def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="user: chats; rater: ranks answers too; admin: everything.")] = "user",
    password_stdin: FromStdin = False,
    json: Json = False,
) -> None:
    """Let a person sign in. With the first user the page and the feedback API ask everybody to."""
    password = _password(password_stdin)
    with _users() as users:
        first = not users.any()
        user = users.create(name, role, password)
    audit(Home.from_environment(), "users create", user=name, role=role)
    if json:
        print_json(user.model_dump(mode="json"))
    else:
        typer.echo(f"{user.name} may sign in as {user.role}")
    if first:
        say("this is the first user: from now on the page and /v1/feedback ask who is there")


@app.command("list")
def list_(json: Json = False) -> None:
    """List who may sign in."""
    with _users() as users:
        found = users.all()
    if json:
        print_json([user.model_dump(mode="json") for user in found])
        return
    print_table(
        ("name", "role", "since"), [(user.name, user.role, f"{user.created:%Y-%m-%d}") for user in found],
        "no users: whoever reaches the page may use all of it; make one: brogue users create NAME --role admin",
    )  # fmt: skip


@app.command()
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Set a new password; the person is signed out everywhere."""
    with _users() as users:
        if users.get(name) is None:  # before anybody is asked for a password
            raise unknown("user", name, [user.name for user in users.all()], "Make one: brogue users create NAME")
        users.set_password(name, _password(password_stdin))
    audit(Home.from_environment(), "users password", user=name)
    typer.echo(f"{name} has a new password and is signed out everywhere")


@app.command()
def role(
    name: Name, role: Annotated[Role, typer.Argument(help="user, rater or admin.")], json: Json = False
) -> None:  # fmt: skip
    """Change what a person may do; it counts at once."""
    with _users() as users:
        user = users.set_role(name, role)
    audit(Home.from_environment(), "users role", user=name, role=role)
    if json:
        print_json(user.model_dump(mode="json"))
    else:
        typer.echo(f"{user.name} is now {user.role}")


@app.command()
def remove(name: Name) -> None:
    """Let a person sign in no more; what they said stays (to remove that too: brogue data forget)."""
    with _users() as users:
        users.remove(name)
        left = users.any()
    audit(Home.from_environment(), "users remove", user=name)
    typer.echo(f"{name} cannot sign in any more; what they said stays")
    if not left:
        say("no users are left: whoever reaches the page may use all of it again")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BrogueError("a password wants a terminal to be typed at; without one, add --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True))


@contextmanager
def _users() -> "Iterator[Users]":
    from data.store_users import Users

    with opened_store() as store:
        yield Users(store)
