"""The verdict: which arm to use, by the rules in docs/advisor-verdict.md. Pure: no files, no network."""

from collections.abc import Sequence

from assistant.advice_types import Recommendation, Result, Task


def recommend(
    task: Task, results: Sequence[Result], *, target: float | None = None, seed: int = 0
) -> Recommendation:
    """The recommendation from what was measured of the arms on the test records."""
    raise NotImplementedError
