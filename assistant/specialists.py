"""Specialists: small models of their own that answer without the engine, for narrow tasks.

In: a task's training and validation records. Out: an immutable folder `<home>/specialists/<name>/` with a card, arrays
and facts; and a `Specialist` that answers conversations. Which kinds there are, and how good: docs/specialists.md.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from assistant import specialist_encoder, specialist_labels, specialist_reader, specialist_tags, specialist_words
from assistant.advice_types import Records, Task, TaskKind
from assistant.embeddings import Embedder
from assistant.questions import Messages, last_question
from assistant.specialist_types import Answerer, Learned, Lesson, SpecialistCard, Tools
from data.errors import BrogueError, DataError, one_line, unknown
from data.home import Home, check_name, new_folder, write_json, write_text

FORMAT = 1  # raised when what is learnt from the same records changes
CARD, ARRAYS, FACTS = "card.json", "arrays.safetensors", "facts.json"


class Kind(NamedTuple):
    """A way to make a specialist."""

    tasks: tuple[TaskKind, ...]
    title: str  # for a person who is no engineer
    learn: Callable[[Lesson], Learned]  # raises `DataError` where the records do not fit
    open: Callable[[Learned, Tools], Answerer]
    embeds: bool  # whether it reads the embedding model's vectors


KINDS: dict[str, Kind] = {
    "embedding-lr": Kind(
        ("labels",), "sentence embeddings and logistic regression",
        specialist_labels.learn_embedding, specialist_labels.open_embedding, True,
    ),
    "word-lr": Kind(
        ("labels",), "words, parts of words and logistic regression",
        specialist_labels.learn_words, specialist_labels.open_words, False,
    ),
    "window-lr": Kind(
        ("tags",), "each word, its neighbours and logistic regression",
        specialist_tags.learn, specialist_tags.open_tagger, False,
    ),
    "encoder": Kind(
        ("labels", "tags"), "the embedding model, tuned to the labels",
        specialist_encoder.learn, specialist_encoder.open_encoder, True,
    ),
    "nearest-answer": Kind(
        ("words",), "the answer to the most similar question",
        specialist_words.learn, specialist_words.open_nearest, True,
    ),
    "extract": Kind(
        ("words",), "a piece of the text that the question comes with",
        specialist_reader.learn, specialist_reader.open_reader, True,
    ),
}  # fmt: skip


def kinds_for(task: Task) -> tuple[str, ...]:
    """The kinds that can do the task, the quickest first; none where answers are compared (pairs)."""
    return tuple(name for name, kind in KINDS.items() if _does(kind, task))


def _does(kind: Kind, task: Task) -> bool:
    # A few answers in words that are wanted word for word are labels, too.
    return task.kind in kind.tasks or ("labels" in kind.tasks and task.kind == "words" and task.metric == "exact_match")


class Specialist:
    """A trained specialist. Opened when it is first asked; safe to ask from several threads."""

    def __init__(self, folder: Path, card: SpecialistCard, tools: Tools) -> None:
        self.card, self._folder, self._tools = card, folder, tools
        self._lock, self._answerer = threading.Lock(), None  # type: tuple[threading.Lock, Answerer | None]

    def answer(self, messages: Messages) -> str:
        """The answer to a conversation's last question; see `answers`."""
        return self.answers([messages])[0]

    def answers(self, conversations: Sequence[Messages]) -> list[str]:
        """An answer to each conversation's last question. Raises `BrogueError` if the specialist cannot be opened."""
        return self._opened()([last_question(messages) for messages in conversations])

    def _opened(self) -> Answerer:
        with self._lock:
            if self._answerer is None:
                self._check_embedding()
                self._answerer = KINDS[self.card.kind].open(_read(self._folder), self._tools)
            return self._answerer

    def _check_embedding(self) -> None:
        wanted = self.card.embedding
        if wanted is not None and (found := self._tools.embedder.identity) != wanted:
            raise BrogueError(
                f"specialist '{self.card.name}' was trained on vectors of {wanted.name}, but brogue.toml names "
                f"{found.name}; set knowledge.embedding_model back, or train it again"
            )


def train_specialist(home: Home, name: str, kind: str, task: Task, records: Records,
                     tell: Callable[[str], None] = lambda _: None) -> SpecialistCard:  # fmt: skip
    """Make specialist `name` of the training records; choices are made on the validation records, test is not read.

    One that was made of the same records is used again, another one of that name is refused. Raises `DataError` where
    the records do not fit the kind.
    """
    check_name("a specialist", name)
    made = _find(kind)
    if not _does(made, task):
        fitting = ", ".join(kinds_for(task)) or "none"
        raise DataError(
            f"'{kind}' is for {' or '.join(made.tasks)}, but {task.dataset} wants {task.kind}; fitting: {fitting}"
        )
    if not records.train:
        raise DataError(f"'{kind}' has no training records in {task.dataset}; wanted at least 1")
    tools = Tools(home, tell)
    key = _key(kind, task, records, tools)
    target = folder_of(home, name)
    if (target / CARD).is_file():
        return _same(home, name, key)
    began = time.perf_counter()
    learned = made.learn(Lesson(task, records.train, records.validation, tools))
    with new_folder(target) as folder:
        save_file(learned.arrays, folder / ARRAYS)
        write_text(folder / FACTS, json.dumps(learned.facts, ensure_ascii=False))
        size = sum(path.stat().st_size for path in folder.iterdir())
        card = SpecialistCard(
            name=name, kind=kind, task=task.kind, dataset=task.dataset, key=key, labels=task.labels,
            embedding=tools.embedder.identity if made.embeds else None, rows=len(records.train),
            validation_rows=len(records.validation), metric=learned.metric or task.metric,
            validation=learned.validation,
            trained=sum(a.size for a in learned.arrays.values()) if learned.trained is None else learned.trained,
            bytes=size, seconds=round(time.perf_counter() - began, 2),
            created=datetime.now(UTC).isoformat(timespec="seconds"), notes=learned.notes,
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def open_specialist(home: Home, name: str, embedder: Callable[[], Embedder] | None = None) -> Specialist:
    """Specialist `name`, or an error that names those there are. Its arrays are read when it is first asked.

    `embedder` gives the home's embedding model where it is open already; else each specialist opens its own.
    """
    card = load_specialist(home, name)
    return Specialist(folder_of(home, name), card, Tools(home, embedder=embedder))


def load_specialist(home: Home, name: str) -> SpecialistCard:
    """The card of specialist `name`, or an error that names those there are."""
    path = folder_of(home, name) / CARD
    if not path.is_file():
        raise unknown("specialist", name, list_specialists(home), "Make one: brogue advise --data NAME")
    try:
        card = SpecialistCard.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BrogueError(f"{path}: not a specialist's card ({one_line(error, 120)}); train it again") from error
    _find(card.kind)
    return card


def list_specialists(home: Home) -> list[str]:
    """The names of all specialists, sorted."""
    return sorted(path.parent.name for path in (home.root / "specialists").glob(f"[!.]*/{CARD}"))


def folder_of(home: Home, name: str) -> Path:
    """Where specialist `name` lies, or would lie."""
    # The name may come from a definition: no path that leads out of the home.
    return home.root / "specialists" / check_name("a specialist", name)


def _find(kind: str) -> Kind:
    if kind not in KINDS:
        raise unknown("kind of specialist", kind, list(KINDS), "See: docs/specialists.md")
    return KINDS[kind]


def _key(kind: str, task: Task, records: Records, tools: Tools) -> str:
    embedding = tools.embedder.identity.model_dump() if KINDS[kind].embeds else None
    rows = [[[row.id, row.weight] for row in split] for split in (records.train, records.validation)]
    what = [FORMAT, kind, task.kind, task.metric, task.labels, embedding, rows]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _same(home: Home, name: str, key: str) -> SpecialistCard:
    card = load_specialist(home, name)
    if card.key != key:
        raise BrogueError(
            f"specialist '{name}' was made of other records; choose another name, or remove {folder_of(home, name)}"
        )
    return card


def _read(folder: Path) -> Learned:
    try:
        return Learned(load_file(folder / ARRAYS), json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, SafetensorError) as error:
        raise BrogueError(f"specialist in {folder} cannot be read ({one_line(error, 120)}); train it again") from error
