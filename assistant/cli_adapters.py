"""`brogue train` and `brogue adapters`."""

from typing import Annotated

import typer
from pydantic import ValidationError

from adapters.registry import AdapterCard, Registry
from adapters.train import TrainConfig
from adapters.train import train as train_version
from assistant.cli_data import Json
from assistant.console import print_json, print_table, say, training_bar, working
from assistant.definitions import training_prompt
from data.dataset import load_card, load_rows
from data.errors import BrogueError
from data.home import Home, check_name
from data.settings import first_problem, load_settings

app = typer.Typer(help="Adapters: trained voices and their versions.", no_args_is_help=True)


def train(
    adapter: Annotated[str, typer.Argument(help="The adapter's name; a new version of it is made.")],
    data: Annotated[str, typer.Option(help="Name of the dataset.")],
    assistant: Annotated[str | None, typer.Option(help="Train with this assistant's system prompt.")] = None,
    recipe: Annotated[str, typer.Option(help="How weights are updated: sft.")] = "sft",
    method: Annotated[str, typer.Option(help="Which weights: lora.")] = "lora",
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank.")] = 8,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data [default: from its size].")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one step.")] = 8,
    learning_rate: Annotated[float | None, typer.Option(help="Peak [default: from the model's size].")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longer rows are left out and counted.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of order and initial weights.")] = 0,
    json: Json = False,
) -> None:
    """Train a version of ADAPTER on a dataset. Ctrl-C keeps a checkpoint; the same command goes on from it."""
    home = Home.from_environment()
    home.create()
    check_name("an adapter", adapter)
    dataset = load_card(home, data)
    prompt = training_prompt(home, adapter, assistant)
    config = _config(
        recipe=recipe, method=method, rank=rank, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        max_tokens=max_tokens, seed=seed, system_prompt=prompt,
    )  # fmt: skip
    from adapters.base_model import prepare

    with working("base model") as tell:
        base = prepare(load_settings(home.settings_file).base_model, home, tell)
    say(f"training {adapter} on {data} ({dataset.records['train']} rows) with base model {base.name}")
    say(f"system prompt: {prompt or 'none (the chat template decides)'}")
    with training_bar(adapter) as on_progress:
        card = train_version(adapter, load_rows(home, data), dataset, base, config, home, on_progress, say)
    if json:
        print_json(card.model_dump(mode="json"))
    else:
        _print_scores(card)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the adapters with their versions and aliases."""
    registry = Registry(Home.from_environment())
    cards = [(registry.card(a, n), _aliases(registry, a, n)) for a in registry.adapters() for n in registry.versions(a)]
    if json:
        print_json([card.model_dump(mode="json") | {"aliases": aliases} for card, aliases in cards])
        return
    rows = [
        (c.name, ",".join(al) or "-", c.base_model, c.dataset, c.method, _held_out(c), c.created) for c, al in cards
    ]
    empty = "no adapters yet; train one: brogue train NAME --data DATASET"
    print_table(("version", "alias", "base", "dataset", "method", "held-out loss", "created"), rows, empty)


@app.command()
def show(
    adapter: Annotated[str, typer.Argument(help="name, name@alias or name@version.")],
    json: Json = False,
) -> None:
    """Show a version's card: what it was trained on, how, and what was measured."""
    registry = Registry(Home.from_environment())
    card = registry.resolve(adapter)
    if json:
        aliases = _aliases(registry, card.adapter, card.version)
        print_json(card.model_dump(mode="json") | {"aliases": aliases})
        return
    _print_scores(card)
    for name in ("base_model", "dataset", "recipe", "method", "rank", "system_prompt", "parent", "created"):
        typer.echo(f"{name}: {getattr(card, name)}")
    typer.echo(f"folder: {registry.folder(card.adapter, card.version)}")


def _config(**values: object) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise BrogueError(f"cannot train with {first_problem(error, TrainConfig)}") from error


def _aliases(registry: Registry, adapter: str, version: int) -> list[str]:
    return [alias for alias, n in registry.aliases(adapter).items() if n == version]


def _held_out(card: AdapterCard) -> str:
    split = "test" if "adapter_test_loss" in card.scores else "validation"
    if f"adapter_{split}_loss" not in card.scores:
        return "-"
    return f"{card.scores[f'adapter_{split}_loss']:.3f} (base {card.scores[f'base_{split}_loss']:.3f})"


def _print_scores(card: AdapterCard) -> None:
    typer.echo(f"{card.name}: {card.minutes:.1f} minutes")
    for split in ("validation", "test"):
        if f"adapter_{split}_loss" in card.scores:
            base, ours = card.scores[f"base_{split}_loss"], card.scores[f"adapter_{split}_loss"]
            typer.echo(f"{split} loss {ours:.3f}, base model {base:.3f} ({(ours - base) / base:+.0%})")
