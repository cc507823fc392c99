"""`brogue data forget` and `trace`: what people said is removed, and is found again."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.lineage import learnt_from, mark_forgotten
from adapters.registry import Registry
from assistant.cli_data_options import Json
from assistant.cli_store import opened_store
from assistant.console import print_json, say, working
from data.errors import BrogueError, one_line
from data.home import Home

if TYPE_CHECKING:
    from assistant.tracing import Trace
    from data.forgetting import Found
    from data.store import Store

ATTEMPTS = 5  # others may go on writing while a person is being removed


def forget(
    subject: Annotated[str, typer.Option(help="Who: the `user` of requests, or of a dataset's subject column.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove a person: answers, judgements, conversations, records, exams, log lines; tell which versions learnt of it.

    With --json and without --yes it only tells what would go.
    """
    if subject.strip() in ("", "anonymous"):
        raise BrogueError(f"'{subject}' is nobody; wanted --subject ID, such as the `user` that requests name")
    from adapters import exam_files
    from assistant import advice_forget
    from data.forgetting import being_written, find

    home = Home.from_environment()
    registry = Registry(home)
    with opened_store(home) as store:
        with working("looking") as tell:
            found = find(home, store, subject, tell)
        learnt = _learnt(registry, found)
        names = [part.name for part in found.datasets]
        quoted, advice, taught = (
            of(home, names) for of in (exam_files.quoting, advice_forget.quoting, advice_forget.taught)
        )
        report = _report(found, learnt) | {"exams": quoted, "advice": advice, "specialists": taught}
        if not json:
            _print_found(found, learnt)
            for exam in quoted:
                typer.echo(f"  an exam that quotes a dataset with their records: {exam}")
            for id in advice:
                typer.echo(f"  advice that quotes a dataset with their records: {id}")
            for name in taught:
                typer.echo(f"  a small model that learnt from their records: {name}")
        if not yes and (json or not _agreed(found)):
            if json:
                print_json(report | {"done": False})
            return
        with working("removing") as tell:
            _remove(home, store, registry, found, tell)
    writing = being_written(home)
    if json:
        print_json(report | {"done": True, "being_written": writing})
    else:
        typer.echo("done: nothing of them is left here; backups and exported files are yours to look after")
    for name in writing:
        say(f"dataset '{name}' is just being written by another command; when it has ended, run this once more")


def trace(
    response: Annotated[str, typer.Argument(help="An answer's id: its header x-brogue-response-id.")],
    records: Annotated[int, typer.Option(min=1, help="At most so many training records.")] = 5,
    json: Json = False,
) -> None:
    """Tell where an answer came from: version, dataset, training records, passages."""
    from assistant.tracing import trace as traced

    home = Home.from_environment()
    with opened_store(home) as store, working("tracing") as tell:
        tell("reading the version's dataset")
        found = traced(response, home, store, records)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_trace(found)


def _learnt(registry: Registry, found: "Found") -> dict[str, list[str]]:
    by_digest: dict[str, set[str]] = {}
    for part in found.datasets:
        by_digest.setdefault(part.digest, set()).update(part.trained)
    return learnt_from(registry, found.ids, by_digest)


def _remove(home: Home, store: "Store", registry: Registry, found: "Found", tell: Any) -> None:
    """Until nothing is left: somebody may be writing meanwhile. The store goes last: it knows what was theirs."""
    from adapters import exam_files
    from assistant import advice_forget
    from data.forgetting import find, forget_datasets, forget_files
    from data.judgements import as_key

    for _ in range(ATTEMPTS):
        mark_forgotten(registry, _learnt(registry, found))
        for forgotten in (exam_files.forget, advice_forget.forget):  # while the datasets tell which
            forgotten(home, [part.name for part in found.datasets])
        forget_datasets(home, found, tell)
        forget_files(home, store, found)
        tell("the store")
        store.forget(as_key(found.subject))
        found = find(home, store, found.subject, tell)
        if found.nothing:
            return
    raise BrogueError(f"something goes on writing about '{found.subject}'; stop it (brogue down) and run this again")


def _report(found: "Found", learnt: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "subject": found.subject,
        "responses": len(found.store.responses),
        "judgements": len(found.store.judgements),
        "turns": found.store.turns,
        "prompts": found.store.tasks,
        "stored_responses": found.store.stored,
        "user": found.store.user,
        "datasets": {part.name: sum(part.records.values()) for part in found.datasets},
        "files": found.files,
        "runs": found.runs,
        "uploads": found.uploads,
        "jobs": found.jobs,
        "versions": {name: len(ids) for name, ids in learnt.items()},
    }


def _print_found(found: "Found", learnt: dict[str, list[str]]) -> None:
    if found.nothing:
        typer.echo(f"nothing of '{found.subject}' is here")
        return
    typer.echo(f"of '{found.subject}' there are:")
    typer.echo(f"  {len(found.store.responses)} answers and {len(found.store.judgements)} judgements in the store")
    if found.store.turns or found.store.tasks:
        typer.echo(f"  {found.store.turns} turns in raters' queues, {found.store.tasks} prompts with their words")
    if found.store.stored:
        typer.echo(f"  {found.store.stored} answers of /v1/responses that a next request can go on from")
    if found.store.user:
        typer.echo("  a user, who can sign in")
    for part in found.datasets:
        rows = ", ".join(f"{split} {count}" for split, count in part.records.items())
        typer.echo(f"  rows in dataset {part.name}: {rows}{' (all of it: the dataset goes)' if part.whole else ''}")
    for path, lines in found.files.items():
        typer.echo(f"  {lines} lines in {path}")
    for name, ids in (("files that they uploaded", found.uploads), ("fine-tuning jobs", found.jobs)):
        if ids:
            typer.echo(f"  {len(ids)} {name}: {one_line(', '.join(ids), 200)}")
    for run in found.runs:
        typer.echo(f"  an unfinished training on their records: {run}")
    for name, ids in learnt.items():
        typer.echo(f"{name} learnt from {len(ids)} of these records; it stays, marked: train a version without them")


def _agreed(found: "Found") -> bool:
    if found.nothing:
        return True  # traces of what was deleted may still lie in the database's free pages
    if not sys.stdin.isatty():
        raise BrogueError("nothing was removed; to remove it without being asked, add --yes")
    if typer.confirm("Remove it for good?"):
        return True
    typer.echo("nothing was removed")
    return False


def _print_trace(found: "Trace") -> None:
    response = found.response
    typer.echo(f"answer   {response.id}, {response.created:%Y-%m-%d %H:%M} UTC, by {response.version}")
    typer.echo(f"         {one_line(response.text, 110) or '(its text was not kept)'}")
    if found.version is not None:
        card = found.version
        typer.echo(f"version  {card.name}: {card.recipe}, {card.method}, trained {card.created[:10]}")
    for mark in found.marks:
        typer.echo(f"         {mark}")
    if found.dataset is not None:
        now = "unchanged" if found.dataset.same else "not here any more" if found.dataset.now is None else "changed"
        typer.echo(f"dataset  {found.dataset.name} {found.dataset.digest[:16]} ({now} since)")
    for record in found.records:
        how = record.how if record.how != "alike" else f"alike {record.likeness:.2f}"
        typer.echo(f"record   {record.id} ({how})  {one_line(record.question, 50)} → {one_line(record.answer, 50)}")
    for passage in found.passages:
        typer.echo(f"passage  {passage.source} ({passage.id})  {one_line(passage.text, 80)}")
    for note in found.notes:
        say(note)
