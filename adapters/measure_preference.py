"""Measure `preference`: does a version want what people want, by people's held-out choices and by a reward model?

Likelihoods: the share of records in which the version finds the chosen answer likelier than the rejected one, by the
mean over its tokens, and by DPO's implicit reward, the log-probability less the base model's (Rafailov 2023, eq. 5).
The reward model's agreement with the same choices stands beside that of taking the longer answer; adapters/judging.py
says how it then compares the version's own answers with the others'.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field

from adapters.exam_types import Arm, Item, Messages, Part, Room, Scores
from adapters.judging import Choice, Judge, own_answers
from adapters.measure_data import last_question, means
from adapters.measure_pieces import AskOptions, held_out, messages, options, preferred
from data.dataset import Row
from data.errors import DataError
from data.exporting_shapes import pairs
from data.records import PreferenceRecord, RankingRecord

Nats = dict[tuple[str, str], float]  # by question and answer
Margin = Callable[[Messages, str, str], float]  # how much better the first of two answers is


class PreferenceOptions(AskOptions):
    """Options of the measure."""

    judge_bar: float = Field(
        0.5, ge=0, lt=1, description="that the reward model's agreement is above, interval and all"
    )
    likelihood: bool = True  # also ask which answer the version finds likelier
    own_answers: bool = True  # also let the reward model compare the version's own answers


class Judged(NamedTuple):
    """A record with every two of its answers of which people found one better."""

    row: Row
    asked: list[dict[str, object]]
    pairs: list[tuple[str, str]]  # the better one first


def measure(room: Room, part: Part) -> list[Scores]:
    """All figures of preference that can be had. Raises `BrogueError` where the data holds no choices."""
    chosen = options(part, PreferenceOptions)
    records = judged(part, held_out(room, part))
    items = [Item(last_question(one.asked), group=one.row.group) for one in records]
    found = _likelihoods(room, part, records, items) if chosen.likelihood else []
    if (rewards := _rewards(room, records)) is None:
        room.say(f"'{part.prefix}' is without a reward model's figures, as the exam has none; name one with --judge")
        return found
    choices = [
        Choice(number, rewards(one.asked, better, worse), len(better) - len(worse))
        for number, one in enumerate(records) for better, worse in one.pairs
    ]  # fmt: skip
    judge = Judge(room, choices, chosen.judge_bar)
    found += _agreement(part, judge, records, items, rewards)
    return found + (own_answers(room, part, judge, [one.row for one in records], chosen) if chosen.own_answers else [])


def judged(part: Part, rows: Sequence[Row]) -> list[Judged]:
    """The records with a choice in them. Raises `DataError` if there is none."""
    kinds = {row.record.kind for row in rows if not isinstance(row.record, PreferenceRecord | RankingRecord)}
    if kinds:
        raise DataError(
            f"'{part.prefix}' wants preference or ranking records; {part.data} holds {', '.join(sorted(kinds))} ones"
        )
    found = [Judged(row, messages(row.record), [pair[1:] for pair in pairs(row.record)]) for row in rows]
    there = [one for one in found if one.pairs]
    if not there:
        raise DataError(f"'{part.prefix}' wants records in which one answer is better; {part.data} holds only ties")
    return there


def share(one: Judged, margin: Margin) -> float:
    """The share of a record's pairs in which the better answer has the higher value; equal is half."""
    return sum(preferred(margin(one.asked, *pair)) for pair in one.pairs) / len(one.pairs)


def _texts(records: Sequence[Judged]) -> tuple[list[Messages], list[str]]:
    """Each answer of each record once, with what it answers."""
    both = [(one.asked, text) for one in records for text in dict.fromkeys(t for pair in one.pairs for t in pair)]
    return [asked for asked, _ in both], [text for _, text in both]


def _key(asked: Messages, text: str) -> tuple[str, str]:
    return repr(asked), text


def _likelihoods(room: Room, part: Part, records: Sequence[Judged], items: Sequence[Item]) -> list[Scores]:
    whole, each = _nats(room, records)
    read = [n for n, one in enumerate(records) if all(_key(one.asked, t) in each[a] for p in one.pairs for t in p
                                                      for a in room.arms)]  # fmt: skip
    if len(read) < len(records):
        room.say(f"{len(records) - len(read)} of {len(records)} records are longer than the model's context: left out")
    if not read:
        return []
    records, items = [records[n] for n in read], [items[n] for n in read]

    def likelier(arm: Arm) -> Margin:
        return lambda a, better, worse: each[arm][_key(a, better)] - each[arm][_key(a, worse)]

    def rewarded(arm: Arm) -> Margin:
        gain = {key: nats - whole["base"][key] for key, nats in whole[arm].items() if key in whole["base"]}
        return lambda a, better, worse: gain[_key(a, better)] - gain[_key(a, worse)]

    likelihood = {arm: [share(one, likelier(arm)) for one in records] for arm in room.arms}
    found = [means(f"{part.prefix}.likelihood", "higher", items, likelihood,
                   note="share of people's choices that it finds likelier, per token")]  # fmt: skip
    if "base" in room.arms:
        trained = [arm for arm in room.arms if arm != "base"]
        rose: dict[Arm, list[float]] = {arm: [share(one, rewarded(arm)) for one in records] for arm in trained}
        note = "share of people's choices whose likelihood rose more against the base model's"
        found.append(means(f"{part.prefix}.implicit_reward", "higher", items, rose, note=note))
    return found


def _nats(room: Room, records: Sequence[Judged]) -> tuple[dict[Arm, Nats], dict[Arm, Nats]]:
    """(log-probability of each answer that the context has room for, the same per token), of each arm."""
    asked, texts = _texts(records)
    whole: dict[Arm, Nats] = {}
    each: dict[Arm, Nats] = {}
    for arm in room.arms:
        tokens = zip(asked, texts, room.likelihoods(arm, asked, texts), strict=True)
        read = [(_key(prompt, text), sum(one), len(one)) for prompt, text, one in tokens if one]
        whole[arm] = {key: nats for key, nats, _ in read}
        each[arm] = {key: nats / count for key, nats, count in read}
    return whole, each


def _rewards(room: Room, records: Sequence[Judged]) -> Margin | None:
    """The reward model's margins, or none without one."""
    asked, texts = _texts(records)
    if room.judge() is None or (scores := room.rewards(asked, texts)) is None:
        return None
    known = {_key(prompt, text): score for prompt, text, score in zip(asked, texts, scores, strict=True)}
    return lambda a, better, worse: known[_key(a, better)] - known[_key(a, worse)]


def _agreement(part: Part, judge: Judge, records: Sequence[Judged], items: Sequence[Item],
               rewards: Margin) -> list[Scores]:  # fmt: skip
    """How often the reward model chooses as people did, beside always taking the longer answer. No arm's figures."""
    margins: dict[str, tuple[Margin, str]] = {
        "judge_agreement": (rewards, f"{judge.name} on the same choices: {judge.standing}"),
        "longer_agreement": (lambda _, better, worse: len(better) - len(worse), "taking the longer answer"),
    }
    return [
        means(f"{part.prefix}.{name}", "neither", items, {"version": [share(r, margin) for r in records]}, note=note)
        for name, (margin, note) in margins.items()
    ]
