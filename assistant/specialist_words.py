"""A specialist for answers in words that writes none: the answer that was given to the most similar question.

Of the nearest questions' answers it gives the one that the others are most like (minimum Bayes risk), weighted by how
near their questions are; how many it looks at is chosen on the validation records.
"""

from collections.abc import Callable, Sequence

import numpy as np

from adapters.measure_task import exact_match, rouge_l, token_f1
from assistant.specialist_types import Answerer, Floats, Learned, Lesson, Tools, asked, targets

_NEIGHBOURS = (1, 3, 5, 9)
_SHARPNESS = 20.0  # of the weights exp(sharpness × cosine): 0.1 nearer counts seven times
_JUDGED = 200  # validation records at most: each is compared with every neighbour's answer
_BLOCK = 512  # questions compared at once


def learn(lesson: Lesson) -> Learned:
    """The training questions' vectors and answers, and how many neighbours are best."""
    questions = [asked(row) for row in (*lesson.train, *lesson.validation[:_JUDGED])]
    vectors = lesson.tools.vectors(questions).astype(np.float32)
    known, held_out = vectors[: len(lesson.train)], vectors[len(lesson.train) :]
    answers, wanted = (
        [targets(row)[0] for row in lesson.train],
        [targets(row)[0] for row in lesson.validation[:_JUDGED]],
    )
    metric = lesson.task.metric if lesson.task.metric in ("exact_match", "rouge_l") else "token_f1"
    number, score = 1, None
    if wanted:
        judge = {"exact_match": exact_match, "rouge_l": rouge_l()}.get(metric, token_f1)
        lesson.tools.tell(f"comparing answers to {len(wanted)} questions")
        means = {k: _mean(judge, _answers(known, answers, held_out, k), wanted) for k in _NEIGHBOURS}
        number, score = max(means.items(), key=lambda pair: pair[1])
    notes = (f"looks at the {number} nearest questions" if number > 1 else "takes the nearest question's answer",)
    facts = {"answers": answers, "neighbours": number}
    return Learned({"vectors": known.astype(np.float16)}, facts, score, notes, trained=0, metric=metric)


def open_nearest(learned: Learned, tools: Tools) -> Answerer:
    """Answers to questions."""
    known, facts = learned.arrays["vectors"].astype(np.float32), learned.facts
    return lambda texts: _answers(known, facts["answers"], tools.vectors(texts), facts["neighbours"])


def _answers(known: Floats, answers: Sequence[str], questions: Floats, number: int) -> list[str]:
    found: list[str] = []
    for start in range(0, len(questions), _BLOCK):
        likeness = questions[start : start + _BLOCK] @ known.T
        for row in likeness:
            nearest = np.argsort(-row, kind="stable")[:number]
            found.append(_agreed([answers[n] for n in nearest], np.exp(_SHARPNESS * (row[nearest] - row.max()))))
    return found


def _agreed(answers: Sequence[str], weights: Floats) -> str:
    """The answer that has most in common with the others, by the weights; the first of those that are equal."""
    if len(answers) < 3:
        return answers[0]  # of two answers, the nearer question's
    alike = [sum(w * token_f1(mine, other) for other, w in zip(answers, weights, strict=True)) for mine in answers]
    return answers[int(np.argmax(alike))]


def _mean(judge: Callable[[str, str], float], given: Sequence[str], wanted: Sequence[str]) -> float:
    return float(np.mean([judge(mine, true) for mine, true in zip(given, wanted, strict=True)]))
