"""`brogue adapters promote`, `canary`, `rollback` and `retire`: moves of aliases, by the gateway while it runs.

The running gateway loads and tries a version before it goes live. While nothing runs, the move is checked and written
to the registry, and the next `brogue up` serves it.
"""

import getpass
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.registry import AdapterCard, CanaryPlan, Registry
from assistant.cli_data_options import Json
from assistant.console import print_json, say, working
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

if TYPE_CHECKING:
    from assistant.client import Admin

Version = Annotated[str, typer.Argument(help="name@version, or name@candidate, name@canary.")]
Why = Annotated[str, typer.Option(help="A word for the history.")]
Force = Annotated[bool, typer.Option("--force", help="Although it failed its exam; the history will say so.")]
FOLLOW_S = 1.0
NOT_RUNNING = "brogue is not running; it will take effect at the next brogue up"


def promote(
    version: Version,
    candidate: Annotated[bool, typer.Option("--candidate", help="Make it the candidate instead of stable.")] = False,
    why: Why = "",
    force: Force = False,
    json: Json = False,
) -> None:
    """Make a version its adapter's stable one: loaded, tried, then live for everybody at once."""
    home = Home.from_environment()
    card = _named_version(Registry(home), version, "promote")
    _warn_of_marks(home, card)
    alias = "candidate" if candidate else "stable"
    _say_verdict(home, card, alias, force)
    _print_move(_move(home, card, alias, why, force=force), json)


def canary(
    version: Annotated[str, typer.Argument(help="name@version; with --stop the name is enough.")],
    share: Annotated[
        int | None, typer.Option(min=0, max=100, help="Percent of the traffic (default: 10; with --shadow 0).")
    ] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Answer in the background too, never shown.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the trial: everybody gets stable again.")] = False,
    why: Why = "",
    force: Force = False,
    json: Json = False,
) -> None:
    """Try a version on a share of the traffic, the same people always getting the same version."""
    home = Home.from_environment()
    if stop:
        _print_move(_stop_canary(home, version.partition("@")[0], why), json)
        return
    card = _named_version(Registry(home), version, "canary")
    _warn_of_marks(home, card)
    _say_verdict(home, card, "canary", force)
    plan = CanaryPlan(share=share if share is not None else 0 if shadow else 10, shadow=shadow)
    _print_move(_move(home, card, "canary", why, plan, force), json)


def rollback(
    adapter: Annotated[str, typer.Argument(help="The adapter's name.")], why: Why = "", json: Json = False
) -> None:
    """Make the version stable again that was it before the present one."""
    home = Home.from_environment()
    registry, name = Registry(home), adapter.partition("@")[0]
    registry.resolve(name)
    previous = registry.previous(name)
    if previous is None:
        raise BrogueError(f"{name} has no earlier stable version; promote another: brogue adapters promote {name}@N")
    if (admin := running_admin(home)) is not None:
        with working(name) as tell:
            tell("rolling back")
            with _following(admin, registry.card(name, previous), tell):
                reply = admin.rollback(name, _user(), why)
        _print_move(_result(name, "stable", reply), json)
    else:
        # It has been stable: what an exam has said of it since must not keep anybody from going back.
        _print_move(_move(home, registry.card(name, previous), "stable", why or "roll back", force=True), json)


def retire(version: Version, json: Json = False) -> None:
    """Take a version that no alias means out of use for good; its files go when no engine can need them."""
    home = Home.from_environment()
    card = _named_version(Registry(home), version, "retire")
    if (admin := running_admin(home)) is not None:
        admin.retire(card.adapter, card.version)
    else:
        Registry(home).retire(card.adapter, card.version)
    if json:
        print_json({"adapter": card.adapter, "retired": card.version})
    else:
        typer.echo(f"{card.name} is retired; its files are deleted at the next brogue up")


def running_admin(home: Home) -> "Admin | None":
    """A client of the running gateway with the admin key, or none while nothing runs."""
    from assistant.services import running_gateway

    if (running := running_gateway(home)) is None:
        return None
    from assistant.client import Admin

    return Admin(*running)


def _named_version(registry: Registry, reference: str, command: str) -> AdapterCard:
    """The card of `name@…`; a bare name would mean what is stable already."""
    card = registry.resolve(reference)
    if reference.partition("@")[2] in ("", "stable"):
        have = ", ".join(f"{card.adapter}@{n}" for n in registry.versions(card.adapter))
        raise BrogueError(f"{command} wants a version, such as {card.adapter}@{card.version}; have: {have}")
    return card


def _move(
    home: Home, card: AdapterCard, alias: str, why: str, plan: CanaryPlan | None = None, force: bool = False
) -> dict[str, Any]:
    if (admin := running_admin(home)) is not None:
        with working(card.name) as tell:
            tell("loading and trying it")
            options = ({} if plan is None else plan.model_dump()) | ({"force": True} if force else {})
            with _following(admin, card, tell):
                reply = admin.set_alias(card.adapter, alias, card.version, _user(), why, **options)
        return _result(card.adapter, alias, reply)
    _check(home, card, alias)
    registry = Registry(home)
    before = registry.aliases(card.adapter).get(alias)
    registry.move(card.adapter, alias, card.version, _user(), why, plan, force)
    say(NOT_RUNNING)
    return _result(card.adapter, alias, {"before": before, "after": card.version, "seconds": None})


@contextmanager
def _following(admin: "Admin", card: AdapterCard, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell how the engine of a version comes up that takes one of its own: that lasts a minute or two."""
    own = _version_there(admin, card).get("own_engine") if card.served == "merged" else None
    if not own:
        yield
        return
    from assistant.own_engines import words

    say(f"{card.name} {words(own['memory_bytes'])}; starting one lasts a minute or two")
    over = threading.Event()

    def follow() -> None:
        while not over.wait(FOLLOW_S):
            with suppress(BrogueError):  # the move itself says what is wrong
                if detail := _version_there(admin, card).get("detail"):
                    tell(detail)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=15)


def _version_there(admin: "Admin", card: AdapterCard) -> dict[str, Any]:
    """A version as the gateway has it."""
    return next((one for one in admin.adapter(card.adapter)["versions"] if one["version"] == card.version), {})


def _warn_of_marks(home: Home, card: AdapterCard) -> None:
    for mark in Registry(home).state(card.adapter).marks_of(card.version):
        say(f"warning: {card.name} {mark.words}")


def _say_verdict(home: Home, card: AdapterCard, alias: str, force: bool) -> None:
    """What the exam has said of a version that people are to meet; refuses one that failed, unless forced."""
    registry = Registry(home)
    registry.refuse_failed(card.adapter, alias, card.version, force)
    verdict = registry.verdict(card.adapter, card.version)
    words = verdict.words if verdict else f"has not been examined; do it: brogue exam {card.name}"
    say(f"{card.name} {words}")


def _stop_canary(home: Home, adapter: str, why: str) -> dict[str, Any]:
    registry = Registry(home)
    registry.resolve(adapter)
    before = registry.aliases(adapter).get("canary")
    if before is None:
        raise BrogueError(f"{adapter} has no canary; start one: brogue adapters canary {adapter}@N --share 10")
    if (admin := running_admin(home)) is not None:
        admin.remove_alias(adapter, "canary", _user(), why)
    else:
        registry.move(adapter, "canary", None, _user(), why)
    return _result(adapter, "canary", {"before": before, "after": None, "seconds": None})


def _check(home: Home, card: AdapterCard, alias: str) -> None:
    """What the gateway would check: nothing gets an alias that the engine could not serve."""
    from adapters.base_model import prepare
    from adapters.validation import check_version

    settings = load_settings(home.settings_file)
    with working("base model") as tell:
        base = prepare(settings.base_model, home, tell)
    folder = Registry(home).folder(card.adapter, card.version)
    check_version(card, folder, base, settings.engine.max_lora_rank, home.root)
    if card.served == "merged":
        from assistant import own_engines

        say(own_engines.check(Registry(home), card, alias, base, settings.engine))


def _result(adapter: str, alias: str, reply: dict[str, Any]) -> dict[str, Any]:
    return {"adapter": adapter, "alias": alias, **{key: reply.get(key) for key in ("before", "after", "seconds")}}


def _print_move(move: dict[str, Any], json: bool) -> None:
    if json:
        print_json(move)
        return
    adapter, alias, before, after = (move[key] for key in ("adapter", "alias", "before", "after"))
    if after is None:
        typer.echo(f"{adapter} has no {alias} any more (it was {adapter}@{before})")
    elif before in (None, after):
        typer.echo(f"{adapter}@{after} is {alias}{' still' if before else ''}")
    else:
        typer.echo(f"{adapter}@{after} is {alias} now, instead of {adapter}@{before}")


def _user() -> str:
    """Who moves: the operating system's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"
