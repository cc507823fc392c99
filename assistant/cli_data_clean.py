"""`brogue data dedupe` and `redact`: a new dataset from one there is, the step recorded in its card."""

from functools import partial
from typing import Annotated

import typer

from assistant.console import print_json, say, working
from data.contamination import NGRAM, Exam, drop_contaminated, exam_cards, exam_records
from data.dataset import DatasetCard, Row, Step, load_card, load_rows, rewrite
from data.duplicates import drop_duplicates
from data.errors import BrogueError, one_line
from data.home import Home, check_name
from data.records import SPLITS
from data.redaction import NOT_RECOGNISED, NOT_RECOGNISED_WITH_NAMES, Redacted, redact, texts

Name = Annotated[str, typer.Argument(help="The dataset to start from; it stays as it is.")]
Into = Annotated[str, typer.Option(help="Name of the new dataset.")]
Replace = Annotated[bool, typer.Option(help="Overwrite a dataset of that name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DROPPED = {"exact": "exact repeats", "near": "near duplicates", "leaks": "questions of another split",
            "exam_questions": "questions of an exam", "near_exam_questions": "nearly so",
            "made_of_them": "made by a model of these"}  # fmt: skip


def dedupe(
    name: Name,
    into: Into,
    near: Annotated[
        bool,
        typer.Option("--near", help="Near duplicates too, and questions that stand in another split as well."),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help="A dataset used as an exam: train rows that ask its questions, or nearly do, go as well."),
    ] = None,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Keep one of each set of duplicates: rows that repeat another one, with --near also those that all but do.

    With --against EXAM also drop from train what the exam asks.
    """
    home, card = start(name, into, replace)
    exams = exam_cards(home, name, against or ())
    if into in (exam.name for exam in exams):
        raise BrogueError(f"'{into}' is an exam here and would be overwritten; choose another name for --into")
    options: dict[str, str | int | float | bool | None] = {"near": near}
    with working(f"looking for duplicates in {name}") as tell:
        rows, counts = drop_duplicates(load_rows(home, name), near, tell)
        if exams:
            tell(f"comparing with {', '.join(exam.name for exam in exams)}")
            rows, dropped = drop_contaminated(rows, Exam(exam_records(home, exams)), tell)
            counts |= dropped
            options["against"] = ", ".join(f"{exam.name} {exam.digest}" for exam in exams)
    new = rewrite(home, card, rows, Step(name="dedupe", options=options, counts=counts), into, replace)
    told = [f"{counts[key]} {words}" for key, words in _DROPPED.items() if key in counts]
    print_change(card, new, json, ", ".join(told) + " dropped")
    if kept := counts.get("exam_passages_kept"):
        check = f"brogue data check {into} {' '.join(f'--exam {exam.name}' for exam in exams)}"
        say(f"train rows that share {NGRAM} words in a row with an exam and stay: {kept}; look at them: {check}")


def redact_(
    name: Name,
    into: Annotated[str | None, typer.Option(help="Name of the new dataset.")] = None,
    names: Annotated[
        str | None,
        typer.Option(help="A model that labels people's names (token classification): a folder or a Hugging Face id."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show what would change; write nothing.")] = False,
    show: Annotated[int, typer.Option(min=0, help="How many changed rows a preview shows.")] = 10,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Replace e-mail addresses, phone, card and bank numbers, IP addresses, national ids and API keys by placeholders.

    The same value has the same placeholder throughout the dataset. Names of people go with --names MODEL only; postal
    addresses are not recognised.
    """
    if into is None and not preview:
        raise BrogueError("wanted --into NEW for the redacted dataset, or --preview to see what would change")
    home, card = start(name, into or name, replace or preview)
    options: dict[str, str | int | float | bool | None] = {}
    with working(f"redacting {name}") as tell:
        find_names = None
        if names is not None:
            from assistant.name_model import NameModel

            model = NameModel(names, home, tell)
            options = {"names": model.name, "names_sha256": model.sha256}
            find_names = partial(model.find, tell=tell)
        rows = load_rows(home, name)
        tell(f"{len(rows)} rows")
        done = redact(rows, find_names)
    not_recognised = NOT_RECOGNISED if names is None else NOT_RECOGNISED_WITH_NAMES
    if preview:
        _print_preview(done, show, not_recognised, json)
        return
    new = rewrite(home, card, done.rows, Step(name="redact", options=options, counts=done.counts), into, replace)
    print_change(card, new, json, _found(done.counts))
    say(not_recognised)


def start(name: str, into: str, replace: bool) -> tuple[Home, DatasetCard]:
    """The home and the card, after what can be refused before the work is done."""
    home = Home.from_environment()
    card = load_card(home, name)
    if (home.datasets / check_name("a dataset", into)).exists() and not replace:
        raise BrogueError(f"dataset '{into}' exists already; choose another name or add --replace")
    return home, card


def _found(counts: dict[str, int]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind.isupper() and count)
    dropped = f"; {counts['dropped']} dropped whose two answers became the same" if counts["dropped"] else ""
    return f"{kinds or 'nothing'} replaced in {counts['changed']} rows{dropped}"


def print_change(before: DatasetCard, after: DatasetCard, json: bool, what: str) -> None:
    if json:
        print_json(after.model_dump(mode="json"))
        return
    sizes = ", ".join(f"{split} {after.records[split]}" for split in SPLITS)
    rows = sum(before.records.values()), sum(after.records.values())
    typer.echo(f"{after.name}: {what}\n{rows[0]} rows before, {rows[1]} now; {sizes}")


def _print_preview(done: Redacted, show: int, not_recognised: str, json: bool) -> None:
    shown = [
        {"id": before.id, "before": _lines(before), "after": _lines(after)} for before, after in done.changed[:show]
    ]
    if json:
        print_json({"counts": done.counts, "rows": shown, "not_recognised": not_recognised})
        return
    for row in shown:
        for old, new in zip(row["before"], row["after"], strict=True):
            if old != new:
                typer.echo(f"{row['id']}\n- {one_line(old)}\n+ {one_line(new)}")
    typer.echo(f"{_found(done.counts).replace('replaced', 'would be replaced')}; nothing was written")
    say(not_recognised)


def _lines(row: Row) -> list[str]:
    return list(texts(row.record))
