"""`brogue jobs`: the fine-tuning jobs that clients have created over OpenAI's API, for whoever runs the machine."""

from typing import Annotated

import typer

from assistant.cli_data_options import Json
from assistant.cli_store import opened_store
from assistant.console import print_json, print_table, say
from data.home import Home
from data.jobs import Job

app = typer.Typer(help="Fine-tuning jobs of OpenAI's API: list, show, cancel.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The job's id; see: brogue jobs list.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50, json: Json = False
) -> None:
    """List the jobs of all owners, the newest first."""
    from data.store_jobs import Jobs

    with opened_store(Home.from_environment()) as store:
        found = Jobs(store).listed(None, limit, None).items
    if json:
        print_json([job.model_dump(mode="json") for job in found])
        return
    columns = ("job", "status", "method", "step", "owner", "from", "model", "created")
    print_table(columns, [_cells(job) for job in found], "no jobs yet; create one: POST /v1/fine_tuning/jobs")


@app.command()
def show(id: Id, json: Json = False) -> None:
    """Show a job: what was asked, what came of it, and its events."""
    from data.store_jobs import Jobs

    with opened_store(Home.from_environment()) as store:
        job = Jobs(store).get(id)
        events = Jobs(store).events(id, 1000, None).items[::-1]
    if json:
        print_json(job.model_dump(mode="json") | {"events": [event.model_dump(mode="json") for event in events]})
        return
    typer.echo(f"{job.id}: {job.status}, {job.found.version or job.asked.name}")
    for name, value in job.asked.model_dump(exclude_none=True, exclude={"name"}).items():
        typer.echo(f"{name}: {value}")
    for event in events:
        typer.echo(f"{event.created:%Y-%m-%d %H:%M:%S} {event.level:5} {event.message}")
    say(f"its log: logs/job-{job.id}.log in the home folder")


@app.command()
def cancel(id: Id, json: Json = False) -> None:
    """End a job for good; what it has learnt so far goes."""
    from data.store_jobs import Jobs

    with opened_store(Home.from_environment()) as store:
        job = Jobs(store).cancel(id)
    if json:
        print_json(job.model_dump(mode="json"))
    else:
        typer.echo(f"{job.id}: cancelled")


def _cells(job: Job) -> tuple[object, ...]:
    asked, found = job.asked, job.found
    return (job.id, job.status, asked.method, found.step or "-", job.owner or "-", asked.start or asked.model,
            found.version or asked.name, f"{job.created:%Y-%m-%d %H:%M}")  # fmt: skip
