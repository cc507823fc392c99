"""Who a canary answers, how versions are counted, and when a canary is taken back."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from data.home import Home
from data.tallies import Tally
from serve import canary
from serve.canary import Trials, picks_canary, significantly_worse, sticky_key

HELLO = {"messages": [{"role": "system", "content": "Be Reed."}, {"role": "user", "content": "Hello"}]}


def answer(trials: Trials, version: int, good: int = 0, failed: int = 0) -> None:
    for number in range(good + failed):
        trials.answered("reed", version, error=number < failed)


def rate(trials: Trials, version: int, *ratings: int) -> None:
    for number, rating in enumerate(ratings):
        trials.remember(f"resp-{version}-{number}", "reed", version)
        trials.rate(f"resp-{version}-{number}", rating)


# --- who is answered by the canary ---


@pytest.mark.parametrize(
    ("headers", "more", "key"),
    [
        ({"x-brogue-conversation": "c-1"}, {"user": "ann"}, "c-1"),
        ({}, {"user": "ann", "safety_identifier": "s"}, "ann"),
        ({}, {"safety_identifier": "s"}, "s"),
        ({}, {}, '"Hello"'),
    ],
)
def test_a_conversation_is_known_by_header_then_user_then_its_first_words(
    headers: dict[str, str], more: dict[str, Any], key: str
) -> None:
    assert sticky_key(headers, HELLO | more) == key


def test_later_turns_of_a_conversation_have_the_key_of_its_first() -> None:
    turns = [*HELLO["messages"], {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And now?"}]
    assert sticky_key({}, {"messages": turns}) == sticky_key({}, HELLO)


def test_a_first_message_in_parts_or_none_at_all_has_a_key_too() -> None:
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}
    assert sticky_key({}, parts) == sticky_key({}, parts) != sticky_key({}, {"messages": []})


def test_the_canary_gets_its_share_and_a_larger_share_keeps_those_of_a_smaller() -> None:
    keys = [f"user {number}" for number in range(5_000)]
    by_share = {share: {key for key in keys if picks_canary("reed", key, share)} for share in (0, 10, 50, 100)}
    assert not by_share[0] and len(by_share[100]) == len(keys)
    assert by_share[10] < by_share[50]
    # The standard deviation of a 10% share of 5,000 keys is 21 keys: five of them either way.
    assert abs(len(by_share[10]) - 500) < 106


def test_canaries_of_two_adapters_do_not_fall_on_the_same_people() -> None:
    keys = [f"user {number}" for number in range(1_000)]
    both = [key for key in keys if picks_canary("reed", key, 10) and picks_canary("fern", key, 10)]
    assert len(both) < 40, "10 are expected by chance, with a standard deviation of 3"


# --- the rule ---


@pytest.mark.parametrize(
    ("stable", "tried", "worse"),
    [
        ((0, 200), (3, 10), True),
        ((0, 200), (1, 20), False),
        ((10, 200), (15, 50), True),
        ((10, 200), (4, 50), False),
        ((40, 200), (10, 50), False),
        ((0, 9), (9, 9), False),  # too few of either to say anything
        ((0, 0), (50, 50), False),
        ((50, 100), (1, 100), False),  # better is never worse
        ((100, 100), (100, 100), False),
    ],
)
def test_a_verdict_needs_a_clear_difference(stable: tuple[int, int], tried: tuple[int, int], worse: bool) -> None:
    assert significantly_worse(stable, tried) is worse


def stopped_at(rng: random.Random, rate_stable: float, rate_canary: float, share: float, answers: int) -> int | None:
    """After how many answers a canary was stopped that is judged after each of its answers."""
    bad, total = [0, 0], [0, 0]
    for number in range(answers):
        side = int(rng.random() < share)
        total[side] += 1
        bad[side] += rng.random() < (rate_stable, rate_canary)[side]
        if side and significantly_worse((bad[0], total[0]), (bad[1], total[1])):
            return number
    return None


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_canary_as_good_as_stable_is_rarely_stopped_although_one_looks_after_every_answer(
    rate: float, share: float
) -> None:
    # A fixed-size test at 5% that is looked at 1,000 times stops far more than every third good canary.
    rng = random.Random(4)
    runs = 200
    stops = sum(stopped_at(rng, rate, rate, share, answers=1_000) is not None for _ in range(runs))
    assert stops <= 0.05 * runs


def test_a_canary_that_fails_five_times_as_often_is_stopped_within_a_thousand_answers() -> None:
    rng = random.Random(4)
    ends = [stopped_at(rng, 0.05, 0.25, share=0.2, answers=1_000) for _ in range(50)]
    assert None not in ends


# --- tallies ---


@pytest.fixture
def trials(home: Home) -> Iterator[Trials]:
    trials = Trials(home)
    yield trials
    trials.flush()


def test_answers_errors_and_ratings_are_counted_by_version(trials: Trials) -> None:
    answer(trials, 1, good=3)
    answer(trials, 2, good=1, failed=2)
    rate(trials, 2, 1, -1, -1)
    assert trials.tally("reed", 1) == Tally(answers=3)
    assert trials.tally("reed", 2) == Tally(answers=3, errors=2, up=1, down=2)
    assert trials.tally("fern", 1) == Tally()


def test_an_answer_that_is_rated_again_has_its_latest_rating(trials: Trials) -> None:
    trials.remember("resp-a", "reed", 2)
    assert [trials.rate("resp-a", rating) for rating in (-1, -1, 1)] == [("reed", 2)] * 3
    assert trials.tally("reed", 2) == Tally(up=1)


def test_only_the_latest_answers_can_be_rated(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "REMEMBERED", 2)
    for name in ("a", "b", "c"):
        trials.remember(name, "reed", 1)
    assert trials.rate("c", 1) == ("reed", 1)
    with pytest.raises(KeyError):
        trials.rate("a", 1)


def test_tallies_and_a_running_comparison_outlive_the_process(home: Home, trials: Trials) -> None:
    answer(trials, 1, good=5)
    trials.start("reed", 1, 2)
    answer(trials, 2, failed=2)
    trials.flush()
    later = Trials(home)
    answer(later, 1, good=50)
    assert later.tally("reed", 2) == Tally(answers=2, errors=2)
    assert later.why_stop("reed", 1, 2) is None
    answer(later, 2, failed=8)
    assert later.why_stop("reed", 1, 2) == "reed@2 failed in 10 of 10 answers, reed@1 in 0 of 50"


def test_the_file_is_written_at_most_once_a_second(home: Home, trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(canary.time, "monotonic", lambda: now[0])
    path = home.adapters / "reed" / "tallies.json"

    def on_disk() -> int:
        return int(json.loads(path.read_text())["versions"]["1"]["answers"])

    answer(trials, 1, good=3)
    assert on_disk() == 1
    now[0] += 1.5
    answer(trials, 1, good=2)
    assert on_disk() == 4
    trials.flush()
    assert on_disk() == 5


def test_a_broken_file_is_said_in_the_log_and_counting_begins_anew(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    path = home.adapters / "reed" / "tallies.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"versions": ')
    assert Trials(home).tally("reed", 1) == Tally()
    assert "tallies.json cannot be read, counting anew" in caplog.text


def test_a_disk_that_is_full_costs_nobody_an_answer(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(canary, "write_json", full)
    answer(trials, 1, good=1)
    assert trials.tally("reed", 1).answers == 1
    assert "the tallies of reed could not be saved: [Errno 28] No space left on device" in caplog.text


# --- when a canary is stopped ---


def test_a_canary_is_stopped_for_its_errors(trials: Trials) -> None:
    trials.start("reed", 1, 2)
    answer(trials, 1, good=90)
    answer(trials, 2, good=6, failed=4)
    assert trials.why_stop("reed", 1, 2) == "reed@2 failed in 4 of 10 answers, reed@1 in 0 of 90"


def test_a_canary_is_stopped_for_its_ratings(trials: Trials) -> None:
    trials.start("reed", 1, 2)
    rate(trials, 1, *[1] * 40)
    rate(trials, 2, *[1] * 4, *[-1] * 8)
    assert trials.why_stop("reed", 1, 2) == "reed@2 got 8 thumbs down of 12, reed@1 0 of 40"


def test_a_comparison_counts_from_the_canarys_start_and_a_second_try_starts_afresh(trials: Trials) -> None:
    answer(trials, 1, good=500)
    answer(trials, 2, failed=50)  # it was asked by its name, before it was a canary
    trials.start("reed", 1, 2)
    answer(trials, 1, good=90)
    answer(trials, 2, good=10)
    assert trials.why_stop("reed", 1, 2) is None
    answer(trials, 2, failed=10)
    assert trials.why_stop("reed", 1, 2)
    trials.start("reed", 1, 2)
    assert trials.why_stop("reed", 1, 2) is None


def test_a_pair_that_nobody_started_is_compared_from_the_first_question_on(trials: Trials) -> None:
    answer(trials, 1, good=100)
    answer(trials, 3, failed=100)
    assert trials.why_stop("reed", 1, 3) is None
    answer(trials, 1, good=100)
    answer(trials, 3, failed=10)
    assert trials.why_stop("reed", 1, 3)
