"""Exams as JSON, for the gateway's /v1/exams and for `brogue exams list`."""

import json
from contextlib import suppress
from typing import Any

from adapters import exam_files
from adapters.exam_types import Exam
from assistant.exam_words import Judged, counted, judged, title
from data.errors import BrogueError
from data.home import Home


class ExamsApi:
    """What the gateway is asked about exams (serve/exams.py)."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def listed(self, adapter: str | None = None) -> list[dict[str, Any]]:
        """All exams, or an adapter's, the newest first; a file that cannot be read is passed over."""
        return [in_short(exam) for exam in self.all(adapter)]

    def described(self, id: str) -> dict[str, Any]:
        """The whole of one."""
        return {"object": "exam", **json.loads(exam_files.load(self._home, id).model_dump_json())}

    def report(self, id: str) -> str:
        """The report, drawn from what was found."""
        from assistant.exam_report import page

        return page(exam_files.load(self._home, id))

    def all(self, adapter: str | None = None) -> list[Exam]:
        """The exams themselves, the newest first."""
        found = []
        for id in exam_files.ids(self._home):
            with suppress(BrogueError):
                found.append(exam_files.load(self._home, id))
        wanted = [exam for exam in found if adapter in (None, exam.adapter)]
        return sorted(wanted, key=lambda exam: (exam.created, exam.id), reverse=True)


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
