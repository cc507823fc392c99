"""`brogue adapters` (moves of aliases are in cli_versions)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.registry import CARD, AdapterCard, Mark, Registry
from assistant import cli_versions
from assistant.cli_data_options import Json
from assistant.cli_train import print_scores
from assistant.console import print_json, print_table, say, working
from assistant.definitions import training_prompt
from data.home import Home, check_name
from data.remote import here, is_remote, name_of, send
from data.settings import load_settings

app = typer.Typer(help="Adapters: trained voices and their versions.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the adapters with their versions, aliases and whether the engine holds them."""
    home = Home.from_environment()
    registry, live = Registry(home), _live_versions(home)
    versions = [_version(registry, a, n, live) for a in registry.adapters() for n in registry.versions(a)]
    if json:
        print_json([card.model_dump(mode="json") | facts for card, facts in versions])
        return
    rows = [
        (c.name, _alias_words(f), f["status"] or "-", c.base_model, c.dataset, c.method, _held_out(c),
         f["verdict"]["result"] if f["verdict"] else "-", c.created)
        for c, f in versions
    ]  # fmt: skip
    empty = "no adapters yet; train one: brogue train NAME --data DATASET"
    columns = ("version", "alias", "engine", "base", "dataset", "method", "held-out loss", "exam", "created")
    print_table(columns, rows, empty)
    for card, facts in versions:
        _say_marks(card, facts)


@app.command()
def show(
    adapter: Annotated[str, typer.Argument(help="name, name@alias or name@version.")],
    json: Json = False,
) -> None:
    """Show a version's card (how it was trained, what was measured) and the history of its adapter's aliases."""
    home = Home.from_environment()
    registry = Registry(home)
    named = registry.resolve(adapter)
    card, facts = _version(registry, named.adapter, named.version, _live_versions(home))
    state = registry.state(card.adapter)
    from assistant.own_engines import memory_bytes, words

    own = memory_bytes(home, card)
    if json:
        more = {
            "own_engine": None if own is None else {"memory_bytes": own},
            "previous": registry.previous(card.adapter),
            "retired": list(state.retired),
            "history": [move.model_dump() for move in reversed(state.history)],
        }
        print_json(card.model_dump(mode="json") | facts | more)
        return
    print_scores(card)
    _say_marks(card, facts)
    typer.echo(f"alias: {_alias_words(facts)}, engine: {facts['status'] or 'not running'}")
    typer.echo(f"served: {card.served}{f', {words(own)}' if own else ''}")
    for name in ("base_model", "dataset", "recipe", "method", "rank", "served", "system_prompt", "parent", "created"):
        typer.echo(f"{name}: {getattr(card, name)}")
    _print_verdict(card, registry)
    typer.echo(f"folder: {registry.folder(card.adapter, card.version)}")
    for move in reversed(state.history[-20:]):
        why = f": {move.why}" if move.why else ""
        forced = f" [forced: it {move.against}]" if move.against else ""
        typer.echo(f"{move.time}  {move.alias} {move.before or '-'} → {move.after or '-'}  {move.who}{why}{forced}")


@app.command("import")
def import_(
    folder: Annotated[
        str, typer.Argument(help="A folder that PEFT saved, a download of one, or its archive; also s3://BUCKET/NAME.")
    ],
    name: Annotated[str, typer.Option("--as", help="The adapter of which it becomes the next version.")],
    assistant: Annotated[str | None, typer.Option(help="It was trained with this assistant's system prompt.")] = None,
    same_base: Annotated[bool, typer.Option("--same-base", help="Its base model is ours, under another name.")] = False,
    json: Json = False,
) -> None:
    """Bring a PEFT adapter that was trained elsewhere in; it is checked first and goes live when you promote it."""
    home = Home.from_environment()
    home.create()
    from adapters.base_model import prepare
    from adapters.importing import import_adapter, kind_of

    check_name("an adapter", name)
    settings, prompt = load_settings(home.settings_file), training_prompt(home, name, assistant)
    with working("import") as tell:
        base = prepare(settings.base_model, home, tell)
        tell("checking every tensor")
        with here(folder) as path:
            card, left = import_adapter(path, name, base, settings.engine.max_lora_rank, home, prompt, same_base)
    if left:
        say(f"left behind: {', '.join(left[:8])}{' and more' if len(left) > 8 else ''}")
    if json:
        print_json(card.model_dump(mode="json"))
        return
    typer.echo(f"{card.name}: {kind_of(card)} for base model {card.base_model}, every tensor checked")
    if Registry(home).aliases(name).get("stable") != card.version:
        typer.echo(f"next: brogue adapters promote {card.name}")


@app.command()
def export(
    version: Annotated[str, typer.Argument(help="name, name@alias or name@version.")],
    to: Annotated[
        str, typer.Option("--to", help="A new folder, or a file ending in .tar.gz or .zip; also s3://BUCKET/NAME.")
    ],
    merge: Annotated[bool, typer.Option("--merge", help="A whole model: base and adapter in one.")] = False,
    json: Json = False,
) -> None:
    """Write a version as PEFT, vLLM and llama.cpp's converter read it, or merged with its base model."""
    home = Home.from_environment()
    registry = Registry(home)
    card = registry.resolve(version)
    from adapters.base_model import prepare
    from adapters.exporting import export_version

    with working("export") as tell:
        base = prepare(load_settings(home.settings_file).base_model, home, tell)
        tell("merging" if merge else "checking and copying")
        with _target(to) as path:
            cautions = export_version(card, registry.folder(card.adapter, card.version), base, path, merge)
    for line in cautions:
        say(line)
    if json:
        path_or_address = to if is_remote(to) else str(Path(to).absolute())
        print_json({"version": card.name, "path": path_or_address, "merged": merge})
    else:
        typer.echo(f"{card.name} → {to}")


@contextmanager
def _target(to: str) -> Iterator[Path]:
    """Where to write what is to be at `to` afterwards, here or at an address."""
    if not is_remote(to):
        yield Path(to).absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name_of(to)
        yield path
        send(path, to, last=CARD)


app.command()(cli_versions.promote)
app.command()(cli_versions.canary)
app.command()(cli_versions.rollback)
app.command()(cli_versions.retire)


def _version(
    registry: Registry, adapter: str, version: int, live: dict[str, dict[str, Any]]
) -> tuple[AdapterCard, dict[str, Any]]:
    """A version's card and what is true of it now."""
    state = registry.state(adapter)
    card = registry.card(adapter, version)
    aliases = [alias for alias, n in state.aliases.items() if n == version]
    canary = state.canary.model_dump() if state.canary and "canary" in aliases else None
    in_engine = live.get(card.name, {})
    verdict = registry.verdict(adapter, version)
    return card, {
        "aliases": aliases,
        "canary": canary,
        "status": in_engine.get("status"),
        "detail": in_engine.get("detail", ""),
        "marks": [mark.model_dump() for mark in state.marks_of(version)],
        "verdict": verdict.model_dump() | {"words": verdict.words, "more": verdict.more} if verdict else None,
    }


def _say_marks(card: AdapterCard, facts: dict[str, Any]) -> None:
    for mark in facts["marks"]:
        say(f"{card.name} {Mark.model_validate(mark).words}")


def _print_verdict(card: AdapterCard, registry: Registry) -> None:
    """The verdict and every rule that it does not pass."""
    verdict = registry.verdict(card.adapter, card.version)
    if verdict is None:
        typer.echo(f"exam: none yet; brogue exam {card.name}")
        return
    typer.echo(f"exam: {verdict.result} (gate {verdict.gate}, exam {verdict.exam}, {verdict.time})")
    for rule in verdict.rules:
        if rule.result != "pass":
            typer.echo(f"  {rule.result}: {rule.rule}: {rule.because}")


def _live_versions(home: Home) -> dict[str, dict[str, Any]]:
    """What the running gateway says of each version, keyed by its name; empty while nothing runs."""
    admin = cli_versions.running_admin(home)
    if admin is None:
        return {}
    from assistant.client import GatewayError

    try:
        return {version["id"]: version for adapter in admin.adapters() for version in adapter["versions"]}
    except GatewayError as error:
        say(str(error))
        return {}


def _alias_words(facts: dict[str, Any]) -> str:
    plan = facts["canary"]
    words = {"canary": f"canary {plan['share']}%{' + shadow' if plan['shadow'] else ''}"} if plan else {}
    return ", ".join(words.get(alias, alias) for alias in facts["aliases"]) or "-"


def _held_out(card: AdapterCard) -> str:
    split = "test" if "adapter_test_loss" in card.scores else "validation"
    if f"adapter_{split}_loss" not in card.scores:
        return "-"
    return f"{card.scores[f'adapter_{split}_loss']:.3f} (base {card.scores[f'base_{split}_loss']:.3f})"
