"""Advice, and the small models that it made, when a person's records are forgotten: both hold what these said."""

import shutil
from collections.abc import Collection

from pydantic import ValidationError

from assistant import specialists
from assistant.advice_files import RUN, Journal, folder
from assistant.definitions import is_advice
from assistant.knowledge_manage import list_knowledge, remove_knowledge
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

DOCUMENTS = "documents"  # in an advice's folder, where training records were searched as documents


def quoting(home: Home, datasets: Collection[str]) -> list[str]:
    """The ids of the advice on one of these datasets, finished or not; also of what cannot be read."""
    paths = sorted((home.root / "advice").glob(f"*/{RUN}")) if datasets else []
    found = []
    for path in paths:
        try:
            ours = Journal.model_validate_json(path.read_text(encoding="utf-8")).asked.data in datasets
        except (OSError, UnicodeDecodeError, ValidationError):
            ours = True
        found += [path.parent.name] if ours else []
    return found


def taught(home: Home, datasets: Collection[str]) -> list[str]:
    """The specialists that learnt from one of these datasets, also from the part of it that an advice used."""
    found = []
    for name in specialists.list_specialists(home) if datasets else []:
        try:
            ours = specialists.load_specialist(home, name).dataset in datasets
        except BrogueError:
            ours = True
        found += [name] if ours else []
    return found


def forget(home: Home, datasets: Collection[str]) -> None:
    """Remove all of these. An assistant that answered by such a specialist says that it is gone."""
    for name in taught(home, datasets):
        shutil.rmtree(specialists.folder_of(home, name))
    for id in quoting(home, datasets):
        if (folder(home, id) / DOCUMENTS).exists():
            for name in list_knowledge(home):
                if is_advice(name) and name.startswith(f"advice-{id}-"):
                    remove_knowledge(home, name, load_settings(home.settings_file).knowledge)
        shutil.rmtree(folder(home, id))
