"""An advice on disk: `<home>/advice/<id>/`. `advice.json` is the last that was complete; beside it stands what is known
of each arm (`tried/<arm>.json`) and how far the run is (`run.json`).

Everything is written whole, right after it was made or measured, so that a kill costs what was being done. What was
asked to find out decides the id; how long it may take, what is aimed at and which arms are looked at do not: with more
time the same run goes on.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from adapters.base_model import BaseModel
from adapters.exam_kept import key_of
from adapters.exam_types import Interval
from assistant.advice_types import Advice, Figures, Point, Ready, Task
from assistant.knowledge_files import find_files, sha256_of
from data.errors import BrogueError, DataError, one_line, unknown
from data.home import Home, write_json
from data.settings import Frozen, load_settings

ADVICE, REPORT, RUN, TRIED, LOCK = "advice.json", "report.html", "run.json", "tried", "lock"
_File = TypeVar("_File", bound=Frozen)


class Asked(Frozen):
    """What an advice was asked to find out."""

    data: str  # a dataset's name
    knowledge: Path | None = None  # a file or a folder of documents
    budget_minutes: float | None = Field(None, gt=0)  # none: brogue.toml's
    target: float | None = None  # of the task's metric
    metric: str | None = None  # none: chosen by what the records are
    arms: tuple[str, ...] = ()  # only these; empty: all that fit the task
    limit: int | None = None  # test records at most
    seed: int = 0


class Journal(Frozen):
    """How far a run is."""

    asked: Asked
    created: str  # ISO, UTC
    spent_s: float = 0.0  # of all attempts, but what a kill cut off
    ladder: tuple[int, ...] = ()  # training rows of each round of the trained arms, ascending
    complete: bool = False


class Tried(Frozen):
    """What is known of an arm."""

    arm: str
    ready: dict[int, Ready] = {}  # by training rows
    validation: dict[int, Figures] = {}  # of those
    took: dict[str, float] = {}  # seconds of "make ROWS", "validation ROWS", "test", "consistency"
    test: Figures | None = None
    consistency: Interval | None = None
    tested: int | None = None  # the rows of which the arm was made that `test` and `consistency` are about
    memory: int | None = None  # bytes that serving it takes beside the base model
    stopped: str = ""  # why it cannot win
    left: str = ""  # why there was no time for it, or for more of it
    failed: str = ""  # what it said; tried again when the run is taken up

    @property
    def rows(self) -> int | None:
        """The most training rows that it was made of and measured with."""
        return max(self.validation, default=None)

    @property
    def last(self) -> Ready | None:
        """As it was made of those."""
        return None if self.rows is None else self.ready[self.rows]

    @property
    def best(self) -> Figures | None:
        """What was measured then, on the validation records."""
        return None if self.rows is None else self.validation[self.rows]

    @property
    def is_tested(self) -> bool:
        return self.test is not None and self.tested == self.rows

    @property
    def alive(self) -> bool:
        """Whether it may still win."""
        return self.rows is not None and not self.stopped and not self.failed

    @property
    def curve(self) -> tuple[Point, ...]:
        """The learning curve so far."""
        return tuple(
            Point(rows=rows, found=figures.main, minutes=self.ready[rows].minutes)
            for rows, figures in sorted(self.validation.items())
        )


def advice_id(home: Home, asked: Asked, task: Task, base: BaseModel) -> str:
    """8 hex digits of all that decides what an arm's figures are: the same question goes on where it was."""
    settings = load_settings(home.settings_file)
    documents = documents_digest(asked.knowledge)
    key = key_of(task.model_dump(mode="json"), base.sha256, documents, asked.limit, asked.seed,
                 settings.knowledge.model_dump(mode="json"))  # fmt: skip
    return key[:8]


def documents_digest(path: Path | None) -> str | None:
    """A hash over the documents at `path`. Raises `DataError` where there are none, or one cannot be read."""
    if path is None:
        return None
    found = find_files([path])
    if found.problems or not found.files:
        raise DataError(found.problems[0] if found.problems else f"{path}: no documents there; see: brogue knowledge")
    return key_of(*sorted((file.path.name, sha256_of(file)) for file in found.files))


def folder(home: Home, id: str) -> Path:
    """Where an advice and all that was made for it lie."""
    return home.root / "advice" / id


def report_path(home: Home, id: str) -> Path:
    return folder(home, id) / REPORT


def save(home: Home, advice: Advice) -> Path:
    """Write an advice; where it lies."""
    path = folder(home, advice.id) / ADVICE
    write_json(path, advice.model_dump(mode="json"))
    return path


def load(home: Home, id: str) -> Advice:
    """The advice of that id, or an error that lists those there are."""
    known = ids(home)
    if id not in known:
        raise unknown("advice", id, known, "Ask for one: brogue advise --data NAME")
    path = folder(home, id) / ADVICE
    found = _read(path, Advice, "an advice", "ask for it again: brogue advise")
    assert found is not None
    return found


def ids(home: Home) -> list[str]:
    """The ids of all complete advices."""
    return sorted(path.parent.name for path in (home.root / "advice").glob(f"*/{ADVICE}"))


def newest(home: Home) -> str:
    """The id of the latest advice. Raises `BrogueError` if there is none."""
    known = [load(home, id) for id in ids(home)]
    if not known:
        raise BrogueError("no advice yet; ask for one: brogue advise --data NAME")
    return max(known, key=lambda advice: advice.created).id


class Notes:
    """The files of one run."""

    def __init__(self, home: Home, id: str) -> None:
        self.folder = folder(home, id)
        self._read: dict[str, Tried] = {}

    @property
    def lock(self) -> Path:
        return self.folder / LOCK

    def begin(self, asked: Asked) -> Journal:
        """How far the run is. Of one that was asked otherwise before, what it found stays, not what it decided."""
        found = _read(self.folder / RUN, Journal, "a run of the advisor", _remove(self.folder))
        if found is None:
            return Journal(asked=asked, created=datetime.now(UTC).isoformat(timespec="seconds"))
        if found.asked == asked:
            again = self._forget("failed")
            return found.model_copy(update={"complete": found.complete and not again})
        self._forget("failed", "stopped", "left")
        return Journal(asked=asked, created=found.created, spent_s=found.spent_s)

    def _forget(self, *decided: str) -> bool:
        """Whether anything was decided so."""
        changed = False
        for path in (self.folder / TRIED).glob("*.json"):
            before = self.tried(path.stem)
            after = before.model_copy(update=dict.fromkeys(decided, ""))
            if after != before:
                self.keep_tried(after)
                changed = True
        return changed

    def keep(self, journal: Journal) -> None:
        """Write down how far the run is."""
        write_json(self.folder / RUN, journal.model_dump(mode="json"))

    def tried(self, arm: str) -> Tried:
        """What is known of an arm; nothing yet, if it was never tried."""
        if arm not in self._read:
            found = _read(self.folder / TRIED / f"{arm}.json", Tried, "an arm's figures", _remove(self.folder))
            self._read[arm] = found or Tried(arm=arm)
        return self._read[arm]

    def keep_tried(self, tried: Tried) -> None:
        """Write down what is known of an arm."""
        write_json(self.folder / TRIED / f"{tried.arm}.json", tried.model_dump(mode="json"))
        self._read[tried.arm] = tried


def _remove(folder: Path) -> str:
    return f"remove {folder} and ask again"


def _read(path: Path, kind: type[_File], what: str, way_out: str) -> _File | None:
    """A file of ours; none if it is not there. Raises `BrogueError` if it cannot be read."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise BrogueError(f"{path}: not {what} ({one_line(error, 120)}); {way_out}") from error
