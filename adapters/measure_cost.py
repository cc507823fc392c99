"""Measure `cost`: tokens, seconds and money for an answer.

Prices stand under [prices] in brogue.toml: by the token, and by the machine's hour, which the answers share that are
written at the same time. Seconds depend on what else the machine did, so no rule may rest on them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Answer, Arm, Item, Part, Parts, Room, Scores
from adapters.measure_data import means
from adapters.measure_pieces import AskOptions, held_out, item, messages, options
from adapters.measure_task_labels import LabelOptions, known_labels, label_sampling
from data.records import LabelledRecord
from data.settings import PriceSettings

LOADED = "beside other questions, and with what else the machine did then"


def measure(room: Room, part: Part) -> list[Scores]:
    """Tokens of question and answer, seconds (median and 95th percentile), answers that were cut, and the price."""
    rows = held_out(room, part)
    asked = [messages(row.record) for row in rows]
    records = [row.record for row in rows if isinstance(row.record, LabelledRecord)]
    if records:  # asked as they are for `task`, so that they are asked once
        chosen = options(part, LabelOptions)
        sampling = label_sampling(records, known_labels(room, part, rows, chosen), chosen)
    else:
        sampling = options(part, AskOptions).sampling
    given = {arm: room.answers(arm, asked, **sampling) for arm in room.arms}
    items = [item(row, prompt) for row, prompt in zip(rows, asked, strict=True)]
    return [*_means(part, given, items), *_seconds(part, given, items), *_price(room, part, given, items)]


def _means(part: Part, given: dict[Arm, list[Answer]], items: Sequence[Item]) -> list[Scores]:
    figures: dict[str, tuple[str, Callable[[Answer], float]]] = {
        "prompt_tokens": ("tokens", lambda a: a.prompt_tokens),
        "answer_tokens": ("tokens", lambda a: a.completion_tokens),
        "cut": ("share", lambda a: float(a.finish_reason == "length")),
    }
    return [
        means(f"{part.prefix}.{name}", "lower", items, {a: [of(one) for one in some] for a, some in given.items()},
              unit=unit)
        for name, (unit, of) in figures.items()
    ]  # fmt: skip


def _seconds(part: Part, given: dict[Arm, list[Answer]], items: Sequence[Item]) -> list[Scores]:
    """How often each duration occurred is what adds up: any resample's percentiles can be read off it."""
    took = {arm: [round(one.seconds, 3) for one in some] for arm, some in given.items()}
    every = sorted({second for some in took.values() for second in some})
    parts = {arm: (np.array(some)[:, None] == np.array(every)).astype(np.float64) for arm, some in took.items()}
    return [
        Scores(f"{part.prefix}.seconds_p{percent}", "seconds", "lower", parts, items, percentile(every, percent),
               LOADED, decides=False)
        for percent in (50, 95)
    ]  # fmt: skip


def percentile(values: Sequence[float], percent: int) -> Callable[[Parts], NDArray[np.float64]]:
    """A function of how often each of `values` (sorted) occurred: the smallest that `percent` of all do not exceed."""
    known = np.array(values)

    def value(counts: Parts) -> NDArray[np.float64]:
        reached = np.cumsum(counts, axis=1) >= counts.sum(1, keepdims=True) * percent / 100 - 1e-9
        found: NDArray[np.float64] = known[reached.argmax(1)]
        return found

    return value


def _price(room: Room, part: Part, given: dict[Arm, list[Answer]], items: Sequence[Item]) -> list[Scores]:
    prices = room.settings.prices
    if not prices.known:
        room.say(f"'{part.prefix}' is without a price, as there is none under [prices] in brogue.toml")
        return []
    found = {arm: [1000 * price(one, prices) for one in some] for arm, some in given.items()}
    by_time = bool(prices.machine_per_hour)
    return [means(f"{part.prefix}.price_per_1000", "lower", items, found, unit=prices.currency or "money",
                  note=f"its seconds are {LOADED}" if by_time else "", decides=not by_time)]  # fmt: skip


def price(answer: Answer, prices: PriceSettings) -> float:
    """What an answer cost, in the table's currency."""
    return cost(answer.prompt_tokens, answer.completion_tokens, answer.seconds, prices)


def cost(prompt_tokens: float, answer_tokens: float, seconds: float, prices: PriceSettings) -> float:
    """What so many tokens and seconds cost, in the table's currency."""
    tokens = prompt_tokens * prices.prompt_per_million + answer_tokens * prices.answer_per_million
    return tokens / 1e6 + seconds / 3600 * prices.machine_per_hour / (prices.answers_at_once or 1)
