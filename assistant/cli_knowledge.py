"""`brogue knowledge`: the documents that an assistant answers from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import load_settings

if TYPE_CHECKING:
    from assistant.knowledge import Knowledge
    from assistant.knowledge_add import Added

app = typer.Typer(help="Knowledge: the documents that an assistant answers from.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="ASSISTANT", help="The assistant's name.")]


@app.command()
def add(
    assistant: Name,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")],
    sync: Annotated[bool, typer.Option("--sync", help="Remove what is gone from the folders.")] = False,
    json: Json = False,
) -> None:
    """Add documents, or bring them up to date: Markdown, text, HTML, PDF, Word, CSV, JSONL."""
    from assistant.knowledge_documents import add_documents

    with working(f"knowledge of {assistant}") as tell:
        done = add_documents(Home.from_environment(), assistant, paths, tell, sync)
    if json:
        print_json(_as_json(done))
    else:
        typer.echo(f"{assistant}: {_words(done)}")
        for line in (*done.problems, *done.notes):
            say(line)
    if done.problems and not (done.files.keys() - {"gone"}):
        raise typer.Exit(1)


@app.command()
def search(
    assistant: Name,
    question: Annotated[str, typer.Argument(help="What somebody may ask.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Passages to show.")] = 5,
    json: Json = False,
) -> None:
    """Show what is found for a question, with scores by stage, and whether the assistant would answer."""
    from assistant.knowledge_api import KnowledgeApi

    with working("search") as tell:
        tell("loading the embedding model")
        found = KnowledgeApi(_knowledge(Home.from_environment())).searched(assistant, question, limit)
    if json:
        print_json(found)
        return
    print_table(("", "score", "cosine", "words", "passage"), [_row(hit) for hit in found["hits"]], "nothing found")
    verdict = "the assistant says that its documents don't say" if found["declined"] else "the assistant answers"
    typer.echo(f"\nconfidence {found['confidence']:.2f}, declined below {found['decline_below']:.2f}: {verdict}")
    typer.echo("ms: " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in found["ms"].items()))


@app.command()
def calibrate(
    assistant: Name,
    inside: Annotated[Path, typer.Option(help="Questions that the documents answer, one a line.")],
    outside: Annotated[Path, typer.Option(help="Questions that they don't, one a line.")],
    keep: Annotated[float, typer.Option(min=0, max=1, help="Share of the inside questions to answer.")] = 0.95,
    json: Json = False,
) -> None:
    """Find out when an assistant should say that its documents don't say, from questions of both kinds."""
    from assistant.knowledge_api import calibrated

    home = Home.from_environment()
    questions = _questions(inside), _questions(outside)
    with working("calibrate") as tell:
        point = calibrated(_knowledge(home), assistant, *questions, keep, tell)
    if json:
        print_json(point.model_dump())
        return
    typer.echo(
        f"{point.answered:.0%} of the inside questions are answered, {point.declined:.0%} of the outside ones declined "
        f"(AUROC {point.auroc:.3f}), with this in {home.assistants / assistant}.yaml:\n"
        f"knowledge:\n  decline_by: {point.measure}\n  decline_below: {point.threshold:.3f}"
    )


@app.command("list")
def list_(
    assistant: Annotated[str | None, typer.Argument(metavar="[ASSISTANT]", help="Its documents one by one.")] = None,
    json: Json = False,
) -> None:
    """List the assistants that have documents, or the documents of one."""
    knowledge = _knowledge(Home.from_environment())
    columns: tuple[str, ...]
    if assistant is None:
        found = [summary.model_dump() for summary in knowledge.summaries()]
        columns = ("name", "documents", "passages", "model", "language")
        empty = "no documents yet; add some: brogue knowledge add ASSISTANT PATH"
    else:
        found = [document.model_dump() for document in knowledge.documents(_owner(knowledge.home, assistant))]
        columns = ("source", "passages", "size", "path")
        empty = f"no documents; add some: brogue knowledge add {assistant} PATH"
    if json:
        print_json(found)
    else:
        print_table(columns, [[one[column] for column in columns] for one in found], empty)


@app.command()
def remove(
    assistant: Name,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Documents or folders of the list.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All documents, and the indexes.")] = False,
    json: Json = False,
) -> None:
    """Remove documents, by the names that `brogue knowledge list ASSISTANT` shows."""
    from assistant.knowledge import manifest_file
    from assistant.knowledge_add import remove as take_out
    from assistant.knowledge_manage import changing, remove_knowledge

    home = Home.from_environment()
    if bool(names) == all_:
        raise BrogueError(f"wanted names of documents, or --all; see: brogue knowledge list {assistant}")
    knowledge = _knowledge(home)
    before = knowledge.summary(assistant)
    with changing(home, assistant, knowledge.settings):
        if all_:
            remove_knowledge(home, assistant, knowledge.settings)
            done = {"removed": before.passages, "passages": 0}
        else:
            manifest = manifest_file(home, assistant)
            with working(f"knowledge of {assistant}") as tell:
                tell("removing")
                result = take_out(names or [], manifest, knowledge.store(assistant))
            done = {"removed": result.removed, "passages": result.passages}
    if json:
        print_json(done)
    else:
        typer.echo(f"{assistant}: {done['removed']} passages removed, {done['passages']} left")


@app.command("reindex")
def reindex_(assistant: Name, json: Json = False) -> None:
    """Index all passages anew: after a change of the embedding model or the language, or if an index is damaged."""
    from assistant.knowledge_documents import reindex_documents

    with working(f"knowledge of {assistant}") as tell:
        summary = reindex_documents(_knowledge(Home.from_environment()), assistant, tell)
    if json:
        print_json(summary.model_dump())
    else:
        typer.echo(f"{assistant}: {summary.passages} passages indexed with {summary.model}")


def _knowledge(home: Home) -> "Knowledge":
    from assistant.knowledge import Knowledge

    return Knowledge(home, load_settings(home.settings_file).knowledge)


def _questions(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BrogueError(f"{path}: cannot be read ({one_line(error, 100)}); wanted questions, one a line") from error
    if not (found := [line.strip() for line in lines if line.strip()]):
        raise BrogueError(f"{path}: no questions in it; wanted one a line")
    return found


def _owner(home: Home, assistant: str) -> str:
    from assistant.knowledge import knowledge_of

    return knowledge_of(home, assistant)[0]


def _row(hit: dict[str, Any]) -> tuple[object, ...]:
    """A line of the table: scores with the ranks that they come from, and where the passage begins."""
    place = " > ".join(filter(None, (hit["source"], hit["section"]))) + (f", page {hit['page']}" if hit["page"] else "")
    ranked = [
        "-" if hit[score] is None else f"{hit[score]:.2f} ({hit[f'{score}_rank']})" for score in ("cosine", "bm25")
    ]
    return hit["number"], f"{hit['score']:.3f}", *ranked, f"{one_line(place, 60)}: {one_line(hit['text'], 60)}"


def _as_json(done: "Added") -> dict[str, Any]:
    return {
        "files": dict(done.files), "stored": done.stored, "removed": done.removed, "passages": done.passages,
        "problems": done.problems, "notes": done.notes,
    }  # fmt: skip


def _words(done: "Added") -> str:
    files = ", ".join(f"{count} {state}" for state, count in done.files.items() if count) or "no file read"
    left_out = f", {len(done.problems)} left out" if done.problems else ""
    return f"{files}{left_out}; {done.passages:,} passages"
