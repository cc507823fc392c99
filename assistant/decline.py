"""When an assistant says that its documents don't say: a threshold on how well what was found fits the question.

The score is the best cosine similarity among the passages found (benchmarks/decline.py compares it with others). The
threshold is calibrated on questions of which it is known whether the documents answer them: what a similarity is worth
differs between embedding models and collections, so calibrate anew when either changes.
"""

import math
from collections.abc import Sequence

from pydantic import Field

from data.errors import DataError
from data.settings import Frozen


class Calibration(Frozen):
    """An operating point: questions with a score below `threshold` are declined."""

    threshold: float
    auroc: float = Field(ge=0, le=1, description="0.5: the score does not tell answerable questions from others")
    answered: float = Field(ge=0, le=1, description="share of the answerable questions that are answered")
    declined: float = Field(ge=0, le=1, description="share of the unanswerable questions that are declined")
    answerable: int
    unanswerable: int

    def declines(self, score: float) -> bool:
        """Whether to say that the documents don't say."""
        return score < self.threshold


def calibrate(scores: Sequence[float], answerable: Sequence[bool], keep: float = 0.9) -> Calibration:
    """The highest threshold that still answers the share `keep` of the answerable questions.

    One score and one truth for each question. Raises `DataError` where there are not both kinds of question.
    """
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    if len(scores) != len(answerable) or not all(map(math.isfinite, scores)):
        raise DataError(f"wanted a finite score for each question, found {len(scores)} for {len(answerable)}")
    good = sorted(score for score, yes in zip(scores, answerable, strict=True) if yes)
    bad = [score for score, yes in zip(scores, answerable, strict=True) if not yes]
    if not good or not bad:
        raise DataError(
            f"wanted questions that the documents answer and others that they do not, found {len(good)} and "
            f"{len(bad)}; add some of the kind that is missing"
        )
    # As many of the lowest are declined as `keep` allows; the tiny number takes rounding out of the count.
    threshold = good[min(int(len(good) * (1 - keep) + 1e-9), len(good) - 1)]
    return Calibration(
        threshold=threshold,
        auroc=float(roc_auc_score(list(answerable), list(scores))),
        answered=sum(score >= threshold for score in good) / len(good),
        declined=sum(score < threshold for score in bad) / len(bad),
        answerable=len(good),
        unanswerable=len(bad),
    )
