"""Removing a person: their rows in all datasets, what logs and runs hold of them, and their rows in the store.

First `find` tells what there is; then `forget_datasets`, `forget_files` and at the very end the store's own `forget`,
since the store knows which answers were theirs: killed in between, the same again goes on where it was. Each part is
atomic. Not here: which versions learnt from the records (adapters/lineage.py).
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from data.dataset import Row, Step, iter_rows, list_datasets, load_card, rewrite
from data.dataset_folder import mend
from data.forgetting_files import Traces, clean, count
from data.home import Home
from data.judgements import Forgotten, Wanted, as_key
from data.records import Split
from data.settings import Frozen
from data.store import Store
from data.store_files import Files
from data.store_jobs import Jobs

_MOST = 1_000_000  # of the files and jobs of one person
RECORDS = "records.json"  # what an unfinished training run learns from; adapters/lineage.py writes it
_ID = re.compile(r"[0-9a-f]{12}")
Tell = Callable[[str], None]


class DatasetPart(Frozen):
    """A person's rows in one dataset."""

    name: str
    digest: str
    records: dict[Split, int]  # how many of theirs are in each split
    trained: tuple[str, ...]  # ids of those in the train split
    whole: bool  # no other rows are in it


@dataclass
class Found:
    """What there is of a person."""

    subject: str
    store: Forgotten
    ids: set[str] = field(default_factory=set)  # of their records, and of what a model made of those
    datasets: list[DatasetPart] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)  # path in the home → lines
    uploads: list[str] = field(default_factory=list)  # files that they uploaded
    jobs: list[str] = field(default_factory=list)  # fine-tuning jobs that they started
    runs: list[str] = field(default_factory=list)  # unfinished trainings that learn from their records

    @property
    def nothing(self) -> bool:
        """Whether there is no trace of them."""
        store = self.store
        kept = store.responses or store.judgements or store.turns or store.tasks or store.user or store.stored
        return not (kept or self.datasets or self.files or self.runs or self.uploads or self.jobs)


def find(home: Home, store: Store, subject: str, tell: Tell = lambda _: None) -> Found:
    """Everything that is there of a person; changes nothing but what a killed writer left half done."""
    mend(home)
    found = Found(subject, store.of_person(as_key(subject)))
    theirs = _Theirs(subject, {*found.store.responses, *found.store.corrected})
    names = [card.name for card in list_datasets(home)]
    for name in names:
        tell(f"reading dataset {name}")
        theirs.learn(iter_rows(home, name))
    theirs.close()
    found.ids = theirs.ids
    for name in names:
        if (part := _part(home, name, theirs)) is not None:
            found.datasets.append(part)
    tell("reading logs and runs")
    found.runs = _unfinished_runs(home, theirs.ids)
    found.files = count(home, _traces(store, found))
    found.uploads = [file.id for file in Files(store, home).listed(as_key(subject), None, _MOST, None).items]
    found.jobs = [job.id for job in Jobs(store).listed(as_key(subject), _MOST, None).items]
    return found


def forget_datasets(home: Home, found: Found, tell: Tell = lambda _: None) -> None:
    """Take their rows out of every dataset; one that has no others goes."""
    theirs = _Theirs(found.subject, {*found.store.responses, *found.store.corrected}, found.ids)
    for part in found.datasets:
        tell(f"dataset {part.name}")
        removed = sum(part.records.values())
        if part.whole:
            gone = home.datasets / f".new.{part.name}.forgotten"  # as a killed writer's leftovers: cleared by anybody
            shutil.rmtree(gone, ignore_errors=True)
            (home.datasets / part.name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        else:
            card, rows = load_card(home, part.name), iter_rows(home, part.name)
            # The step says what was done, never whom it was about.
            rewrite(home, card, (row for row in rows if row not in theirs), Step(name="forget",
                    counts={"removed": removed}))  # fmt: skip
        shutil.rmtree(home.examples / part.name, ignore_errors=True)  # made of their questions, too


def forget_files(home: Home, store: Store, found: Found) -> None:
    """Take what is theirs out of logs, runs and uploads; unfinished trainings on their records, the files that they
    uploaded and the jobs that they started go whole."""
    uploads = Files(store, home)
    Jobs(store).remove(found.jobs)
    for id in found.uploads:
        uploads.remove(id)
    for run in found.runs:
        shutil.rmtree(home.root / run, ignore_errors=True)
    for id in clean(home, _traces(store, found)):
        uploads.measured(id)


def being_written(home: Home) -> list[str]:
    """Datasets that another process is writing at this moment: it may have read rows that were there before."""
    mend(home)
    return sorted(path.name.removeprefix(".new.").rpartition(".")[0] for path in home.datasets.glob(".new.*"))


class _Theirs:
    """Which rows are a person's: by name, by the answers they were made from, by content, or made of such a row."""

    def __init__(self, subject: str, responses: set[str], ids: Iterable[str] = ()) -> None:
        self.ids = set(ids)
        self._names = {subject, as_key(subject)}
        self._responses = responses
        self._made: list[tuple[str, str]] = []  # synthetic rows: what they were made of, what they are

    def learn(self, rows: Iterable[Row]) -> None:
        """Note which ids are theirs."""
        for row in rows:
            if self._is_named(row):
                self.ids.add(row.id)
            if row.synthetic_of is not None:
                self._made.append((row.synthetic_of, row.id))

    def close(self) -> None:
        """What was made of their records is theirs too, however many times over."""
        before = -1
        while before != len(self.ids):
            before = len(self.ids)
            self.ids |= {made for source, made in self._made if source in self.ids}

    def __contains__(self, row: Row) -> bool:
        # The same content without a name is the same record, imported once more; with another's name it is theirs.
        same = row.id in self.ids and row.subject is None
        return self._is_named(row) or same or row.synthetic_of in self.ids

    def _is_named(self, row: Row) -> bool:
        named = row.subject in self._names or (row.subject is None and row.group in self._names)  # a customer's id
        return named or not self._responses.isdisjoint(row.response_ids or ())


def _part(home: Home, name: str, theirs: _Theirs) -> DatasetPart | None:
    splits: dict[Split, int] = {}
    trained, others = [], 0
    for row in iter_rows(home, name):
        if row in theirs:
            splits[row.split] = splits.get(row.split, 0) + 1
            trained += [row.id] if row.split == "train" else []
        else:
            others += 1
    if not splits:
        return None
    digest = load_card(home, name).digest
    return DatasetPart(name=name, digest=digest, records=splits, trained=tuple(trained), whole=not others)


def _unfinished_runs(home: Home, ids: set[str]) -> list[str]:
    """Runs that list one of the records as what they learn from."""
    lists = sorted(home.runs.glob(f"*/{RECORDS}"))
    mine = (path for path in lists if not ids.isdisjoint(_ID.findall(path.read_text(encoding="utf-8"))))
    return [path.parent.relative_to(home.root).as_posix() for path in mine]


def _traces(store: Store, found: Found) -> Traces:
    asked = set()
    for response in store.responses(Wanted(subject=as_key(found.subject))):
        asked |= set(_said(response.messages))
    return Traces(found.subject, found.ids | set(found.store.responses), asked)


def _said(messages: Iterable[dict[str, object]]) -> Iterator[str]:
    for message in messages:
        if message.get("role") == "user" and isinstance(content := message.get("content"), str):
            yield content
