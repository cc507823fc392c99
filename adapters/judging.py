"""A reward model as the judge of a version's own answers: whether it may decide, and what it says beside the length.

Reward models like long answers more than people do (Singhal et al. 2023, arXiv:2310.03716), so a win is corrected:
people's own held-out choices are fitted with the reward's margin and the difference in length as covariates (logistic
regression, the form of AlpacaEval 2: Dubois et al. 2024, arXiv:2404.04475, with lengths as tanh of the difference over
its deviation). What length says beyond the reward is added to the reward: nothing where people and judge agree on it.
The fit is made anew in every resample, by going through a grid, so the intervals know how little few choices say.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Arm, Item, Part, Parts, Room, Scores
from adapters.held_out import accuracy
from adapters.measure_data import means
from adapters.measure_pieces import AskOptions, item, messages, preferred
from adapters.recipes import SCORED
from data.dataset import Row

FLATNESS = 0.1  # ridge of the regression on length, in tanh's units: few answers of other lengths say little
# What is tried: what being longer is worth, in deviations of the judge's margins; how sure these margins make people.
WORTHS = np.linspace(-2, 2, 41)
SURENESS = 2.0 ** np.arange(-3, 5)
# Only the length's own weight is held down (a Gaussian of deviation 1), so what both explain is the reward's.
PRIOR = -0.5 * (SURENESS[:, None] * WORTHS).ravel() ** 2


class Choice(NamedTuple):
    """Two answers, of which people found the first better."""

    record: int
    reward: float  # the first's less the second's
    length: int  # likewise, in characters


class Judge:
    """A reward model and what people's held-out choices say of it."""

    def __init__(self, room: Room, choices: Sequence[Choice], bar: float) -> None:
        card = room.judge()
        assert card is not None  # the measure has looked
        self.name = card.name
        groups = [choice.record for choice in choices]
        self.agreement, self.low, self.high = accuracy([c.reward for c in choices], groups)
        self.longer = accuracy([float(c.length) for c in choices], groups)[0]
        self.decides = self.low > bar and self.agreement >= self.longer
        self.deviation = _root_mean_square([c.length for c in choices])
        self.scale = _root_mean_square([c.reward for c in choices])
        self.evidence = self._evidence(choices)  # [records, what is tried]
        self.per_length = self.scale * float(WORTHS[best(self.evidence.sum(0, keepdims=True))[0]])
        figures = f"{self.agreement:.2f} [{self.low:.2f}, {self.high:.2f}]"
        why = f"not above {bar}" if self.low <= bar else f"below 'the longer one' ({self.longer:.2f})"
        self.standing = f"{figures}, may decide" if self.decides else f"{figures}, may not decide: {why}"
        trained = room.card("version")
        if trained is not None and trained.recipe in SCORED and trained.config.get("reward") == self.name:
            self.standing += "; the version was trained to please it"

    def stretched(self, length: float) -> float:
        """A difference in length, in characters, as between -1 and 1."""
        return math.tanh(length / self.deviation) if self.deviation else 0.0

    def wins(self, reward: float, length: float) -> NDArray[np.float64]:
        """Is an answer that has so much more preferred, for each of `WORTHS`? Equal rewards stay a tie."""
        if not reward:
            return np.full(len(WORTHS), 0.5)
        return 0.5 + 0.5 * np.sign(reward + self.scale * WORTHS * self.stretched(length))

    def _evidence(self, choices: Sequence[Choice]) -> Parts:
        """How likely each record's choices are, as logarithms, for all that is tried. A record counts once.

        Of a judge that may not decide it is 0, so nothing is corrected by it.
        """
        found = np.zeros((1 + max(c.record for c in choices), len(PRIOR)))
        counts = np.bincount([c.record for c in choices])
        for choice in choices if self.decides and self.scale else ():
            margin = choice.reward / self.scale + WORTHS * self.stretched(choice.length)
            found[choice.record] -= np.logaddexp(0, -np.outer(SURENESS, margin)).ravel() / counts[choice.record]
        return found


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def best(evidence: Parts) -> NDArray[np.int64]:
    """The number of the worth of length that goes best with the sums of evidence [draws, what is tried]."""
    found: NDArray[np.int64] = (evidence + PRIOR).argmax(1) % len(WORTHS)
    return found


def win_rate(sums: Parts) -> NDArray[np.float64]:
    """From sums of (1, wins for each of `WORTHS`, evidence): the share of wins at what length is worth by these."""
    count = len(WORTHS)
    at = best(sums[:, 1 + count :])
    found: NDArray[np.float64] = sums[np.arange(len(sums)), 1 + at] / np.maximum(sums[:, 0], 1e-12)
    return found


def own_answers(room: Room, part: Part, judge: Judge, rows: Sequence[Row], chosen: AskOptions) -> list[Scores]:
    """How the judge scores the arms' own answers, and how often it prefers the version's: a tie is half."""
    asked: dict[str, tuple[Row, list[dict[str, Any]], list[int]]] = {}  # each question once, with its records
    for number, row in enumerate(rows):
        turns = messages(row.record)
        asked.setdefault(repr(turns), (row, turns, []))[2].append(number)
    prompts = [prompt for _, prompt, _ in asked.values()]
    evidence = np.stack([judge.evidence[numbers].sum(0) for *_, numbers in asked.values()])
    texts = {arm: [a.text for a in room.answers(arm, prompts, **chosen.sampling)] for arm in room.arms}
    rewards: dict[Arm, list[float]] = {arm: room.rewards(prompts, some) or [] for arm, some in texts.items()}
    every = [item(row, prompt, {arm: some[n] for arm, some in texts.items()})
             for n, (row, prompt, _) in enumerate(asked.values())]  # fmt: skip
    found = [means(f"{part.prefix}.reward", "higher", every, rewards, unit="reward", note=f"of {judge.name}",
                   decides=judge.decides)]  # fmt: skip
    for arm in [arm for arm in room.arms if arm != "version"]:
        items = [item(row, prompt, {a: texts[a][n] for a in ("version", arm)})
                 for n, (row, prompt, _) in enumerate(asked.values())]  # fmt: skip
        found += _wins(part, judge, arm, items, texts, rewards, evidence)
    return found


def _wins(part: Part, judge: Judge, arm: Arm, items: Sequence[Item], texts: Mapping[Arm, Sequence[str]],
          rewards: Mapping[Arm, Sequence[float]], evidence: Parts) -> list[Scores]:  # fmt: skip
    margins = np.subtract(rewards["version"], rewards[arm]).tolist()
    lengths = [len(mine) - len(other) for mine, other in zip(texts["version"], texts[arm], strict=True)]
    name = f"{part.prefix}.win_rate" + ("_over_base" if arm == "base" else "")
    note = f"by {judge.name}, whose agreement with people is {judge.standing}"
    won = np.stack([judge.wins(*both) for both in zip(margins, lengths, strict=True)])
    parts: Parts = np.concatenate([np.ones((len(won), 1)), won, evidence], axis=1)
    if arm == "base":
        return [Scores(name, "share", "higher", {"version": parts}, items, win_rate, note, judge.decides)]
    plain = [preferred(margin) for margin in margins]
    by_length = np.array([[1, won, x, x * won, x * x]
                          for won, x in zip(plain, map(judge.stretched, lengths), strict=True)])  # fmt: skip
    return [
        Scores(name, "share", "higher", {"version": parts}, items, win_rate,
               f"{note}; a longer answer's reward counts {judge.per_length:+.2f}, as people's choices say",
               judge.decides),
        means(f"{name}_plain", "higher", items, {"version": plain}, note="lengths uncorrected", decides=judge.decides),
        Scores(f"{name}_equal_length", "share", "higher", {"version": by_length}, items, at_equal_length,
               "as if both answers were equally long", judge.decides),
    ]  # fmt: skip


def at_equal_length(sums: Parts) -> NDArray[np.float64]:
    """The win rate at a difference in length of 0, from sums of (1, won, x, x·won, x²): a regression's intercept."""
    won, x, both, squares = (sums[:, 1:] / np.maximum(sums[:, :1], 1e-12)).T
    slope = (both - x * won) / (squares - x * x + FLATNESS)
    found: NDArray[np.float64] = np.clip(won - slope * x, 0, 1)
    return found
