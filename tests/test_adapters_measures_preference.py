"""The measure `preference`: people's held-out choices by likelihood and by a reward model, and who may judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from adapters.exam_statistics import measured
from adapters.exam_types import Arm, Item, Measured, Messages, Part, Scores
from adapters.held_out import wilson
from adapters.judging import Choice, Judge, at_equal_length, win_rate
from adapters.measure_preference import measure
from data.errors import BrogueError
from data.importing import stream_file
from data.records import AnyRecord, Message, PreferenceRecord, RankingRecord, RatedRecord
from tests.exam_room import ScriptedRoom, card, row


def pair(number: int, chosen: str = "good", rejected: str = "bad", tie: bool = False) -> PreferenceRecord:
    asked = Message(role="user", content=f"Question {number}?")
    return PreferenceRecord(messages=(asked,), chosen=chosen, rejected=rejected, tie=tie)


def taken(room: ScriptedRoom, **options: object) -> dict[str, Measured]:
    part = Part(measure="preference", data="d", options=options)
    return {one.name: measured(one, room.arms) for one in measure(room, part)}


def rows(records: Sequence[AnyRecord]) -> list[object]:
    return [row(record) for record in records]


def test_likelihood_is_per_token_and_the_implicit_reward_is_against_the_base_model() -> None:
    nats: dict[tuple[Arm, str], list[float]] = {
        # The longer answer is likelier a token, though not as a whole.
        ("version", "good"): [-1.0, -1.0, -1.0], ("version", "bad"): [-2.0],
        ("against", "good"): [-3.0, -3.0, -3.0], ("against", "bad"): [-2.0],
        # Beside the base model's both versions find "good" likelier, and the rejected one as likely as before.
        ("base", "good"): [-4.0, -4.0, -4.0], ("base", "bad"): [-2.0],
    }  # fmt: skip
    room = ScriptedRoom(rows=rows([pair(0), pair(1)]), likely=lambda arm, _, text: nats[arm, text])
    found = taken(room)
    shares = {arm: found["preference.likelihood"].arms[arm].value for arm in room.arms}
    assert shares == {"version": 1, "against": 0, "base": 0}
    assert {arm: i.value for arm, i in found["preference.implicit_reward"].arms.items()} == {"version": 1, "against": 1}
    assert "preference.win_rate" not in found
    assert "no reward model" not in room.said[0]
    assert "--judge" in room.said[0]


def test_what_the_context_has_no_room_for_is_left_out() -> None:
    def likely(_: Arm, __: object, text: str) -> list[float]:
        return [] if text == "endless" else [-1.0 if text == "good" else -2.0]

    room = ScriptedRoom(rows=rows([pair(0), pair(1, rejected="endless")]), likely=likely)
    found = taken(room)["preference.likelihood"]
    assert (found.arms["version"].value, found.n) == (1, 1)
    assert "1 of 2 records are longer" in room.said[0]


def test_a_version_that_is_its_own_base_model_has_half() -> None:
    room = ScriptedRoom(rows=rows([pair(0), pair(1)]), likely=lambda *_: [-1.0])
    found = taken(room)
    assert found["preference.implicit_reward"].arms["version"].value == 0.5
    assert found["preference.likelihood"].arms["version"].value == 0.5


def test_a_ranking_counts_once_however_many_answers_it_has() -> None:
    asked = (Message(role="user", content="Which?"),)
    ranking = RankingRecord(messages=asked, replies=("a", "b", "c", "d"), ranks=(0, 1, 2, 2))
    order = {"a": -1.0, "c": -2.0, "b": -3.0, "d": -4.0, "good": -9.0, "bad": -1.0}
    room = ScriptedRoom(rows=rows([ranking, pair(0)]), likely=lambda _, __, text: [order[text]])
    found = taken(room)
    # Of a > b, a > c, a > d, b > c, b > d (c and d are tied) four are told; of the pair none.
    assert found["preference.likelihood"].arms["version"].value == pytest.approx((4 / 5 + 0) / 2)
    assert found["preference.likelihood"].n == 2


LONG = "good " * 20


def judged(
    reward: dict[str, float], records: Sequence[AnyRecord], said: dict[str, str], **more: object
) -> ScriptedRoom:
    def says(arm: Arm, _: Messages) -> str:
        return said[arm]

    return ScriptedRoom(rows=rows(records), says=says, reward=lambda _, text: reward[text], **more)  # type: ignore[arg-type]


SAID = {"version": "mine", "against": "its", "base": "hm"}


def test_a_reward_model_that_agrees_with_people_decides_between_the_versions_own_answers() -> None:
    reward = {"good": 2.0, "bad": 0.0, "mine": 1.0, "its": 0.5, "hm": 1.0}
    room = judged(reward, [pair(n) for n in range(30)], SAID)
    found = taken(room, likelihood=False)
    assert found["preference.judge_agreement"].arms["version"].value == 1
    assert found["preference.judge_agreement"].better == "neither"
    assert "may decide" in found["preference.judge_agreement"].note
    win = found["preference.win_rate"]
    assert (win.arms["version"].value, win.decides, win.n) == (1, True, 30)
    assert found["preference.win_rate_over_base"].arms["version"].value == 0.5  # equal rewards: a tie is half
    assert set(win.arms) == {"version"}
    assert found["preference.reward"].over["against"].value == 0.5


@pytest.mark.parametrize(
    ("right", "chosen", "why"),
    [
        (16, "good", "may not decide: not above 0.5"),  # 16 of 30: the interval reaches below a half
        (25, LONG, r"may not decide: below 'the longer one' \(1.00\)"),
    ],
)
def test_a_reward_model_that_does_not_agree_enough_may_not_decide(right: int, chosen: str, why: str) -> None:
    records = [pair(n, chosen=chosen) for n in range(right)]
    records += [pair(n, chosen=chosen, rejected="ugly") for n in range(right, 30)]
    reward = {"good": 1.0, LONG: 1.0, "bad": 0.0, "ugly": 2.0, "mine": 1.0, "its": 0.0, "hm": 0.0}
    found = taken(judged(reward, records, SAID), likelihood=False)
    assert found["preference.win_rate"].arms["version"].value == 1
    assert not any(one.decides for name, one in found.items() if "win_rate" in name)
    assert why.replace(r"\(", "(").replace(r"\)", ")") in found["preference.win_rate"].note


def test_the_bar_can_be_raised() -> None:
    records = [pair(n, "ok") for n in range(40)] + [pair(n, "ok", "ugly") for n in range(40, 50)]
    reward = {"ok": 1.0, "bad": 0.0, "ugly": 2.0, "mine": 1.0, "its": 0.0, "hm": 0.0}
    assert taken(judged(reward, records, SAID), likelihood=False)["preference.win_rate"].decides
    assert not taken(judged(reward, records, SAID), likelihood=False, judge_bar=0.7)["preference.win_rate"].decides


def test_a_judge_that_likes_length_more_than_people_do_is_corrected() -> None:
    # People go by kindness only; the judge gives a point for it, and another one and a half for each 100 characters.
    random, records, rewards = np.random.default_rng(0), [], {}
    for n in range(200):
        kind, rude = (f"{word} {n} " + "x" * int(random.integers(0, 100)) for word in ("kind", "rude"))
        records.append(pair(n, chosen=kind, rejected=rude))
        rewards |= {kind: 1 + len(kind) * 0.015, rude: len(rude) * 0.015}
    said = {"version": "rude " + "x" * 90, "against": "kind", "base": "kind"}  # longer, but not better
    rewards |= {said["version"]: len(said["version"]) * 0.015, "kind": 1 + 4 * 0.015}
    found = taken(judged(rewards, records, said), likelihood=False)
    assert found["preference.win_rate_plain"].arms["version"].value == 1
    assert found["preference.win_rate"].arms["version"].value == 0
    assert "counts -" in found["preference.win_rate"].note


def test_a_liking_for_short_answers_that_people_have_too_is_no_error_of_the_judge() -> None:
    random = np.random.default_rng(1)
    choices = []
    for n in range(300):
        length = int(random.integers(-100, 100))
        choices.append(Choice(n, -length * 0.02 * (1 if length < 0 else -1), -abs(length)))  # the shorter one, always
    room = ScriptedRoom(judge=card("judge@1", recipe="reward"))
    judge = Judge(room, choices, 0.5)
    assert judge.decides
    assert judge.per_length == 0


def test_at_equal_length_is_the_intercept_of_the_regression_on_length() -> None:
    random = np.random.default_rng(2)
    x, won = random.uniform(-1, 1, 4000), random.uniform(0, 1, 4000)
    won = (won < 0.4 + 0.3 * x).astype(float)
    parts = np.stack([np.ones_like(x), won, x, x * won, x * x], axis=1)
    sums = parts.sum(0, keepdims=True)
    assert at_equal_length(sums)[0] == pytest.approx(0.4, abs=0.03)
    longer = parts[x > 0].sum(0, keepdims=True)  # a version whose answers are all longer gains no more by it
    assert abs(at_equal_length(longer)[0] - 0.4) < abs(won[x > 0].mean() - 0.4)


def test_a_version_that_was_trained_to_please_the_judge_is_marked() -> None:
    cards = {"version": card("acme@2", recipe="ppo", config={"reward": "judge@1"}), "against": card("acme@1")}
    reward = {"good": 2.0, "bad": 0.0, "mine": 1.0, "its": 0.5, "hm": 1.0}
    room = judged(reward, [pair(n) for n in range(30)], SAID, cards=cards)
    assert "trained to please it" in taken(room, likelihood=False)["preference.win_rate"].note


def test_records_without_a_choice_are_one_line() -> None:
    with pytest.raises(BrogueError, match="d holds only ties"):
        measure(ScriptedRoom(rows=rows([pair(0, tie=True)])), Part(measure="preference", data="d"))
    chat = pair(0).model_dump(exclude={"kind", "chosen", "rejected", "tie"})["messages"]
    rated = RatedRecord(messages=(*chat, {"role": "assistant", "content": "x"}), good=True)
    with pytest.raises(BrogueError, match="wants preference or ranking records; d holds rated ones"):
        measure(ScriptedRoom(rows=rows([rated])), Part(measure="preference", data="d"))


def test_a_version_that_is_only_longer_is_not_called_better_by_a_judge_that_likes_length() -> None:
    random, room = np.random.default_rng(3), ScriptedRoom(judge=card("judge@1", recipe="reward"))
    called = dict.fromkeys(("corrected", "plain"), 0)
    for _ in range(20):
        # People go by quality; the judge sees it with noise, and likes length as much.
        quality, length = random.normal(0, 1.2, 100), random.normal(0, 1, 100)
        side = np.where(random.random(100) < 1 / (1 + np.exp(-2 * quality)), 1, -1)
        seen = quality + random.normal(0, 0.5, 100) + length
        pairs = [Choice(n, float(side[n] * seen[n]), int(100 * side[n] * length[n])) for n in range(100)]
        judge = Judge(room, pairs, 0.5)
        longer = random.normal(0.7, 0.7, 100)
        margins = random.normal(0, 1.2, 100) + random.normal(0, 0.5, 100) + longer
        won = np.stack([judge.wins(*both) for both in zip(margins.tolist(), (100 * longer).tolist(), strict=True)])
        parts = np.concatenate([np.ones((100, 1)), won, judge.evidence], axis=1)
        items = [Item(f"Question {n}?") for n in range(100)]
        found = measured(Scores("win", "share", "higher", {"version": parts}, items, win_rate), ("version",))
        called["corrected"] += found.arms["version"].low > 0.5
        called["plain"] += wilson(float((margins > 0).sum()), 100)[0] > 0.5
    # Each is called so 1 time in 40 by chance: 4 of 20 would be a wonder (p < 0.002); uncorrected it is nearly always.
    assert called["corrected"] <= 3
    assert called["plain"] >= 12


@pytest.mark.data
def test_on_peoples_rankings_the_longer_answers_share_is_what_counting_gives(public_data: Path) -> None:
    file = public_data / "oasst_ranked_trees" / "en_trees_part1.jsonl"
    _, found = stream_file(file, None, {})
    records = [one.record for one in found if isinstance(one.record, RankingRecord)]
    shares = []
    for record in records:
        told = [
            float(len(better) > len(worse)) if len(better) != len(worse) else 0.5
            for better, first in zip(record.replies, record.ranks, strict=True)
            for worse, second in zip(record.replies, record.ranks, strict=True)
            if first < second and better != worse
        ]
        shares += [sum(told) / len(told)] if told else []
    room = ScriptedRoom(rows=rows(records), reward=lambda _, text: -len(text), says=lambda arm, _: "Yes. " * len(arm))
    part = Part(measure="preference", data="d", limit=10_000, options={"likelihood": False})
    figures = {one.name: measured(one, room.arms) for one in measure(room, part)}
    longer, judge = (figures[f"preference.{name}_agreement"].arms["version"] for name in ("longer", "judge"))
    assert longer.value == pytest.approx(np.mean(shares))
    assert judge.value == pytest.approx(1 - np.mean(shares))
    assert not figures["preference.win_rate"].decides
