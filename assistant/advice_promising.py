"""Whether an arm that was made of a part of the training records can still win. Pure numbers.

Successive halving (Jamieson and Talwalkar 2016, AISTATS) gives up the worse half at every step. Here an arm is given up
only when the records say so: when even the better end of its paired interval, with all that the rest of the training
records may add, lies below the best arm.
"""

from assistant import exam_words as words
from assistant.advice_statistics import apart
from assistant.advice_types import Figures, Task


def cannot_win(mine: Figures, best: Figures, hope: float, task: Task | None = None, seed: int = 0,
               target: float | None = None) -> str | None:  # fmt: skip
    """Why an arm need not be tried with more records, from both arms' figures on the same validation records.

    `hope`: what all the training records may still add to it, 0 or more, in the metric's unit (see
    `advice_curves.hope`). `target`: for an arm that is cheaper than the best, which wins by meeting it. None: it may
    still win, or the two were not measured on the same records.
    """
    if len(mine.parts) != len(best.parts):
        return None
    better = task.better if task else "higher"
    if target is not None and (
        mine.main.high + hope >= target if better == "higher" else mine.main.low - hope <= target
    ):
        return None
    found = apart(mine, best, seed).difference
    if (found.high + hope >= 0) if better == "higher" else (found.low - hope <= 0):
        return None
    side = "below" if better == "higher" else "above"
    return (
        f"on {mine.n} validation records it is {abs(100 * found.value):.1f} percentage points {side} the best "
        f"({words.change_between(found, 'share')}); more training records may bring {100 * hope:.1f} at most"
    )
