"""The point below which an assistant says that its documents don't say."""

import random

import pytest

from assistant.decline import Measure, calibrate, measure
from data.errors import DataError


def by_cosine(*scores: float) -> list[dict[Measure, float]]:
    """Questions of which only the similarity says anything."""
    return [{"cosine": score, "bm25": 0.0, "words": 0.0, "cosine and words": 0.0} for score in scores]


def test_the_threshold_keeps_the_share_of_answerable_questions_asked_for() -> None:
    good, bad = [n / 100 for n in range(40, 100)], [n / 100 for n in range(0, 60)]
    found = calibrate(by_cosine(*good, *bad), [True] * 60 + [False] * 60, keep=0.9)
    assert found.measure == "cosine"
    assert found.answered == pytest.approx(0.9)
    assert found.threshold == pytest.approx(0.46)
    assert found.declined == pytest.approx(46 / 60)
    assert found.auroc > 0.9
    assert found.declines(by_cosine(0.459)[0])
    assert not found.declines(by_cosine(0.46)[0])


def test_the_measure_that_tells_the_kinds_apart_is_chosen() -> None:
    measured: list[dict[Measure, float]] = [
        {"cosine": 0.5, "bm25": n % 2 * 3.0, "words": 0.1 * n, "cosine and words": 0.3} for n in range(10)
    ]
    found = calibrate(measured, [bool(n % 2) for n in range(10)], keep=1.0)
    assert (found.measure, found.auroc, found.answered, found.declined) == ("bm25", 1.0, 1.0, 1.0)


def test_scores_that_say_nothing_are_seen_as_such() -> None:
    chance = random.Random(0)
    found = calibrate(by_cosine(*(chance.random() for _ in range(4000))), [bool(n % 2) for n in range(4000)])
    assert 0.45 < found.auroc < 0.55  # its standard error here is 0.009


@pytest.mark.parametrize(
    ("scores", "answerable"), [([], []), ([0.1], [True]), ([0.1, 0.2], [False] * 2), ([0.1], [True, False]),
                               ([float("nan"), 0.1], [True, False])]
)  # fmt: skip
def test_what_cannot_be_calibrated_is_one_line(scores: list[float], answerable: list[bool]) -> None:
    with pytest.raises(DataError, match="wanted .* found"):
        calibrate(by_cosine(*scores), answerable)


def test_words_tell_what_names_the_thing_asked_for_from_what_is_only_near() -> None:
    question = "How long is the warranty of the kettle?"
    named = measure(question, ["The warranty of the kettle is long: two years."], [0.6], [3.0])
    near = measure(question, ["A toaster has no guarantee at all."], [0.6], [None])
    assert named["cosine"] == near["cosine"] == 0.6
    assert named["words"] > near["words"]
    assert (named["bm25"], near["bm25"]) == (3.0, 0.0)
    assert set(measure(question, [], [], []).values()) == {0.0}
    assert measure("???", ["text"], [0.5], [None])["cosine and words"] == 0.25
