"""`brogue train`: a version of an adapter, or a reward model, by one of the recipes."""

from typing import Annotated

import typer
from pydantic import ValidationError

from adapters import processes, runs
from adapters.methods import read_options
from adapters.recipes import RECIPES
from adapters.registry import AdapterCard, Registry
from adapters.threads import share_processor
from adapters.train import TrainConfig, check_trainable
from adapters.train import train as train_version
from adapters.train_checks import recipe_words
from assistant.cli_data_check import check_before_training
from assistant.cli_data_options import Json
from assistant.console import print_json, say, training_bar, working
from assistant.definitions import training_prompt
from assistant.run_plot import picture
from assistant.services import running_gateway
from data.dataset import DatasetCard, load_card, load_rows
from data.errors import BrogueError
from data.home import Home, check_name
from data.settings import first_problem, load_settings


def train(
    adapter: Annotated[str, typer.Argument(help="The adapter's name; a new version of it is made.")],
    data: Annotated[str, typer.Option(help="Name of the dataset.")],
    assistant: Annotated[str | None, typer.Option(help="Train with this assistant's system prompt.")] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="Train with this system prompt, instead of an assistant's.")
    ] = None,
    recipe: Annotated[str, typer.Option(help=f"How weights are updated: {', '.join(RECIPES)}.")] = "sft",
    method: Annotated[
        str, typer.Option(help="Which weights, PEFT's names: lora, dora, ia3, prompt-tuning, …; see: brogue plan.")
    ] = "lora",
    method_option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as PEFT's configuration of the method has it.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Go on from this version, NAME or NAME@N; dpo and kto stay near it.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank; with --from it is that version's.")] = 8,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data (default: from its size).")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one step.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak (default: from the recipe and the model's size).")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Larger stays nearer to what training starts from (default: the recipe's).")
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="labelled: train a classification head, for brogue classify.")
    ] = False,
    reward: Annotated[str | None, typer.Option(help="ppo, rloo, grpo: the reward model, NAME@N.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="ppo, rloo, grpo: in each, answers are written, scored and learnt from.")
    ] = 50,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="ppo, rloo, grpo: longer answers are cut (default: 64).")
    ] = None,
    kl_target: Annotated[
        float | None,
        typer.Option(help="ppo, rloo, grpo: nats an answer may stray; five times that ends it (default: ppo's 6)."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longer rows are left out and counted.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of order and initial weights.")] = 0,
    not_stable: Annotated[
        bool, typer.Option("--not-stable", help="Nor does it become stable as the adapter's first version.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a version of ADAPTER on a dataset. Ctrl-C keeps a checkpoint; the same command goes on from it."""
    home = Home.from_environment()
    home.create()
    processes.quiet_others(home)
    check_name("an adapter", adapter)
    dataset = load_card(home, data)
    check_trainable(dataset, recipe)
    prompt = _prompt(home, adapter, assistant, system_prompt)
    if start is not None:
        start = Registry(home).resolve(start).name
    if reward is not None:
        reward = Registry(home).resolve(reward).name
    config = _config(
        recipe=recipe, method=method, method_options=read_options(method_option or ()), start=start, rank=rank,
        epochs=epochs, batch_size=batch_size, beta=beta,
        reward=reward, rounds=rounds, head=head, max_new_tokens=max_new_tokens, kl_target=kl_target,
        learning_rate=learning_rate, max_tokens=max_tokens, seed=seed, system_prompt=prompt,
    )  # fmt: skip
    card = train_here(home, adapter, dataset, config, not not_stable)
    if json:
        print_json(card.model_dump(mode="json"))
    else:
        print_scores(card)


def train_here(home: Home, adapter: str, dataset: DatasetCard, config: TrainConfig, stable: bool = True) -> AdapterCard:
    """Train on this machine, telling how it goes. `stable`: whether an adapter's first version becomes that."""
    share_processor(home.services_file.exists())
    from adapters.base_model import prepare
    from adapters.counting import token_counter
    from assistant import own_engines

    settings = load_settings(home.settings_file)
    with working("base model") as tell, processes.main_first():
        base = prepare(settings.base_model, home, tell)
    if own := own_engines.check_before_training(config, base, settings.engine):
        say(own)
    check_before_training(home, dataset, token_counter(base.path), min(config.max_tokens, base.context_length))
    rows = load_rows(home, dataset.name)
    say(f"training {adapter} on {dataset.name} ({dataset.records['train']} rows) with base model {base.name}")
    say(f"recipe: {recipe_words(config)}{f', from {config.start}' if config.start else ''}")
    if not config.head:
        say(f"system prompt: {config.system_prompt or 'none (the chat template decides)'}")
    gateway = running_gateway(home) if config.recipe == "ppo" else None
    with training_bar(adapter) as on_progress:
        card = train_version(adapter, rows, dataset, base, config, home, on_progress, say, gateway, stable)
    if processes.is_main():
        made = next(run for run in runs.all_runs(home) if run.version == card.name)
        say(f"curves: {picture(home, made) or 'nothing was measured'}")
    return card


def print_scores(card: AdapterCard) -> None:
    """What was measured on held-out rows, for a person."""
    typer.echo(f"{card.name}: {card.minutes:.1f} minutes")
    for split in ("validation", "test"):
        scores = card.scores
        if f"adapter_{split}_loss" in scores and scores[f"base_{split}_loss"]:
            base, ours = scores[f"base_{split}_loss"], scores[f"adapter_{split}_loss"]
            typer.echo(f"{split} loss {ours:.3f}, base model {base:.3f} ({(ours - base) / base:+.0%})")
        if f"adapter_{split}_reward" in scores:
            base, ours = scores[f"base_{split}_reward"], scores[f"adapter_{split}_reward"]
            strayed, long = scores[f"adapter_{split}_kl"], scores[f"adapter_{split}_tokens"]
            typer.echo(
                f"{split} reward {ours:.3f}, before {base:.3f}; KL {strayed:.1f} nats, {long:.0f} tokens an answer"
            )
        if f"adapter_{split}_accuracy" in scores:
            typer.echo(_accuracy(scores, split))
    if card.recipe == "reward":
        typer.echo(f"{card.name} scores answers; it cannot chat")
    elif card.labels:
        typer.echo(f"{card.name} labels texts; it cannot chat\nnext: brogue classify {card.name} TEXT")


def _prompt(home: Home, adapter: str, assistant: str | None, given: str | None) -> str | None:
    if given is None:
        return training_prompt(home, adapter, assistant)
    if assistant is not None:
        raise BrogueError("wanted one of --system-prompt and --assistant; found both")
    return given.strip() or None


def _accuracy(scores: dict[str, float], split: str) -> str:
    rate, low, high = (scores[f"adapter_{split}_accuracy{end}"] for end in ("", "_low", "_high"))
    records = f"{rate:.1%} of {scores[f'{split}_records']:.0f} records (95%: {low:.1%} to {high:.1%})"
    if f"usual_{split}_accuracy" in scores:
        base, usual = scores.get(f"base_{split}_accuracy"), scores[f"usual_{split}_accuracy"]
        beside = "" if base is None else f"base model {base:.1%}, "
        said = f"{split}: the right label in {records}; {beside}always the most frequent label {usual:.1%}"
        if f"adapter_{split}_f1" not in scores:
            return said
        f1, low, high = (scores[f"adapter_{split}_f1{end}"] for end in ("", "_low", "_high"))
        least = scores[f"usual_{split}_f1"]
        return f"{said}\n{split}: macro-F1 {f1:.3f} (95%: {low:.3f} to {high:.3f}); the most frequent label {least:.3f}"
    longer, wrong = scores[f"longer_{split}_accuracy"], scores[f"adapter_{split}_calibration_error"]
    return (
        f"{split}: the better answer is told in {records}; chance 50%, always the longer one {longer:.1%}; "
        f"calibration error {wrong:.3f}"
    )


def _config(**values: object) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise BrogueError(f"cannot train with {first_problem(error, TrainConfig)}") from error
