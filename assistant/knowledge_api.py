"""Knowledges as JSON: for `brogue knowledge … --json` and for the gateway's /v1/knowledge."""

from collections.abc import Callable, Sequence
from typing import Any

from assistant.decline import LOOK_AT, Calibration, calibrate
from assistant.knowledge import Knowledge, confidence, knowledge_of, measured
from assistant.retrieval import Found

Tell = Callable[[str], None]


class KnowledgeApi:
    """What the gateway is asked about documents (serve/knowledge.py)."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def listed(self) -> list[dict[str, Any]]:
        """All knowledges."""
        return [summary.model_dump() for summary in self._knowledge.summaries()]

    def described(self, name: str) -> dict[str, Any]:
        """The knowledge that an assistant answers from, with its documents."""
        owner, _ = knowledge_of(self._knowledge.home, name)
        documents = [document.model_dump() for document in self._knowledge.documents(owner)]
        return self._knowledge.summary(owner).model_dump() | {"files": documents}

    def searched(self, name: str, question: str, limit: int) -> dict[str, Any]:
        """A search, and whether the assistant would answer from it: `declined` is true if it would not."""
        owner, use = knowledge_of(self._knowledge.home, name)
        found = self._knowledge.search(owner, question, max(limit, LOOK_AT))
        sure = confidence(question, found, use.decline_by)
        return {
            "name": owner, "question": question, "confidence": round(sure, 4), "decline_by": use.decline_by,
            "decline_below": use.decline_below, "declined": sure < use.decline_below, **_found(found, limit),
        }  # fmt: skip


def calibrated(
    knowledge: Knowledge, name: str, inside: Sequence[str], outside: Sequence[str], keep: float, tell: Tell
) -> Calibration:
    """When the assistant `name` should decline, from questions that its documents answer and others that they don't."""
    owner, _ = knowledge_of(knowledge.home, name)
    found, truths = [], [question in set(inside) for question in (*inside, *outside)]
    for number, question in enumerate((*inside, *outside), 1):
        tell(f"question {number} of {len(truths)}")
        found.append(measured(question, knowledge.search(owner, question, LOOK_AT)))
    return calibrate(found, truths, keep)


def _found(found: Found, limit: int) -> dict[str, Any]:
    """Passages with their scores by stage, and the milliseconds of each stage."""
    hits = []
    for number, hit in enumerate(found.hits[:limit], 1):
        place = hit.passage.model_dump(exclude={"sha256"})
        scores = hit.model_dump(exclude={"passage", "same"})
        hits.append({"number": number, **place, **scores, "same": [other.source for other in hit.same]})
    return {"hits": hits, "ms": {stage: round(seconds * 1000, 2) for stage, seconds in found.seconds.items()}}
