"""Logistic regression for specialists: learnt by scikit-learn, kept as arrays, applied by numpy or scipy."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assistant.specialist_types import Floats

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # scikit-learn's C; of unit vectors, larger ones are usually better
_ENOUGH = 3000  # rows that the strength is chosen on
_NEVER = -1e9  # bias of a label that no training row has
Matrix = Any  # [rows, features], numpy's or scipy's sparse


class Linear(NamedTuple):
    """A linear classifier."""

    weights: Floats  # [labels, features]
    bias: Floats  # [labels]

    def scores(self, rows: Matrix) -> Floats:
        """[rows, labels]: log-odds, up to a constant of each row."""
        found: Floats = np.asarray(rows @ self.weights.T) + self.bias
        return found

    def log_shares(self, rows: Matrix) -> Floats:
        """[rows, labels]: the log-probability of each label."""
        scores = self.scores(rows)
        scores = scores - scores.max(axis=1, keepdims=True)
        found: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return found

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """As they are kept; `Linear.of` reads them."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def of(cls, arrays: dict[str, NDArray[Any]]) -> "Linear":
        return cls(arrays["weights"], arrays["bias"])


class Chosen(NamedTuple):
    """The strength that was best on the validation records, and what it made of all rows."""

    linear: Linear
    strength: float
    score: float | None  # on the validation records; none without them


def fit(rows: Matrix, labels: Sequence[int], count: int, weights: Sequence[float], strength: float,
        iterations: int = 300) -> Linear:  # fmt: skip
    """Multinomial logistic regression by L-BFGS. `labels` are numbers below `count`; `weights` belong to the rows."""
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    found = Linear(np.zeros((count, rows.shape[1]), np.float32), np.full(count, _NEVER, np.float32))
    there = sorted(set(labels))
    if len(there) == 1:  # nothing to tell apart
        found.bias[there[0]] = 0
        return found
    model = LogisticRegression(C=strength, max_iter=iterations, tol=1e-3)
    # So small products are no faster on two threads, and a hundred times slower where others use the second core.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is as good here
        model.fit(rows, np.asarray(labels), np.asarray(weights))
    two = len(there) == 2  # scikit-learn keeps the second label's odds only
    found.weights[there] = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
    found.bias[there] = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
    return found


def choose(rows: Matrix, labels: Sequence[int], count: int, weights: Sequence[float],
           judge: Callable[[Linear], float] | None, strengths: Sequence[float] = STRENGTHS) -> Chosen:  # fmt: skip
    """`fit` with the strength that `judge` likes best (higher is better); without a judge, with the middle one.

    The strength is chosen with 3,000 rows at most, evenly spread; then all rows are learnt.
    """
    if judge is None:
        middle = strengths[len(strengths) // 2]
        return Chosen(fit(rows, labels, count, weights, middle), middle, None)
    some = np.unique(np.linspace(0, len(labels) - 1, min(_ENOUGH, len(labels))).astype(int))
    tried = [(fit(rows[some], [labels[n] for n in some], count, [weights[n] for n in some], c), c) for c in strengths]
    best, strength = max(tried, key=lambda one: judge(one[0]))
    linear = best if len(some) == len(labels) else fit(rows, labels, count, weights, strength)
    return Chosen(linear, strength, judge(linear))


Features = Sequence[str]  # of one row: each is there or not


def vocabulary(rows: Iterable[Features], least: int) -> dict[str, int]:
    """The features that stand in at least `least` rows, numbered."""
    counts = Counter(feature for row in rows for feature in set(row))
    return {feature: n for n, feature in enumerate(sorted(f for f, times in counts.items() if times >= least))}


def matrix(rows: Sequence[Features], known: dict[str, int]) -> Matrix:
    """[rows, known features] of zeros and ones, sparse."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    places = [sorted({known[feature] for feature in row if feature in known}) for row in rows]
    ends = np.cumsum([0, *map(len, places)])
    columns = np.fromiter((place for row in places for place in row), np.int32, int(ends[-1]))
    return csr_matrix((np.ones(len(columns), np.float32), columns, ends), (len(rows), len(known)))
