"""How well the better of two answers, or the right label, is told on records that were held out. Pure numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]  # [resamples, labels]
BINS = 5  # of the calibration, over 0.5–1: the model's own probability that its choice is right


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval for a rate, as fractions in [0, 1]. Source: Wilson (1927), JASA 22:209-212."""
    rate, centre = successes / n, 1 + z * z / n
    middle = (rate + z * z / (2 * n)) / centre
    half = z / centre * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(margins: Sequence[float]) -> float:
    """Mean distance between the model's confidence and how often it is right (ECE; Guo et al. 2017, ICML).

    `margins` are log-odds that the better answer is better; the confidence is that of the answer that wins.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for margin in margins:
        sure = 1 / (1 + math.exp(-min(abs(margin), 700)))
        bins[min(BINS - 1, int((sure - 0.5) * 2 * BINS))].append((sure, margin > 0))
    gaps = (abs(sum(s for s, _ in b) - sum(right for _, right in b)) for b in bins)
    return sum(gaps) / len(margins)


def accuracy(margins: Sequence[float], groups: Sequence[int]) -> tuple[float, float, float]:
    """(share of pairs told rightly, 95% interval): a record counts once, however many pairs it gives; equal is half."""
    right: dict[int, list[float]] = {}
    for margin, group in zip(margins, groups, strict=True):
        right.setdefault(group, []).append(0.5 if margin == 0 else float(margin > 0))
    total = sum(sum(one) / len(one) for one in right.values())
    return total / len(right), *wilson(total, len(right))


def rate_scores(key: str, successes: float, n: int) -> dict[str, float]:
    """A rate and its 95% interval, keyed `<key>`, `<key>_low`, `<key>_high`."""
    low, high = wilson(successes, n)
    return {key: round(successes / n, 4), f"{key}_low": round(low, 4), f"{key}_high": round(high, 4)}


def label_scores(
    prefix: str, truth: Sequence[Sequence[int]], given: Sequence[Sequence[int]], labels: int
) -> dict[str, float]:
    """Accuracy and macro-F1 of labels' numbers below `labels`, each with a 95% interval, keyed `<prefix>_accuracy` etc.

    A record has one label, or one for each of its words. Macro-F1 is the mean over the labels that occur or were given.
    Intervals: Wilson's for one label a record; otherwise percentiles of 1,000 resamples of the records, since a
    record's words are not independent (Efron 1979).
    """
    right, wanted, said = (np.zeros((len(truth), labels)) for _ in range(3))
    for number, (true, found) in enumerate(zip(truth, given, strict=True)):
        for one, other in zip(true, found, strict=True):
            wanted[number, one] += 1
            said[number, other] += 1
            right[number, one] += one == other
    draws = np.random.default_rng(0).multinomial(len(truth), [1 / len(truth)] * len(truth), 1000)
    figures = {"accuracy": _accuracies, "f1": _macro_f1s}
    scores: dict[str, float] = {}
    for name, figure in figures.items():
        value = figure(*(part.sum(0, keepdims=True) for part in (right, wanted, said)))[0]
        low, high = np.percentile(figure(*(draws @ part for part in (right, wanted, said))), (2.5, 97.5))
        scores |= {f"{prefix}_{name}": value, f"{prefix}_{name}_low": low, f"{prefix}_{name}_high": high}
    scores = {name: round(float(value), 4) for name, value in scores.items()}
    single = all(len(true) == 1 for true in truth)
    return scores | rate_scores(f"{prefix}_accuracy", float(right.sum()), len(truth)) if single else scores


def _accuracies(right: Counts, wanted: Counts, _said: Counts) -> Counts:
    found: Counts = right.sum(1) / wanted.sum(1)
    return found


def _macro_f1s(right: Counts, wanted: Counts, said: Counts) -> Counts:
    """2 right / (wanted + said) of each label, averaged over those of which there are any."""
    all_ = wanted + said
    there = (all_ > 0).sum(1)
    found: Counts = (2 * right / np.maximum(all_, 1)).sum(1) / there
    return found


def pair_scores(split: str, who: str, margins: Sequence[float], pairs: Sequence[Any]) -> dict[str, float]:
    """What a card says of a split's pairs, keyed `<who>_<split>_…`: loss, accuracy with interval, calibration error.

    `longer_<split>_accuracy` is what always choosing the longer answer (in tokens) would give.
    """
    groups = [int(pair["group"]) for pair in pairs]
    longer = [float(len(pair["chosen_ids"]) - len(pair["rejected_ids"])) for pair in pairs]
    loss = sum(math.log1p(math.exp(-abs(m))) + max(0.0, -m) for m in margins) / len(margins)
    scores = {f"{who}_{split}_loss": loss}
    if who != "base":
        rate, low, high = accuracy(margins, groups)
        scores |= {
            f"{who}_{split}_accuracy": rate,
            f"{who}_{split}_accuracy_low": low,
            f"{who}_{split}_accuracy_high": high,
            f"{who}_{split}_calibration_error": calibration_error(margins),
            f"longer_{split}_accuracy": accuracy(longer, groups)[0],
            f"{split}_records": len(set(groups)),
        }
    return {name: round(value, 4) for name, value in scores.items()}
