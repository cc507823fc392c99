"""`brogue keys`: the API keys of the gateway, what each may do, and its limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.cli_store import audit, opened_store
from assistant.console import print_json, print_table, say
from data.errors import BrogueError, unknown
from data.home import Home
from data.users import Role

if TYPE_CHECKING:
    from data.store_keys import Keys

app = typer.Typer(help="API keys of the gateway: who may ask it, for what, and how much.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The key's name, such as shop-site: who or what uses it.")]


@app.command()
def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="user: asks; rater: ranks answers too; admin: everything.")] = "user",
    assistant: Annotated[list[str] | None, typer.Option(help="Only this assistant (again for more).")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    rpd: Annotated[int | None, typer.Option(min=1, help="Requests a day (UTC).")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute, of prompts and answers.")] = None,
    tpd: Annotated[int | None, typer.Option(min=1, help="Tokens a day (UTC).")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Answers at the same time.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it lives, such as 12h, 90d or 8w.")] = None,
    json: Json = False,
) -> None:
    """Make a key and print it, once: only a hash of it is kept. With the first one every request wants a key."""
    from pydantic import ValidationError

    from data.judgements import now
    from data.keys import KeyRules, NewKey, lifetime
    from data.settings import first_problem
    from data.users import ROLES

    home = Home.from_environment()
    if role not in ROLES:
        raise unknown("role", role, list(ROLES), "Each may do what those before it may")
    _check_assistants(home, assistant or [])
    try:
        rules = KeyRules(assistants=tuple(assistant or ()), rpm=rpm, rpd=rpd, tpm=tpm, tpd=tpd, concurrency=concurrency)
        new = NewKey(name=name, role=role, rules=rules, expires=now() + lifetime(expires) if expires else None)
    except ValidationError as error:
        raise BrogueError(f"the key cannot be made: {first_problem(error, NewKey)}") from error
    with _keys() as keys:
        first = not keys.any()
        key, secret = keys.create(new)
    audit(home, "keys create", key=name, role=role)
    if json:
        print_json({**key.model_dump(mode="json"), "key": secret})
    else:
        typer.echo(secret)
        say(f"this is the key '{name}' ({role}); keep it now, for it is shown this once")
    if first:
        say("it is the first key: from now on the gateway answers nobody without a key or a session")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the keys, with what each has used today (UTC)."""
    from data.judgements import now
    from data.keys import Usage
    from data.store_keys import day

    with _keys() as keys:
        found, used, at = keys.all(), keys.used(day(now())), now()
    if json:
        print_json([
            {**key.model_dump(mode="json"), "state": key.state_at(at),
             "today": used.get(key.name, Usage()).model_dump()} for key in found
        ])  # fmt: skip
        return
    rows: list[tuple[Any, ...]] = []
    for key in found:
        today = used.get(key.name, Usage())
        ends = f"{key.expires:%Y-%m-%d}" if key.expires else "never"
        may = ", ".join(key.rules.assistants) or "all"
        rows.append((key.name, key.hint, key.role, key.state_at(at), ends, may, key.rules.words or "none",
                     f"{today.requests:,} / {today.tokens:,}"))  # fmt: skip
    columns = ("name", "key", "role", "state", "ends", "assistants", "limits", "requests / tokens today")
    print_table(columns, rows, "no keys: make one: brogue keys create NAME")


@app.command()
def revoke(name: Name, json: Json = False) -> None:
    """Take a key back. A gateway that runs refuses it within a second; what it made stays."""
    with _keys() as keys:
        key = keys.revoke(name)
    audit(Home.from_environment(), "keys revoke", key=name)
    if json:
        print_json(key.model_dump(mode="json"))
    else:
        typer.echo(f"the key '{name}' is revoked; its name is not used again")


def _check_assistants(home: Home, names: list[str]) -> None:
    from assistant.definitions import list_assistants

    known = [assistant.name for assistant in list_assistants(home)]
    for name in names:
        if name not in known:
            raise unknown("assistant", name, known, "List them: brogue assistants list")


@contextmanager
def _keys() -> "Iterator[Keys]":
    from data.store_keys import Keys

    with opened_store() as store:
        yield Keys(store)
