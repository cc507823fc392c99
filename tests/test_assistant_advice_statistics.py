"""How far two arms lie apart, what more data would bring, and when an arm is given up: known cases and simulations."""

import numpy as np
import pytest

from adapters.exam_types import Interval
from adapters.held_out import wilson
from assistant.advice_curves import growth, hope
from assistant.advice_promising import cannot_win
from assistant.advice_statistics import above, all_apart, apart, holm, needed
from assistant.advice_types import Arm, Figures, Point, Result
from tests.sample_arms import figures

RUNS = 100  # of simulations


def pairs(random: np.random.Generator, n: int, first: float, second: float) -> tuple[Figures, Figures]:
    """Two arms that are right with these chances, and together more often than by chance."""
    luck, other = random.random(n), random.random(n)
    return figures(luck < first), figures(np.where(random.random(n) < 0.5, luck, other) < second)


def test_a_p_value_and_its_interval_say_the_same() -> None:
    random = np.random.default_rng(1)
    for number in range(20):
        mine, other = pairs(random, 80, 0.8, 0.65) if number % 2 else (
            figures(random.beta(4, 2, 50)), figures(random.beta(3, 2, 50)))  # fmt: skip
        found = apart(mine, other, number)
        assert (found.p < 0.05) == (not found.difference.low <= 0 <= found.difference.high), found
        assert found.p == pytest.approx(apart(other, mine, number).p, abs=0.002)


def test_equal_arms_differ_significantly_in_one_of_twenty_cases() -> None:
    """With 100 simulations a true 5% shows as 1 to 10% in 98 of 100 such tests."""
    random = np.random.default_rng(2)
    significant: dict[str, list[bool]] = {"shares": [], "scores": []}
    for number in range(RUNS):
        significant["shares"].append(apart(*pairs(random, 60, 0.7, 0.7)).p < 0.05)
        both = random.beta(2, 3, 40)
        mine, other = (figures(0.5 * both + 0.5 * random.beta(2, 3, 40)) for _ in range(2))
        significant["scores"].append(apart(mine, other, number).p < 0.05)
    rates = {name: float(np.mean(some)) for name, some in significant.items()}
    assert all(0.01 <= rate <= 0.1 for rate in rates.values()), rates


def test_records_of_one_group_count_once() -> None:
    random = np.random.default_rng(3)
    better, worse = random.random(20) < 0.8, random.random(20) < 0.5
    alone = apart(figures(np.repeat(better, 10)), figures(np.repeat(worse, 10)))
    groups = [str(n // 10) for n in range(200)]
    together = apart(figures(np.repeat(better, 10), groups), figures(np.repeat(worse, 10), groups))
    assert alone.p < 0.001 < together.p
    assert together.difference.high - together.difference.low > 2 * (alone.difference.high - alone.difference.low)


def test_arms_of_different_records_are_not_paired() -> None:
    with pytest.raises(ValueError, match=r"different records cannot be paired: 3 \(a\), 2 \(b\)"):
        all_apart({"a": figures([1, 0, 1]), "b": figures([1, 0])})


def test_identical_answers_are_no_difference_and_few_of_them_leave_room_for_one() -> None:
    few, many = (apart(figures([1] * n), figures([1] * n)) for n in (30, 400))
    assert few.p == many.p == 1
    assert few.difference.high > 0.08 > 0.01 > many.difference.high
    same = figures(np.linspace(0, 1, 30))
    assert apart(same, same).p == 1


def test_holms_correction_is_the_one_that_is_reckoned_by_hand() -> None:
    # 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which is no smaller than the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_records_needed_are_those_that_a_textbook_gives() -> None:
    # (1.960 + 0.842)² · 0.25 / 0.01 = 196
    assert needed(spread=0.5, difference=0.1, margin=0.05) == 200
    assert needed(spread=0.5, difference=0.0, margin=0.1) == 200
    assert needed(spread=0.5, difference=0.1, margin=0.05, comparisons=10) == 340  # (2.807 + 0.842)² · 25
    assert needed(spread=0.5, difference=1e-5, margin=1e-5) is None


def test_as_many_records_as_are_needed_tell_a_difference_in_four_of_five_cases() -> None:
    random = np.random.default_rng(4)
    seen = apart(*pairs(random, 4000, 0.85, 0.75))
    count = needed(seen.spread, 0.1, margin=0.05)
    assert count is not None
    told = np.mean([apart(*pairs(random, count, 0.85, 0.75)).p < 0.05 for _ in range(3 * RUNS)])
    assert 0.73 < told < 0.9, (count, told)  # 80%, or a little more as the number is rounded up; three standard errors


def test_a_figure_above_a_number_has_the_exact_p_of_a_share_and_a_bootstraps_of_others() -> None:
    assert above(figures([1] * 9 + [0]), 0.5) == pytest.approx(11 / 1024)  # 9 or 10 heads of 10
    assert above(figures([0] * 10), 0.5) == 1
    scores = figures(np.random.default_rng(5).beta(3, 3, 60))
    assert above(scores, 0.4) < 0.01
    assert above(scores, 0.6) > 0.99


# --- learning curves ---


def learner(points: list[Point]) -> Result:
    arm = Arm(name="sft-lora", family="fine-tuned", title="fine-tuning", learns=True)
    return Result(arm=arm, state="measured", curve=tuple(points))


def point(rows: int, value: float, records: int) -> Point:
    low, high = wilson(value * records, records)
    return Point(rows=rows, found=Interval(value=value, low=low, high=high), minutes=1)


def test_a_curve_that_follows_the_law_is_carried_on() -> None:
    law = {rows: 0.95 - 3 * rows**-0.5 for rows in (50, 100, 200, 400, 800)}
    found = growth(learner([point(rows, value, 10_000) for rows, value in law.items() if rows < 800]))
    assert found is not None
    assert found.twice.value == pytest.approx(law[800] - law[400], abs=0.004)
    assert found.twice.low < law[800] - law[400] < found.twice.high
    assert found.told.startswith("Twice the records (800) would bring about +4.")


def test_a_curve_that_is_flat_promises_nothing_and_a_noisy_one_says_that_it_cannot_tell() -> None:
    flat = growth(learner([point(rows, 0.9, 5000) for rows in (50, 100, 200, 400)]))
    noisy = growth(learner([point(rows, value, 12) for rows, value in ((10, 0.2), (20, 0.3), (40, 0.5), (80, 0.7))]))
    assert flat is not None
    assert noisy is not None
    assert "next to nothing" in flat.told
    assert "cannot be told" in noisy.told


def test_two_points_are_no_curve() -> None:
    assert growth(learner([point(50, 0.5, 100), point(100, 0.6, 100), point(100, 0.6, 100)])) is None


def test_what_twice_the_records_bring_lies_in_the_interval_that_was_given() -> None:
    random, covered, hoped = np.random.default_rng(6), [], []
    for number in range(RUNS // 2):
        top, drop, power = random.uniform(0.7, 1), random.uniform(1, 3), random.uniform(0.3, 0.9)
        law = {rows: max(0.05, top - drop * rows**-power) for rows in (50, 100, 200, 400, 800)}
        points = [point(rows, random.binomial(150, law[rows]) / 150, 150) for rows in (50, 100, 200, 400)]
        found = growth(learner(points), seed=number)
        assert found is not None
        covered.append(found.twice.low <= law[800] - law[400] <= found.twice.high)
        hoped += [law[rows] + hope(points[:some], 800, seed=number) >= law[800] - 0.01 for some, rows in
                  ((1, 50), (2, 100), (3, 200))]  # fmt: skip
    assert np.mean(covered) >= 0.9
    assert np.mean(hoped) >= 0.9  # an arm is not given up for what it would yet learn


def test_nothing_is_hoped_for_from_records_that_there_are_not() -> None:
    assert hope([point(50, 0.5, 100)], 50) == 0
    assert hope([], 100) == 0


# --- arms that cannot win ---


def test_an_arm_is_given_up_only_when_even_all_it_may_yet_learn_is_not_enough() -> None:
    best, behind = figures([1] * 54 + [0] * 6), figures([1] * 30 + [0] * 30)
    why = cannot_win(behind, best, hope=0.05)
    assert why is not None
    assert why.startswith("on 60 validation records it is 40.0 percentage points below the best (−5")
    assert why.endswith("more training records may bring 5.0 at most")
    assert cannot_win(behind, best, hope=0.5) is None
    assert cannot_win(behind, best, hope=0.05, target=0.6) is None  # it is cheaper, and may meet the target
    assert cannot_win(behind, best, hope=0.05, target=0.9) is not None
    assert cannot_win(best, behind, hope=0) is None
    assert cannot_win(best, best, hope=0) is None
    assert cannot_win(figures([0] * 50), best, hope=0) is None  # other records: nothing can be said
