"""How long the advisor's steps take, and how much time is left for them.

What a step will take is reckoned from steps of this run: seconds a question, seconds an example. For the first
training, earlier versions of the same base model tell it; where there are none, a small training is the measurement.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from adapters.base_model import BaseModel
from adapters.lineage import lineage
from adapters.recipes import RECIPES, find
from adapters.registry import Registry
from assistant.advice_files import Tried
from assistant.advice_types import Arm

START_S = 30.0  # of a training, before its first step: libraries, the model
FEWEST_ROWS = 16  # that a training is tried with
GOOD_ROWS = 300  # below these a training takes no less time: see `adapters.recipes`
ROUNDS = 4  # an eighth, a quarter, half, all of the rows
TRAINED = 3  # `Arm.upkeep` of arms with trained weights


class Clock:
    """The time that a run may take; what it took before it was stopped counts."""

    def __init__(self, minutes: float, spent_s: float) -> None:
        self._all_s, self._before_s, self._began = minutes * 60, spent_s, time.monotonic()

    @property
    def spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Below 0 when the budget is spent."""
        return self._all_s - self.spent_s


class Pace:
    """What steps take, from those that were done. `earlier_s`: seconds an example, before any was trained."""

    def __init__(self, arms: Iterable[Arm], earlier_s: float | None = None) -> None:
        self._arms = {arm.name: arm for arm in arms}
        self._earlier = earlier_s
        self._answer: dict[str, list[float]] = {}  # arm → seconds a question, of each time it was asked
        self._make: dict[str, dict[int, float]] = {}  # arm → training rows → seconds

    def learn(self, tried: Tried) -> None:
        """Take in what is known of an arm."""
        counts = {f"validation {rows}": figures.n for rows, figures in tried.validation.items()}
        counts |= {"test": tried.test.n} if tried.test else {}
        self._answer[tried.arm] = [tried.took[step] / n for step, n in counts.items() if n and step in tried.took]
        made = {rows: tried.took.get(f"make {rows}") for rows in tried.ready}
        self._make[tried.arm] = {rows: seconds for rows, seconds in made.items() if seconds is not None}

    def asking_s(self, arm: str, questions: int) -> float:
        """Seconds for so many questions: by the arm's own answers, else as all arms' on average."""
        own = self._answer.get(arm) or [each for known in self._answer.values() for each in known]
        return questions * float(np.mean(own)) if own else 0.0

    @property
    def knows_training(self) -> bool:
        return self._earlier is not None or bool(self._trained())

    def making_s(self, arm: str, rows: int) -> float:
        """Seconds to make an arm of so many rows: by its own trainings, else by the other arms' of its sort."""
        own = self._make.get(arm, {})
        if not self._in_rounds(arm):
            return max((seconds * rows / max(n, 1) for n, seconds in own.items()), default=0.0)
        known = list(own.items()) or self._trained()
        if not known:
            return 0.0 if self._earlier is None else START_S + seen(rows) * self._earlier
        return _line(known, rows)

    def _trained(self) -> list[tuple[int, float]]:
        return [one for arm, made in self._make.items() if self._in_rounds(arm) for one in made.items()]

    def _in_rounds(self, arm: str) -> bool:
        return arm in self._arms and in_rounds(self._arms[arm])


def is_trained(arm: Arm) -> bool:
    """Whether weights of the base model's size are trained for it."""
    return arm.upkeep >= TRAINED


def in_rounds(arm: Arm) -> bool:
    """Whether it takes minutes to make, so that it learns from few records first."""
    return arm.slow or is_trained(arm)


def seen(rows: int) -> int:
    """Examples that a training sees: few rows are passed over several times."""
    return rows * find("sft").passes(rows)


def _line(known: Sequence[tuple[int, float]], rows: int) -> float:
    """Seconds for `rows` by a line through what is known; of one size only, a start is taken off its time."""
    sizes, seconds = np.array([seen(n) for n, _ in known], float), np.array([s for _, s in known])
    if sizes.max() > 1.2 * sizes.min():
        each, start = np.polyfit(sizes, seconds, 1)
        if each > 0:
            return float(max(start, 0.0) + each * seen(rows))
    start = min(START_S, float(seconds.mean()) / 2)
    return start + (float(seconds.mean()) - start) / float(sizes.mean()) * seen(rows)


def earlier_example_s(registry: Registry, base: BaseModel) -> float | None:
    """Seconds an example that is seen, of the latest LoRA of this base model; none if nobody trained one here."""
    latest, found = "", None
    for adapter in registry.adapters():
        for number in registry.versions(adapter):
            card, learnt = registry.card(adapter, number), lineage(registry, adapter, number)
            ours = card.base_sha256 == base.sha256 and card.method == "lora" and card.recipe in RECIPES
            if ours and learnt and learnt.records and card.minutes and card.created > latest:
                passes = card.config.get("epochs") or 1
                latest, found = card.created, card.minutes * 60 / (len(learnt.records) * passes)
    return found


class Ladder(NamedTuple):
    """The rounds of the trained arms."""

    rounds: tuple[int, ...]  # training rows of each, ascending; empty: there is no time for a training
    arms: int  # so many take part, the first ones


def ladder(rows: int, arms: Sequence[str], pace: Pace, questions: int, left_s: float) -> Ladder:
    """As many rows as there is time for, in up to four rounds, with half of the arms falling out after each
    (successive halving; Jamieson and Talwalkar 2016, AISTATS).

    Rather fewer rounds than fewer rows, and rather fewer arms than less than a training is good for.
    """
    for count in range(len(arms), 0, -1):
        fewest = min(rows, GOOD_ROWS if count > 1 else FEWEST_ROWS)
        for top in _downwards(rows, fewest):
            for number in range(ROUNDS, 0, -1):
                rounds = rungs(top, number)
                going = accumulate(rounds[1:], lambda n, _: -(-n // 2), initial=count)
                needed = sum(
                    n * _mean_s(arms[:count], size, pace, questions) for n, size in zip(going, rounds, strict=True)
                )
                if needed <= left_s:
                    return Ladder(rounds, count)
    return Ladder((), 0)


def rungs(rows: int, rounds: int = ROUNDS) -> tuple[int, ...]:
    """An eighth, a quarter, half and all of so many rows (the last `rounds` of them), without those that are too few
    to learn from."""
    sizes = [rows >> (rounds - 1 - number) for number in range(rounds)]
    return tuple(size for size in sizes if size >= FEWEST_ROWS) or (rows,)


def _downwards(rows: int, fewest: int) -> list[int]:
    """From all rows down to the fewest, by fifths."""
    found = [rows]
    while found[-1] * 4 // 5 > fewest:
        found.append(found[-1] * 4 // 5)
    return found if found[-1] == fewest else [*found, fewest]


def _mean_s(arms: Sequence[str], rows: int, pace: Pace, questions: int) -> float:
    return float(np.mean([pace.making_s(arm, rows) + pace.asking_s(arm, questions) for arm in arms]))
