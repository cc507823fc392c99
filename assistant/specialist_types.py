"""What the kinds of specialists share: the lesson they learn, what is kept of it, and what they may use. Pure.

A specialist is a small model of its own that answers without the engine. What it learnt is arrays (safetensors) and
facts (JSON), never a pickle: a folder that somebody else made can be opened without running anything of theirs.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.measure_pieces import messages
from assistant.advice_types import Task, TaskKind
from assistant.embeddings import Embedder, Identity, Tell, open_embedder
from assistant.questions import last_question
from data.dataset import Row
from data.home import Home
from data.records import LabelledRecord, answer
from data.settings import Frozen, load_settings

Floats = NDArray[np.floating[Any]]
Answerer = Callable[[Sequence[str]], list[str]]  # questions to answers


class SpecialistCard(Frozen):
    """What a specialist is and what it learnt from, as it stands in `<home>/specialists/<name>/card.json`."""

    name: str
    kind: str  # a key of `specialists.KINDS`
    task: TaskKind
    dataset: str
    key: str  # hash of all that was learnt from: the kind, the records, the embedding model
    labels: tuple[str, ...] = ()
    embedding: Identity | None = None  # the model whose vectors it reads
    rows: int
    validation_rows: int
    metric: str  # what `validation` is
    validation: float | None  # without validation records there is none
    trained: int  # numbers that were learnt
    bytes: int  # on disk
    seconds: float  # that learning took
    created: str  # ISO, UTC
    notes: tuple[str, ...] = ()  # what was chosen on the validation records


class Tools:
    """What a specialist may use: the home's embedding model, opened when the first text is embedded."""

    def __init__(self, home: Home, tell: Tell = lambda _: None, embedder: Callable[[], Embedder] | None = None) -> None:
        """`embedder` gives one that is open already."""
        self.home, self.tell, self._given = home, tell, embedder

    @cached_property
    def embedder(self) -> Embedder:
        """That by which questions are embedded when they are asked: what is learnt and what is served agree."""
        if self._given is not None:
            return self._given()
        return open_embedder(load_settings(self.home.settings_file).knowledge, self.home, many=False, tell=self.tell)

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of texts that are alike in kind, such as questions: [texts, dimension]."""
        return self.embedder.encode(texts, "query", lambda detail: self.tell(detail.replace("passages", "texts")))


class Lesson(NamedTuple):
    """What a specialist learns."""

    task: Task
    train: Sequence[Row]
    validation: Sequence[Row]  # to choose on
    tools: Tools

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels or tags, also those without a training row."""
        return tuple(sorted({*self.task.labels, *(one for row in self.train for one in targets(row))}))


class Learned(NamedTuple):
    """What is kept of it."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]  # JSON
    validation: float | None = None
    notes: tuple[str, ...] = ()
    trained: int | None = None  # numbers that were learnt; none: all that stand in `arrays`
    metric: str = ""  # what `validation` is; empty: the task's


def asked(row: Row) -> str:
    """A record's question as a specialist gets it: the last thing that the user said, or a labelled text."""
    return last_question(messages(row.record))


def targets(row: Row) -> tuple[str, ...]:
    """A labelled record's tags, or its label alone; of others, the answer alone."""
    record = row.record
    return record.tags if isinstance(record, LabelledRecord) and record.tags else (answer(record),)


def words_of(row: Row) -> tuple[str, ...]:
    """A labelled record's words, as they can be read out of its text again."""
    record = row.record
    return record.tokens or () if isinstance(record, LabelledRecord) else ()


def tagged(words: Sequence[str], tags: Sequence[str]) -> str:
    """Words with their tags as a labelling version writes them: one a line."""
    return "\n".join(f"{word} {tag}" for word, tag in zip(words, tags, strict=True))
