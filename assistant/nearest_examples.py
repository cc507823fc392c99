"""Examples for a question: the training records of a dataset that are most like it.

A dataset's training split is embedded once. Its vectors lie in `<home>/cache/examples/<dataset>/`, in a file that is
named by all that they depend on, so that the gateway and the advisor share them. Search is exact, the cosine with every
record (numpy): even a hundred thousand records are a small matrix.
"""

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from adapters.measure_pieces import messages
from adapters.recipes import labelled_answer
from assistant.definitions import ExamplesFrom
from assistant.embeddings import Embedder, Identity
from assistant.questions import last_question
from data.dataset import DatasetCard, iter_rows, load_card
from data.dataset_folder import CARD
from data.errors import DataError
from data.home import Home
from data.records import AnyRecord, LabelledRecord, RatedRecord, answer

_LOG = logging.getLogger("brogue.examples")
_FORMAT = 1  # of what is embedded: raised when it changes
Turns = tuple[dict[str, Any], ...]  # OpenAI's messages: questions and answers in turn, the wanted answer last
Tell = Callable[[str], None]
Vectors = NDArray[np.float32]
Made = TypeVar("Made")


class PerDataset(Generic[Made]):
    """What is made of a dataset once, and again when the dataset has changed. Safe to ask from several threads."""

    def __init__(self, home: Home, make: Callable[[DatasetCard], Made]) -> None:
        self._home, self._make = home, make
        self._made: dict[str, tuple[tuple[int, int, int], Made]] = {}  # name → its card's stamp, what was made
        self._locks: dict[str, threading.Lock] = {}

    def of(self, name: str) -> Made:
        """What was made of dataset `name`. Raises `UnknownName` if it is not there, and whatever making it raises."""
        with self._locks.setdefault(name, threading.Lock()):
            card = None if self._stamp(name) else load_card(self._home, name)  # finishes what a killed writer began
            stamp = self._stamp(name) or (0, 0, 0)
            if name not in self._made or self._made[name][0] != stamp:
                self._made.pop(name, None)
                self._made[name] = (stamp, self._make(card or load_card(self._home, name)))
            return self._made[name][1]

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        try:
            stat = (self._home.datasets / name / CARD).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class TrainingExamples:
    """The training records of one dataset, ready to be looked up."""

    def __init__(self, turns: Sequence[Turns], vectors: Vectors) -> None:
        """`vectors`: unit vectors of the last questions, (len(turns), dimension)."""
        self._turns, self._vectors = turns, vectors
        self._same: dict[str, list[int]] = {}
        for number, one in enumerate(turns):
            self._same.setdefault(_key(last_question(one)), []).append(number)

    def nearest(self, question: str, vector: Vectors, k: int) -> list[Turns]:
        """The `k` most similar, the most similar last. Records with the very same question are left out.

        So an example never holds the answer to what is asked, also where a training record is asked.
        """
        cosines = self._vectors @ vector
        cosines[self._same.get(_key(question), [])] = -np.inf
        best = [int(n) for n in np.argsort(-cosines, kind="stable")[:k] if np.isfinite(cosines[n])]
        return [self._turns[number] for number in reversed(best)]


class ExampleSets:
    """Looks examples up in the datasets of one home; `embedder` is called when the first question comes."""

    def __init__(self, home: Home, embedder: Callable[[], Embedder]) -> None:
        self._embedder = embedder
        self._sets = PerDataset(home, lambda card: load_examples(home, card.name, embedder(), _LOG.info))

    def nearest(self, wanted: ExamplesFrom, question: str) -> list[Turns]:
        """The training records most like `question`, the most similar last. Raises `BrogueError`."""
        examples = self._sets.of(wanted.dataset)
        return examples.nearest(question, self._embedder().encode([question], "query")[0], wanted.k)

    def warm(self, wanted: ExamplesFrom) -> None:
        """Have the dataset embedded. Raises `BrogueError`."""
        self._sets.of(wanted.dataset)


def load_examples(home: Home, dataset: str, embedder: Embedder, tell: Tell = lambda _: None) -> TrainingExamples:
    """The training records of `dataset` with their vectors; what was embedded before is read from the cache.

    Raises `DataError` if there is none that can be an example.
    """
    card = load_card(home, dataset)
    records = {row.id: row.record for row in iter_rows(home, dataset) if row.split == "train"}  # equal ones once
    turns = [found for record in records.values() if (found := turns_of(record))]
    if not turns:
        raise DataError(
            f"dataset '{dataset}' has no training records that can be examples; split it anew: brogue data split "
            f"{dataset}"
        )
    questions = [last_question(one) for one in turns]
    path = home.examples / dataset / f"{_name(card, embedder.identity)}.npy"
    vectors = _read(path, len(questions), embedder.identity.dimension)
    if vectors is None:
        vectors = embedder.encode(questions, "query", lambda detail: tell(detail.replace("passages", "examples")))
        _write(path, vectors.astype(np.float32), keep=card.digest[:16])
    return TrainingExamples(turns, vectors)


def turns_of(record: AnyRecord) -> Turns | None:
    """A record as an example: its conversation without a system message, then the answer wanted, as it is trained on.

    None for an answer that was found bad.
    """
    if isinstance(record, RatedRecord) and not record.good:
        return None
    said = labelled_answer(record) if isinstance(record, LabelledRecord) else answer(record)
    asked = [{"role": m["role"], "content": m["content"]} for m in messages(record) if m["role"] != "system"]
    return (*asked, {"role": "assistant", "content": said})


def _key(question: str) -> str:
    return " ".join(question.casefold().split())


def _name(card: DatasetCard, identity: Identity) -> str:
    of = hashlib.sha256(f"{_FORMAT} {identity.model_dump_json()}".encode()).hexdigest()[:12]
    return f"{card.digest[:16]}-{of}"


def _read(path: Path, rows: int, dimension: int) -> Vectors | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # never embedded, or a damaged file: it is embedded again
    return found if found.shape == (rows, dimension) and found.dtype == np.float32 else None


def _write(path: Path, vectors: Vectors, keep: str) -> None:
    """Write the file whole or not at all; vectors of what the dataset was before (not `keep`) go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, vectors)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    for other in path.parent.glob("[!.]*.npy"):
        if not other.name.startswith(keep):
            other.unlink(missing_ok=True)
