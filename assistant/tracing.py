"""From an answer back to what it came from: version, dataset, training records, passages.

In: a response id, the store, the registry, the datasets. Out: a `Trace`. A record that was made from the answer's own
conversation is named as such; otherwise the training records that are most like question and answer (TF-IDF).
"""

from typing import Any

from adapters.lineage import lineage
from adapters.registry import AdapterCard, Registry
from data.dataset import Row, iter_rows, load_card
from data.errors import BrogueError, UnknownName
from data.home import Home
from data.judgements import PassageRef, Response, Wanted
from data.records import answer, question
from data.settings import Frozen
from data.store import Store
from serve.exchange import SPECIALIST


class TracedDataset(Frozen):
    """The dataset that the version was trained on, and what became of it."""

    name: str
    digest: str  # as it was trained on
    now: str | None  # its digest today; none: it is not here any more
    steps: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether it is still what the version learnt from."""
        return self.now == self.digest


class TracedRecord(Frozen):
    """A training record."""

    id: str
    how: str  # "made from this conversation" or "alike"
    likeness: float  # cosine, 0 to 1
    question: str
    answer: str


class Trace(Frozen):
    """What an answer came from. Without version and dataset it was the base model's."""

    response: Response
    version: AdapterCard | None
    marks: tuple[str, ...] = ()
    dataset: TracedDataset | None = None
    records: tuple[TracedRecord, ...] = ()
    passages: tuple[PassageRef, ...] = ()
    notes: tuple[str, ...] = ()  # what could not be told, and why


def trace(response_id: str, home: Home, store: Store, k: int) -> Trace:
    """Where the answer came from, with at most `k` records."""
    response = store.response(response_id)
    found: dict[str, Any] = {"response": response, "passages": response.passages}
    if "@" not in response.version:
        return Trace(version=None, notes=(_who(response.version),), **found)
    registry, (adapter, _, number) = Registry(home), response.version.partition("@")
    try:
        card = registry.card(adapter, int(number))
    except BrogueError as error:
        return Trace(version=None, notes=(f"its version {response.version} is not here any more ({error})",), **found)
    found["marks"] = tuple(mark.words for mark in registry.state(adapter).marks_of(card.version))
    dataset = _dataset(home, card)
    if dataset is None:
        return Trace(version=card, notes=("the version was trained elsewhere",), **found)
    if dataset.now is None:
        notes: tuple[str, ...] = (f"dataset '{dataset.name}' is not here any more, so no records can be shown",)
        return Trace(version=card, dataset=dataset, notes=notes, **found)
    notes = () if dataset.same else (f"dataset '{dataset.name}' has changed since the version was trained",)
    listed = lineage(registry, adapter, card.version)
    learnt = None if listed is None else set(listed.records)
    if learnt is None and not dataset.same:
        notes += ("the version has no list of its records; these are the dataset's of today",)
    rows = [r for r in iter_rows(home, dataset.name) if r.split == "train" and (learnt is None or r.id in learnt)]
    records = _made_from(rows, _of_conversation(store, response))[:k] or _alike(rows, response, k)
    return Trace(version=card, dataset=dataset, records=records, notes=notes, **found)


def _who(version: str) -> str:
    """Who wrote an answer that is no trained version's."""
    if version.startswith(SPECIALIST):
        return f"the specialist '{version.removeprefix(SPECIALIST)}' gave it, a small model of its own"
    if version == "none":
        return "no model wrote it: the assistant's documents did not say"
    return "the base model wrote it; no dataset of yours took part"


def _dataset(home: Home, card: AdapterCard) -> TracedDataset | None:
    if not card.dataset_digest:
        return None
    try:
        today = load_card(home, card.dataset)
    except UnknownName:
        return TracedDataset(name=card.dataset, digest=card.dataset_digest, now=None)
    steps = tuple(step.name for step in today.steps)
    return TracedDataset(name=card.dataset, digest=card.dataset_digest, now=today.digest, steps=steps)


def _of_conversation(store: Store, response: Response) -> set[str]:
    if response.conversation is None:
        return {response.id}
    return {response.id, *(r.id for r in store.responses(Wanted(conversation=response.conversation)))}


def _made_from(rows: list[Row], responses: set[str]) -> tuple[TracedRecord, ...]:
    made = (row for row in rows if not responses.isdisjoint(row.response_ids or ()))
    return tuple(_record(row, "made from this conversation", 1.0) for row in made)


def _alike(rows: list[Row], response: Response, k: int) -> tuple[TracedRecord, ...]:
    asked = [m["content"] for m in response.messages if m.get("role") == "user" and isinstance(m.get("content"), str)]
    wanted = "\n".join([*asked[-1:], response.text]).strip()
    if not rows or not wanted:
        return ()
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(sublinear_tf=True)
    try:
        known = vectorizer.fit_transform(f"{question(row.record)}\n{answer(row.record)}" for row in rows)
    except ValueError:  # not one word in all of them
        return ()
    likeness = (known @ vectorizer.transform([wanted]).T).toarray().ravel()
    best = likeness.argsort(kind="stable")[::-1][:k]
    return tuple(_record(rows[i], "alike", round(float(likeness[i]), 3)) for i in best if likeness[i] > 0)


def _record(row: Row, how: str, likeness: float) -> TracedRecord:
    return TracedRecord(id=row.id, how=how, likeness=likeness, question=question(row.record), answer=answer(row.record))
