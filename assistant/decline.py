"""When an assistant says that its documents don't say: a threshold on how well what was found fits the question.

No one measure is the best for all documents (benchmarks/decline.py). So measure and threshold are both calibrated, on
questions of which it is known whether the documents answer them, and anew for another embedding model or collection.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import Field

from assistant.claims import read, words
from data.errors import DataError
from data.settings import Frozen

LOOK_AT = 3  # so many of the best passages count
Measure = Literal["cosine", "bm25", "words", "cosine and words"]


class Calibration(Frozen):
    """An operating point: questions whose measure is below `threshold` are declined."""

    measure: Measure
    threshold: float
    auroc: float = Field(ge=0, le=1, description="0.5: the measure does not tell answerable questions from others")
    answered: float = Field(ge=0, le=1, description="share of the answerable questions that are answered")
    declined: float = Field(ge=0, le=1, description="share of the unanswerable questions that are declined")
    answerable: int
    unanswerable: int

    def declines(self, measured: Mapping[Measure, float]) -> bool:
        """Whether to say that the documents don't say."""
        return measured[self.measure] < self.threshold


def measure(
    question: str, passages: Sequence[str], cosines: Sequence[float | None], bm25s: Sequence[float | None]
) -> dict[Measure, float]:
    """How well the passages found (best first, with their scores) fit the question; 0 where nothing was found.

    Best cosine similarity and BM25 score, the largest share of the question's words that one passage holds (0–1), and
    the mean of that share and the similarity.
    """
    asked = set(words(question))
    shares = [len(asked & read(passage).words) / len(asked) for passage in passages[:LOOK_AT] if asked]
    cosine = max((score or 0.0 for score in cosines[:LOOK_AT]), default=0.0)
    share = max(shares, default=0.0)
    bm25 = max((score or 0.0 for score in bm25s[:LOOK_AT]), default=0.0)
    return {"cosine": cosine, "bm25": bm25, "words": share, "cosine and words": (cosine + share) / 2}


def calibrate(
    measured: Sequence[Mapping[Measure, float]], answerable: Sequence[bool], keep: float = 0.9
) -> Calibration:
    """The measure that tells the two kinds of question apart best, and its threshold.

    The threshold is the highest that still answers the share `keep` of the answerable questions. `measured` and
    `answerable` have one entry for each question. Raises `DataError` where there are not both kinds.
    """
    if len(measured) != len(answerable) or not all(math.isfinite(v) for each in measured for v in each.values()):
        raise DataError(f"wanted finite measures for each question, found {len(measured)} for {len(answerable)}")
    if not 0 < sum(answerable) < len(answerable):
        found = f"{sum(answerable)} and {len(answerable) - sum(answerable)}"
        raise DataError(
            f"wanted questions that the documents answer and others that they do not, found {found}; "
            "add some of the kind that is missing"
        )
    points = [_point(name, [each[name] for each in measured], answerable, keep) for name in get_args(Measure)]
    return max(points, key=lambda point: point.auroc)


def _point(name: Measure, scores: list[float], answerable: Sequence[bool], keep: float) -> Calibration:
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    good = sorted(score for score, yes in zip(scores, answerable, strict=True) if yes)
    bad = [score for score, yes in zip(scores, answerable, strict=True) if not yes]
    # As many of the lowest are declined as `keep` allows; the tiny number takes rounding out of the count.
    threshold = good[min(int(len(good) * (1 - keep) + 1e-9), len(good) - 1)]
    return Calibration(
        measure=name,
        threshold=threshold,
        auroc=float(roc_auc_score(list(answerable), scores)),
        answered=sum(score >= threshold for score in good) / len(good),
        declined=sum(score < threshold for score in bad) / len(bad),
        answerable=len(good),
        unanswerable=len(bad),
    )
