"""The score below which an assistant says that its documents don't say."""

import random

import pytest

from assistant.decline import calibrate
from data.errors import DataError


def test_the_threshold_keeps_the_share_of_answerable_questions_asked_for() -> None:
    good, bad = [n / 100 for n in range(40, 100)], [n / 100 for n in range(0, 60)]
    found = calibrate([*good, *bad], [True] * 60 + [False] * 60, keep=0.9)
    assert found.answered == pytest.approx(0.9)
    assert found.threshold == pytest.approx(0.46)
    assert found.declined == pytest.approx(46 / 60)
    assert found.auroc > 0.9
    assert found.declines(0.459)
    assert not found.declines(0.46)


def test_scores_that_tell_the_kinds_apart_decline_all_of_one_and_none_of_the_other() -> None:
    found = calibrate([0.9, 0.8, 0.1, 0.2], [True, True, False, False], keep=1.0)
    assert (found.auroc, found.answered, found.declined) == (1.0, 1.0, 1.0)


def test_scores_that_say_nothing_are_seen_as_such() -> None:
    chance = random.Random(0)
    found = calibrate([chance.random() for _ in range(4000)], [bool(n % 2) for n in range(4000)])
    assert 0.45 < found.auroc < 0.55  # its standard error here is 0.009


@pytest.mark.parametrize(
    ("scores", "answerable"), [([], []), ([0.1], [True]), ([0.1, 0.2], [False] * 2), ([0.1], [True, False]),
                               ([float("nan"), 0.1], [True, False])]
)  # fmt: skip
def test_what_cannot_be_calibrated_is_one_line(scores: list[float], answerable: list[bool]) -> None:
    with pytest.raises(DataError, match="wanted .* found"):
        calibrate(scores, answerable)
