"""`brogue knowledge`: the documents that an assistant answers from."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from assistant.definitions import get_assistant
from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import load_settings

if TYPE_CHECKING:
    from assistant.knowledge import Knowledge
    from assistant.knowledge_add import Added

app = typer.Typer(help="Knowledge: the documents that an assistant answers from.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="ASSISTANT", help="The assistant's name.")]
# Fewer bytes of documents than this are embedded before a faster model would have been loaded.
_MANY_BYTES = 1_000_000


@app.command()
def add(
    assistant: Name,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")],
    sync: Annotated[bool, typer.Option("--sync", help="Remove what is gone from the folders.")] = False,
    json: Json = False,
) -> None:
    """Add documents, or bring them up to date: Markdown, text, HTML, PDF, Word, CSV, JSONL."""
    from assistant.knowledge_files import find_files

    home = Home.from_environment()
    _check_owner(home, assistant)
    many = sum(file.size for file in find_files(paths).files) > _MANY_BYTES
    with working(f"knowledge of {assistant}") as tell:
        done = add_documents(home, assistant, paths, sync, many, tell)
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
    from assistant.knowledge_manage import remove_knowledge

    home = Home.from_environment()
    if bool(names) == all_:
        raise BrogueError(f"wanted names of documents, or --all; see: brogue knowledge list {assistant}")
    knowledge = _knowledge(home)
    before = knowledge.summary(assistant)
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
    from assistant.embeddings import open_embedder
    from assistant.knowledge_manage import reindex

    home = Home.from_environment()
    knowledge = _knowledge(home)
    knowledge.summary(assistant)
    with working(f"knowledge of {assistant}") as tell:
        many = sum(document.size for document in knowledge.documents(assistant)) > _MANY_BYTES
        embedder = open_embedder(knowledge.settings, home, many, tell)
        done = reindex(home, assistant, knowledge.settings, embedder, tell)
    if json:
        print_json({"passages": done, "model": embedder.identity.name})
    else:
        typer.echo(f"{assistant}: {done} passages indexed with {embedder.identity.name}")


def add_documents(
    home: Home, assistant: str, paths: list[Path], sync: bool, many: bool, tell: Callable[[str], None]
) -> "Added":
    """Bring documents into an assistant's knowledge; a file that fails is a line in the result."""
    from adapters.base_model import on_disk
    from adapters.template import template_tokens
    from assistant.embeddings import open_embedder
    from assistant.knowledge import manifest_file
    from assistant.knowledge_add import add, recipe_for
    from assistant.knowledge_manage import knowledge_folder, remove_knowledge
    from assistant.knowledge_store import KnowledgeStore

    settings = load_settings(home.settings_file)
    base = on_disk(settings.base_model, home)
    tell("loading the embedding model")
    embedder = open_embedder(settings.knowledge, home, many, tell)
    recipe = recipe_for(embedder, template_tokens(base) if base else ())
    store: KnowledgeStore = KnowledgeStore(knowledge_folder(home, assistant), assistant, settings.knowledge, embedder)
    try:
        done = add(paths, manifest_file(home, assistant), store, recipe, sync, tell)
    finally:
        store.close()
    if not done.passages:
        remove_knowledge(home, assistant, settings.knowledge)  # an assistant without documents answers as ever
    return done


def _knowledge(home: Home) -> "Knowledge":
    from assistant.knowledge import Knowledge

    return Knowledge(home, load_settings(home.settings_file).knowledge)


def _owner(home: Home, assistant: str) -> str:
    from assistant.knowledge import knowledge_of

    return knowledge_of(home, assistant)[0]


def _check_owner(home: Home, assistant: str) -> None:
    """Documents belong to an assistant that there is, and that answers from its own."""
    other = get_assistant(home, assistant).knowledge.use
    if other is not None and other != assistant:
        raise BrogueError(
            f"assistant '{assistant}' answers from the documents of '{other}' (knowledge.use in its file); "
            f"add them there: brogue knowledge add {other} PATH"
        )


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
