"""Documents into an assistant's knowledge, with what the settings name: embedding model and base model."""

from collections.abc import Sequence
from pathlib import Path

from adapters.base_model import on_disk
from adapters.template import template_tokens
from assistant.definitions import get_assistant
from assistant.embeddings import open_embedder
from assistant.knowledge import Knowledge, Summary, Tell, manifest_file
from assistant.knowledge_add import Added, add, recipe_for
from assistant.knowledge_files import find_files
from assistant.knowledge_manage import changing, knowledge_folder, reindex, remove_knowledge
from assistant.knowledge_store import KnowledgeStore
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

# Fewer bytes of documents than this are embedded before the model that is the faster one for many would be loaded.
_MANY_BYTES = 1_000_000


def add_documents(home: Home, assistant: str, paths: Sequence[Path], tell: Tell, sync: bool = False) -> Added:
    """Bring files and folders into an assistant's knowledge; one that cannot be read is a line in the result.

    Raises `BrogueError` if there is no such assistant, or it answers from another one's documents.
    """
    _check_owner(home, assistant)
    settings = load_settings(home.settings_file)
    tell("loading the embedding model")
    many = sum(file.size for file in find_files(paths).files) > _MANY_BYTES
    embedder = open_embedder(settings.knowledge, home, many, tell)
    base = on_disk(settings.base_model, home)
    recipe = recipe_for(embedder, template_tokens(base) if base else ())
    with changing(home, assistant, settings.knowledge):
        store = KnowledgeStore(knowledge_folder(home, assistant), assistant, settings.knowledge, embedder)
        try:
            done = add(paths, manifest_file(home, assistant), store, recipe, sync, tell)
        finally:
            store.close()
        if not done.passages:
            remove_knowledge(home, assistant, settings.knowledge)  # an assistant without documents answers as ever
    return done


def reindex_documents(knowledge: Knowledge, name: str, tell: Tell) -> Summary:
    """Index all passages anew with the model and the language of the settings."""
    knowledge.summary(name)
    many = sum(document.size for document in knowledge.documents(name)) > _MANY_BYTES
    embedder = open_embedder(knowledge.settings, knowledge.home, many, tell)
    with changing(knowledge.home, name, knowledge.settings):
        reindex(knowledge.home, name, knowledge.settings, embedder, tell)
    return knowledge.summary(name)


def _check_owner(home: Home, assistant: str) -> None:
    other = get_assistant(home, assistant).knowledge.use
    if other is not None and other != assistant:
        raise BrogueError(
            f"assistant '{assistant}' answers from the documents of '{other}' (knowledge.use in its file); "
            f"add them there: brogue knowledge add {other} PATH"
        )
