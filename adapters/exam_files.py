"""Exams on disk: `<home>/exams/<id>/exam.json`, written whole, read without anything heavy."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from adapters.exam_types import Exam
from data.errors import BrogueError, one_line, unknown
from data.home import Home, write_json

EXAM, REPORT = "exam.json", "report.html"


def folder(home: Home, id: str) -> Path:
    """Where an exam and its report lie."""
    return home.root / "exams" / id


def report_path(home: Home, id: str) -> Path:
    return folder(home, id) / REPORT


def save(home: Home, exam: Exam) -> Path:
    """Write an exam, or write it again with its verdict; where it lies."""
    path = folder(home, exam.id) / EXAM
    write_json(path, exam.model_dump(mode="json"))
    return path


def load(home: Home, id: str) -> Exam:
    """The exam of that id, or an error that lists those there are."""
    known = ids(home)
    if id not in known:
        raise unknown("exam", id, known, "Examine a version: brogue exam NAME@N")
    path = folder(home, id) / EXAM
    try:
        return Exam.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise BrogueError(f"{path}: not an exam ({one_line(error, 120)}); examine the version again") from error


def ids(home: Home) -> list[str]:
    """The ids of all exams."""
    return sorted(path.parent.name for path in (home.root / "exams").glob(f"*/{EXAM}"))


def quoting(home: Home, datasets: Collection[str]) -> list[str]:
    """The exams that asked of one of these datasets, whose files hold its questions; also those that cannot be read."""
    return [id for id in ids(home) if _asked_of(folder(home, id) / EXAM, datasets)]


def forget(home: Home, datasets: Collection[str]) -> None:
    """Remove the exams that quote these datasets, and all kept answers: whose they are cannot be told."""
    if datasets:
        shutil.rmtree(home.root / "exams" / "kept", ignore_errors=True)
    for id in quoting(home, datasets):
        shutil.rmtree(folder(home, id))


def _asked_of(path: Path, datasets: Collection[str]) -> bool:
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))["suite"]["parts"]
        # Leaks are looked for in what the version learnt from, which the suite need not name.
        asked = {"" if part["measure"] == "leak" and part["data"] is None else part["data"] for part in parts}
        return bool(datasets) and bool(asked & {*datasets, ""})
    except (OSError, ValueError, KeyError, TypeError):
        return bool(datasets)
