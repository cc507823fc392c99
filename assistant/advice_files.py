"""An advice on disk: `<home>/advice/<id>/advice.json` when it is complete, and before that what is known of each arm.

Everything is written whole, right after it was made or measured, so that a kill costs what was being done.
"""

from pathlib import Path

from assistant.advice_types import Advice
from data.home import Home
from data.settings import Frozen

ADVICE, REPORT = "advice.json", "report.html"


class Asked(Frozen):
    """What an advice was asked to find out."""

    data: str  # a dataset's name
    knowledge: Path | None = None  # a file or a folder of documents
    budget_minutes: float | None = None  # none: brogue.toml's
    target: float | None = None  # of the task's metric
    metric: str | None = None  # none: chosen by what the records are
    arms: tuple[str, ...] = ()  # only these and what they need; empty: all that fit the task
    limit: int | None = None  # test records at most
    seed: int = 0


def folder(home: Home, id: str) -> Path:
    """Where an advice and all that was made for it lie."""
    return home.root / "advice" / id


def report_path(home: Home, id: str) -> Path:
    return folder(home, id) / REPORT


def load(home: Home, id: str) -> Advice:
    """The advice of that id, or an error that lists those there are."""
    raise NotImplementedError


def ids(home: Home) -> list[str]:
    """The ids of all complete advices."""
    return sorted(path.parent.name for path in (home.root / "advice").glob(f"*/{ADVICE}"))
