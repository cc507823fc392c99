"""A reward model as the judge of a version's own answers: whether it may decide, and what it says beside the length.

Reward models like long answers more than people do (Singhal et al. 2023, arXiv:2310.03716), so a win is corrected:
people's own held-out choices are fitted with the reward's margin and the difference in length as covariates (logistic
regression, the form of AlpacaEval 2: Dubois et al. 2024, arXiv:2404.04475, with lengths as tanh of the difference over
its deviation). What length says beyond the reward is added to the reward: nothing where people and judge agree on it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Arm, Item, Part, Parts, Room, Scores
from adapters.held_out import accuracy
from adapters.measure_data import means
from adapters.measure_pieces import AskOptions, item, messages, preferred
from adapters.recipes import SCORED
from data.dataset import Row

FLATNESS = 0.1  # ridge of the regression on length, in tanh's units: few answers of other lengths say little
MOST = 2.0  # deviations of reward that length may be worth
FREE = 10.0  # times as large a covariate, so that a penalty on the reward's weight hardly counts


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
        self.deviation = math.sqrt(np.mean([float(c.length) ** 2 for c in choices]))
        self.per_length = length_worth(choices, self.deviation) if self.decides else 0.0
        figures = f"{self.agreement:.2f} [{self.low:.2f}, {self.high:.2f}]"
        why = f"not above {bar}" if self.low <= bar else f"below 'the longer one' ({self.longer:.2f})"
        self.standing = f"{figures}, may decide" if self.decides else f"{figures}, may not decide: {why}"
        trained = room.card("version")
        if trained is not None and trained.recipe in SCORED and trained.config.get("reward") == self.name:
            self.standing += "; the version was trained to please it"

    def stretched(self, length: float) -> float:
        """A difference in length, in characters, as between -1 and 1."""
        return math.tanh(length / self.deviation) if self.deviation else 0.0

    def corrected(self, reward: float, length: float) -> float:
        """A margin of reward with what length says beyond it; equal rewards stay a tie."""
        return reward + self.per_length * self.stretched(length) if reward else 0.0


def length_worth(choices: Sequence[Choice], deviation: float) -> float:
    """What being longer is worth to people beyond the judge's reward, in its units; below 0: it overrates length.

    Only the weight of the length is held down (a Gaussian prior of deviation 1), so what both explain is the reward's.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    rewards = np.array([c.reward for c in choices])
    scale = math.sqrt(float(np.mean(rewards**2)))
    if not scale or not deviation:
        return 0.0
    each = np.stack([FREE * rewards / scale, np.tanh(np.array([c.length for c in choices]) / deviation)], axis=1)
    counts = np.bincount([c.record for c in choices])
    weights = np.array([1 / counts[c.record] for c in choices])  # a record counts once
    both = np.concatenate([each, -each])  # either answer may be named first
    won = np.repeat([1, 0], len(each))
    fit = LogisticRegression(fit_intercept=False).fit(both, won, np.tile(weights / 2, 2))
    by_reward, by_length = fit.coef_[0]
    if by_reward <= 0:
        return 0.0
    return float(np.clip(by_length / (FREE * by_reward), -MOST, MOST)) * scale


def own_answers(room: Room, part: Part, judge: Judge, rows: Sequence[Row], chosen: AskOptions) -> list[Scores]:
    """How the judge scores the arms' own answers, and how often it prefers the version's: a tie is half."""
    asked = {repr(messages(row.record)): (row, messages(row.record)) for row in rows}  # each question once
    prompts = [prompt for _, prompt in asked.values()]
    texts = {arm: [a.text for a in room.answers(arm, prompts, **chosen.sampling)] for arm in room.arms}
    rewards: dict[Arm, list[float]] = {arm: room.rewards(prompts, some) or [] for arm, some in texts.items()}
    every = [item(row, prompt, {arm: some[n] for arm, some in texts.items()})
             for n, (row, prompt) in enumerate(asked.values())]  # fmt: skip
    found = [means(f"{part.prefix}.reward", "higher", every, rewards, unit="reward", note=f"of {judge.name}",
                   decides=judge.decides)]  # fmt: skip
    for arm in [arm for arm in room.arms if arm != "version"]:
        items = [item(row, prompt, {a: texts[a][n] for a in ("version", arm)})
                 for n, (row, prompt) in enumerate(asked.values())]  # fmt: skip
        found += _wins(part, judge, arm, items, texts, rewards)
    return found


def _wins(part: Part, judge: Judge, arm: Arm, items: Sequence[Item], texts: Mapping[Arm, Sequence[str]],
          rewards: Mapping[Arm, Sequence[float]]) -> list[Scores]:  # fmt: skip
    margins = np.subtract(rewards["version"], rewards[arm]).tolist()
    lengths = [len(mine) - len(other) for mine, other in zip(texts["version"], texts[arm], strict=True)]
    name = f"{part.prefix}.win_rate" + ("_over_base" if arm == "base" else "")
    note = f"by {judge.name}, whose agreement with people is {judge.standing}"
    corrected = [preferred(judge.corrected(*both)) for both in zip(margins, lengths, strict=True)]
    plain = [preferred(margin) for margin in margins]
    if arm == "base":
        return [means(name, "higher", items, {"version": corrected}, note=note, decides=judge.decides)]
    by_length = np.array([[1, won, x, x * won, x * x]
                          for won, x in zip(plain, map(judge.stretched, lengths), strict=True)])  # fmt: skip
    return [
        means(name, "higher", items, {"version": corrected}, decides=judge.decides,
              note=f"{note}; a longer answer's reward counts {judge.per_length:+.2f}, as people's choices say"),
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
