"""Specialists that label texts: logistic regression on sentence embeddings, or on words and parts of words.

Source: SetFit's and MTEB's baseline (a linear probe on sentence embeddings), and the tf-idf baseline of every textbook.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assistant.specialist_logistic import STRENGTHS, Chosen, Linear, Matrix, choose
from assistant.specialist_types import Answerer, Learned, Lesson, Tools, asked, targets

# Words and pairs of words; and three or four letters within words, which bear typing errors and word endings.
_WORDS: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\w+"}
_LETTERS: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (3, 4)}
_MOST = 20_000  # features of each sort


def learn_embedding(lesson: Lesson) -> Learned:
    """Logistic regression on the embedding model's vectors; its strength is chosen on the validation records."""
    vectors = lesson.tools.vectors([asked(row) for row in (*lesson.train, *lesson.validation)])
    lesson.tools.tell(f"learning {len(lesson.labels)} labels from {len(lesson.train)} texts")
    cut = len(lesson.train)
    found = _choose(lesson, vectors[:cut], vectors[cut:])
    return Learned(found.linear.arrays, {"labels": lesson.labels}, found.score, (f"C = {found.strength:g}",))


def open_embedding(learned: Learned, tools: Tools) -> Answerer:
    """Labels of texts."""
    linear, labels = Linear.of(learned.arrays), learned.facts["labels"]
    return lambda texts: _named(linear, tools.vectors(texts), labels)


def learn_words(lesson: Lesson) -> Learned:
    """Logistic regression on tf-idf of words and parts of words."""
    from scipy.sparse import hstack  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    texts, held_out = ([asked(row) for row in rows] for rows in (lesson.train, lesson.validation))
    lesson.tools.tell(f"learning {len(lesson.labels)} labels from the words of {len(texts)} texts")
    least = 1 if len(texts) < 200 else 2  # texts that a feature stands in
    parts = [TfidfVectorizer(sublinear_tf=True, min_df=least, max_features=_MOST, **how) for how in (_WORDS, _LETTERS)]
    try:
        train = hstack([part.fit_transform(texts) for part in parts], "csr")
    except ValueError:  # texts without a word, such as emoji only: their signs
        parts = parts[1:]
        train = parts[0].set_params(analyzer="char", ngram_range=(1, 2), min_df=1).fit_transform(texts)
    later = hstack([part.transform(held_out) for part in parts], "csr") if held_out else train[:0]
    found = _choose(lesson, train, later, (3.0, 10.0, 30.0))
    facts = {"labels": lesson.labels, "parts": [_kept(part) for part in parts]}
    scale = np.concatenate([part.idf_ for part in parts]).astype(np.float32)
    return Learned(found.linear.arrays | {"idf": scale}, facts, found.score, (f"C = {found.strength:g}",),
                   trained=found.linear.weights.size + found.linear.bias.size)  # fmt: skip


def open_words(learned: Learned, _tools: Tools) -> Answerer:
    """Labels of texts."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    linear, labels = Linear.of(learned.arrays), learned.facts["labels"]
    parts, done = [], 0
    for kept in learned.facts["parts"]:
        how = kept["how"] | {"ngram_range": tuple(kept["how"]["ngram_range"])}
        part = TfidfVectorizer(sublinear_tf=True, vocabulary=kept["features"], **how)
        part.idf_ = learned.arrays["idf"][done : done + len(kept["features"])].astype(np.float64)
        done += len(kept["features"])
        parts.append(part)
    return lambda texts: _named(linear, hstack([part.transform(texts) for part in parts], "csr"), labels)


def label_judge(metric: str) -> Callable[[Sequence[str], Sequence[str]], float]:
    """A function that judges (wanted, given) labels: macro-F1 where the task's metric is one, else accuracy."""

    def judge(wanted: Sequence[str], given: Sequence[str]) -> float:
        from sklearn.metrics import f1_score  # type: ignore[import-untyped]

        if "macro" in metric:
            return float(f1_score(wanted, given, average="macro", zero_division=0))
        return float(np.mean([true == said for true, said in zip(wanted, given, strict=True)]))

    return judge


def _choose(lesson: Lesson, train: Matrix, held_out: Matrix, strengths: Sequence[float] = STRENGTHS) -> Chosen:
    number = {label: n for n, label in enumerate(lesson.labels)}
    wanted, judge = [targets(row)[0] for row in lesson.validation], label_judge(lesson.task.metric)

    def judged(linear: Linear) -> float:
        return judge(wanted, _named(linear, held_out, lesson.labels))

    labels = [number[targets(row)[0]] for row in lesson.train]
    return choose(
        train, labels, len(number), [row.weight for row in lesson.train], judged if wanted else None, strengths
    )  # fmt: skip


def _named(linear: Linear, rows: Matrix, labels: Sequence[str]) -> list[str]:
    return [labels[n] for n in linear.scores(rows).argmax(axis=1)]


def _kept(part: Any) -> dict[str, Any]:
    how = {name: getattr(part, name) for name in ("analyzer", "ngram_range", "token_pattern")}
    return {"how": how, "features": [str(feature) for feature in part.get_feature_names_out()]}
