"""`brogue runs`: what was trained, what is being trained, and what can be taken up again."""

from typing import Annotated

import typer

from adapters import processes, runs
from adapters.base_model import prepare
from adapters.train import TrainConfig
from assistant.cli_data_options import Json
from assistant.cli_train import print_scores, train_here
from assistant.console import print_json, print_table, say, working
from assistant.run_plot import picture
from data.dataset import load_card
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

app = typer.Typer(help="Runs of training: list, show, take up again, stop.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The run's id; see: brogue runs list.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the runs, the newest first, with how far they came."""
    found = runs.all_runs(Home.from_environment())
    if json:
        print_json([run.model_dump(mode="json") for run in found])
        return
    columns = ("run", "state", "step", "loss", "recipe", "dataset", "version", "created")
    rows = [
        (r.id, r.state, f"{r.step}/{r.steps or '?'}", "-" if r.loss is None else f"{r.loss:.3f}", r.recipe,
         r.asked.dataset, r.version or "-", r.asked.created)
        for r in found
    ]  # fmt: skip
    print_table(columns, rows, "no runs yet; train: brogue train NAME --data DATASET")


@app.command()
def show(id: Id, json: Json = False) -> None:
    """Show a run: what was asked, how far it is, its losses, and where the picture of its curves is."""
    home = Home.from_environment()
    run, lines = runs.get(home, id), runs.metrics(home, id)
    curves = picture(home, run)
    if json:
        print_json(run.model_dump(mode="json") | {"metrics": lines, "curves": None if curves is None else str(curves)})
        return
    made = f", {run.version}" if run.version else ""
    typer.echo(f"{run.id}: {run.state}, step {run.step} of {run.steps or '?'}{made}")
    if run.progress:
        typer.echo(f"{run.progress.phase} {run.progress.step}/{run.progress.steps}: {run.progress.words}")
    if run.reason:
        typer.echo(f"why: {run.reason}")
    for name, value in {"dataset": run.asked.dataset, "base model": run.asked.base_model, **run.asked.config}.items():
        typer.echo(f"{name}: {value}")
    for line in lines:
        if "eval_loss" in line:
            typer.echo(f"step {line['step']}: validation loss {line['eval_loss']:.4f}")
    if curves:
        typer.echo(f"curves: {curves}")
    if run.state in ("stopped", "failed"):
        say(f"next: brogue runs resume {run.id}, or brogue runs cancel {run.id}")


@app.command()
def resume(id: Id, json: Json = False) -> None:
    """Take an unfinished run up from its last checkpoint."""
    home = Home.from_environment()
    processes.quiet_others(home)
    run = runs.get(home, id)
    if run.state in ("done", "running"):
        raise BrogueError(f"run {id} is {run.state}; only one that was stopped or failed can be taken up again")
    dataset = load_card(home, run.asked.dataset)
    if dataset.digest != run.asked.dataset_digest:
        raise BrogueError(
            f"dataset '{dataset.name}' has changed since run {id} began; train anew: brogue train {run.asked.adapter} "
            f"--data {dataset.name} --recipe {run.recipe}"
        )
    with working("base model") as tell:
        base = prepare(load_settings(home.settings_file).base_model, home, tell)
    if base.sha256 != run.asked.base_sha256:
        raise BrogueError(
            f"run {id} began with base model {run.asked.base_model}, which has other weights than the present one, "
            f"{base.name}; name it as base_model in {home.settings_file}, or train anew: brogue train "
            f"{run.asked.adapter} --data {dataset.name} --recipe {run.recipe}"
        )
    card = train_here(home, run.asked.adapter, dataset, TrainConfig.model_validate(run.asked.config))
    if json:
        print_json(card.model_dump(mode="json"))
    else:
        print_scores(card)


@app.command()
def cancel(id: Id, json: Json = False) -> None:
    """Stop a running one (its checkpoint is kept), or remove an unfinished one with its checkpoints."""
    run = runs.cancel(Home.from_environment(), id)
    done = "stopping" if run.pid else "removed"
    if json:
        print_json({"id": id, "was": run.state, "now": done})
    else:
        typer.echo(f"{id}: {'stopping after its present step; a checkpoint is kept' if run.pid else 'removed'}")
