"""The exam's intervals: known figures, pairing, groups, slices, and that they cover as they say."""

from typing import Any

import numpy as np
import pytest

from adapters.exam_statistics import measured, paired_shares
from adapters.exam_types import Arm, Item, Parts, Scores
from adapters.held_out import wilson

BOTH: tuple[Arm, ...] = ("version", "against")


def scores(parts: dict[Arm, Any], items: list[Item] | None = None, **more: Any) -> Scores:
    rows = {arm: np.asarray(found, dtype=float) for arm, found in parts.items()}
    rows = {arm: np.column_stack([found, np.ones(len(found))]) if found.ndim == 1 else found
            for arm, found in rows.items()}  # fmt: skip
    count = len(next(iter(rows.values())))
    return Scores("m.x", "share", "higher", rows, items or [Item(f"q{n}") for n in range(count)], **more)


def test_a_share_has_wilsons_interval_and_its_paired_difference_that_of_bonett_and_price() -> None:
    version, before = [1] * 45 + [0] * 5, [1] * 35 + [0] * 10 + [1] * 5
    found = measured(scores({"version": version, "against": before}), BOTH)
    assert (found.arms["version"].low, found.arms["version"].high) == pytest.approx(wilson(45, 50))
    # By hand: 10 won, 5 lost of 50, each with one more, of 52.
    up, down = 11 / 52, 6 / 52
    half = 1.959964 * ((up + down - (up - down) ** 2) / 52) ** 0.5
    over = found.over["against"]
    assert (over.value, over.low, over.high) == pytest.approx((0.1, up - down - half, up - down + half))


def test_where_no_answer_changed_a_few_prompts_still_leave_room_for_a_difference() -> None:
    few, many = (measured(scores({"version": [1] * n, "against": [1] * n}), BOTH).over["against"] for n in (20, 400))
    assert few.value == 0
    assert few.low < -0.08
    assert few.high > 0.08
    assert -0.01 < many.low < 0 < many.high < 0.01


def test_differences_are_drawn_in_pairs() -> None:
    before = np.random.default_rng(1).normal(50, 20, 100)
    found = measured(scores({"version": before + 1, "against": before}), BOTH)
    assert found.arms["version"].high - found.arms["version"].low > 5
    assert (found.over["against"].low, found.over["against"].high) == pytest.approx((1, 1))


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    first, again, other = (measured(scores({"version": values}), BOTH, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.arms["version"].low != other.arms["version"].low


def test_items_of_one_group_are_drawn_together() -> None:
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 20), 10)
    alone = measured(scores({"version": values}), BOTH).arms["version"]
    items = [Item(f"q{n}", group=str(n // 10)) for n in range(200)]
    together = measured(scores({"version": values}, items), BOTH).arms["version"]
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_a_score_that_is_the_same_for_all_groups_is_not_certain_of_the_next() -> None:
    items = [Item(f"q{n}", group=str(n // 2)) for n in range(40)]
    found = measured(scores({"version": [0.0] * 40, "against": [0.0] * 40}, items), BOTH)
    assert (found.arms["version"].low, found.arms["version"].high) == pytest.approx(wilson(0, 20))
    assert found.over["against"].low < -0.08 < 0.08 < found.over["against"].high


def test_figures_are_given_by_slice_too() -> None:
    items = [Item(f"q{n}", slice="plants" if n < 30 else "tools") for n in range(50)]
    found = measured(scores({"version": [1] * 30 + [0] * 20}, items), BOTH)
    assert {name: arms["version"].value for name, arms in found.slices.items()} == {"plants": 1.0, "tools": 0.0}
    assert found.slices["plants"]["version"].low == pytest.approx(wilson(30, 30)[0])


def test_any_figure_of_summed_parts_is_resampled_as_a_whole() -> None:
    counts = np.random.default_rng(2).integers(0, 5, (80, 2)) + 1.0

    def ratio(sums: Parts) -> Parts:
        return np.exp(sums[:, 0] / sums[:, 1])

    found = measured(scores({"version": counts}, value=ratio), BOTH).arms["version"]
    assert found.value == pytest.approx(np.exp(counts[:, 0].sum() / counts[:, 1].sum()))
    assert found.low < found.value < found.high


def test_a_single_item_has_a_figure_that_decides_nothing() -> None:
    found = measured(scores({"version": [0.3]}), BOTH)
    assert (found.arms["version"].value, found.decides) == (0.3, False)
    assert "too few items" in found.note


def test_parts_that_do_not_go_with_the_items_are_a_measures_mistake() -> None:
    with pytest.raises(ValueError, match=r"m\.x: parts of version"):
        measured(scores({"version": [1, 0]}, [Item("one")]), BOTH)


def test_intervals_cover_as_they_say() -> None:
    """Of 250 simulated exams each. With 250, a true 95% shows as 92.3 to 97.7% in 95 of 100 such tests; percentile
    intervals of skewed figures are known to fall a little short, so the bound is 91.5%."""
    random = np.random.default_rng(5)
    covered: dict[str, list[bool]] = {"skewed mean": [], "its difference": [], "paired shares": [], "grouped": []}
    for number in range(250):
        version, before = random.exponential(2, 60), random.exponential(2, 60)
        before += 0.5 * version
        found = measured(scores({"version": version, "against": before}), BOTH, number)
        covered["skewed mean"].append(found.arms["version"].low <= 2 <= found.arms["version"].high)
        covered["its difference"].append(found.over["against"].low <= -1 <= found.over["against"].high)
        base = random.random(50)
        both = paired_shares((base < 0.8).astype(float), (0.7 * base + 0.3 * random.random(50) < 0.5).astype(float))
        covered["paired shares"].append(both.low <= 0.8 - 0.5 <= both.high)  # the second share is 0.5 by symmetry
        groups = np.repeat(random.normal(0, 1, 30), 4) + random.normal(0, 1, 120)
        items = [Item("q", group=str(n // 4)) for n in range(120)]
        one = measured(scores({"version": groups}, items), BOTH, number).arms["version"]
        covered["grouped"].append(one.low <= 0 <= one.high)
    shares = {name: float(np.mean(some)) for name, some in covered.items()}
    assert min(shares.values()) >= 0.915, shares
    assert max(shares.values()) <= 0.99, shares
