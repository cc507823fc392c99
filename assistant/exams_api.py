"""Exams as JSON, for the gateway's /v1/exams."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.exam_types import Exam
from assistant.exam_words import Judged, counted, judged, title
from data.errors import BrogueError, one_line, unknown
from data.home import Home

FILE = "exam.json"


class ExamsApi:
    """What the gateway is asked about exams (serve/exams.py)."""

    def __init__(self, home: Home) -> None:
        self._folder = home.root / "exams"

    def listed(self, adapter: str | None = None) -> list[dict[str, Any]]:
        """All exams, or an adapter's, the newest first; a file that cannot be read is passed over."""
        return [in_short(exam) for exam in self.all(adapter)]

    def described(self, id: str) -> dict[str, Any]:
        """The whole of one."""
        return {"object": "exam", **json.loads(self._get(id).model_dump_json())}

    def report(self, id: str) -> str:
        """The report, drawn from what was found."""
        from assistant.exam_report import page

        return page(self._get(id))

    def all(self, adapter: str | None = None) -> list[Exam]:
        """The exams themselves, the newest first."""
        found = [_read(path) for path in self._folder.glob(f"*/{FILE}")]
        wanted = [exam for exam in found if isinstance(exam, Exam) and adapter in (None, exam.adapter)]
        return sorted(wanted, key=lambda exam: (exam.created, exam.id), reverse=True)

    def _get(self, id: str) -> Exam:
        found = _read(self._folder / id / FILE) if "/" not in id else None
        if found is None:
            raise unknown("exam", id, [exam.id for exam in self.all()], "Make one: brogue exam ADAPTER@N")
        if isinstance(found, BrogueError):
            raise found
        return found


def in_short(exam: Exam) -> dict[str, Any]:
    """Who was asked, the verdict, and each figure of the version with the way it went."""
    found, verdict = judged(exam), exam.verdict
    return {
        "object": "exam", "id": exam.id, "adapter": exam.adapter, "names": exam.names, "created": exam.created,
        "minutes": exam.minutes, "suite": exam.suite.name, "judge": exam.judge, "counted": counted(found),
        "verdict": verdict and verdict.model_dump(mode="json") | {"words": verdict.words, "more": verdict.more},
        "figures": [_figure(one) for one in found],
    }  # fmt: skip


def _figure(one: Judged) -> dict[str, Any]:
    figure = one.figure
    return {
        "name": figure.name, "title": title(figure.name), "unit": figure.unit, "better": figure.better,
        "way": one.way, **figure.arms["version"].model_dump(), "change": one.change and one.change.model_dump(),
    }  # fmt: skip


def _read(path: Path) -> Exam | BrogueError | None:
    try:
        return Exam.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        return BrogueError(f"{path}: not an exam ({one_line(error, 120)}); remove its folder and examine again")
