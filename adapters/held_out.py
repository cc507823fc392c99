"""How well the better of two answers is told, on pairs that were held out. Pure numbers."""

import math
from collections.abc import Sequence
from typing import Any

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
