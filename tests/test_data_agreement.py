"""Agreement and leaderboard: raters of known ability and bias, and PandaLM's three annotators."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.feedback import pandalm
from data.agreement import Table, alpha, tables
from data.errors import DataError
from data.judgements import AnyJudgement, Comparison, Ranking, StoredJudgement
from data.leaderboard import Match, _estimate, leaderboard, looks
from data.raters import RaterReport, agreement, reports, weights

START = datetime(2026, 3, 1, tzinfo=UTC)
STRENGTH = {"a@1": 1.2, "b@1": 0.4, "c@1": -0.3, "d@1": -1.3}
VERDICTS: list[Any] = ["first", "second", "tie", "both-bad"]


def kept(judgement: AnyJudgement, number: int = 0) -> StoredJudgement:
    """As the store keeps it; responses are called `question:version`."""
    versions = tuple(id.partition(":")[2] for id in judgement.shown)
    created = START + timedelta(seconds=number)
    return StoredJudgement(
        judgement=judgement, versions=versions, assistants=("shop",) * len(versions), created=created
    )


def liked(question: int, versions: list[str]) -> dict[str, float]:
    """What an answer is worth: the version's strength and luck (Gumbel: so Bradley-Terry holds)."""
    chance = np.random.default_rng(question)
    return {f"{question}:{v}": STRENGTH[v] + float(chance.gumbel()) for v in versions}


def compared(raters: dict[str, float], questions: int = 120, seconds: float | None = None) -> list[AnyJudgement]:
    """Every rater on every question: with this probability they say what is true, else one side or the other."""
    chance = random.Random(1)
    found: list[AnyJudgement] = []
    for question in range(questions):
        worth = liked(question, chance.sample(sorted(STRENGTH), 2))
        for rater, ability in raters.items():
            shown = chance.sample(sorted(worth), 2)
            better = max(shown, key=worth.__getitem__) if chance.random() < ability else chance.choice(shown)
            verdict: Any = "first" if shown[0] == better else "second"
            found.append(Comparison(rater=rater, shown=(shown[0], shown[1]), verdict=verdict, seconds=seconds))
    return found


def echo(found: list[AnyJudgement], rater: str, verdicts: dict[str, Any]) -> list[AnyJudgement]:
    """Another rater, who was shown what ann was, and says this where she says that."""
    return [
        Comparison(rater=rater, shown=j.shown, verdict=verdicts[j.verdict])
        for j in found if isinstance(j, Comparison) and j.rater == "ann"
    ]  # fmt: skip


def of(rater: str, found: list[AnyJudgement], lengths: dict[str, int] | None = None) -> RaterReport:
    return next(report for report in reports(found, lengths or {}) if report.rater == rater)


def plain_alpha(units: list[list[float]], ordered: bool) -> float:
    """Krippendorff's alpha by its definition, pair by pair: written apart from the code under test."""
    units = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in units for value in unit]
    many = Counter(everything)

    def apart(a: float, b: float) -> float:
        if not ordered:
            return float(a != b)
        low, high = min(a, b), max(a, b)
        return (sum(n for value, n in many.items() if low <= value <= high) - (many[a] + many[b]) / 2) ** 2

    seen = sum(sum(apart(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    n = len(everything)
    chance = sum(many[a] * many[b] * apart(a, b) for a in many for b in many) / (n * (n - 1))
    return 1 - (seen / n) / chance


def test_alpha_is_krippendorffs_on_his_own_example() -> None:
    """Krippendorff (2011), four observers, twelve units, with gaps: nominal 0.743, ordinal 0.815."""
    data = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    from data.agreement import _table

    lines = [(u, u, rater, v - 1) for rater, values in data.items() for u, v in enumerate(values) if v is not None]
    for ordered, wanted in ((False, 0.743), (True, 0.815)):
        found = alpha([_table(lines, 5, ordered)]).value
        units = [[v for row in data.values() if (v := row[u]) is not None] for u in range(12)]
        assert found == pytest.approx(wanted, abs=5e-4)
        assert found == pytest.approx(plain_alpha(units, ordered))  # type: ignore[arg-type]


def test_alpha_is_the_same_whatever_side_the_answers_stood_on() -> None:
    one = [
        Comparison(rater=rater, shown=shown, verdict=verdict)
        for rater, shown, verdict in (
            ("ann", ("r1", "r2"), "first"), ("bob", ("r2", "r1"), "second"),
            ("ann", ("r3", "r4"), "second"), ("bob", ("r3", "r4"), "second"),
        )
    ]  # fmt: skip
    assert agreement([kept(j) for j in one], {}).comparisons.value == 1


def test_alpha_falls_as_noise_is_added() -> None:
    values = []
    for ability in (1.0, 0.8, 0.5, 0.0):
        found = alpha(tables(compared(dict.fromkeys(("ann", "bob", "eve"), ability)))[0])
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high and (found.items, found.raters) == (120, 3)
        values.append(found.value)
    assert values[0] == 1 and values == sorted(values, reverse=True) and abs(values[-1]) < 0.12


@pytest.mark.parametrize("sizes", [(4,), (2, 3, 6)])
def test_rankings_by_chance_have_an_alpha_of_nothing_and_equal_ones_of_one(sizes: tuple[int, ...]) -> None:
    chance = random.Random(3)
    noise: list[AnyJudgement] = []
    same: list[AnyJudgement] = []
    for question in range(300):
        shown = [f"{question}:{n}" for n in range(sizes[question % len(sizes)])]
        for rater in ("ann", "bob", "eve"):
            mixed = tuple(chance.sample(shown, len(shown)))
            noise.append(Ranking(rater=rater, shown=mixed, ranks=tuple(range(len(shown)))))
            same.append(Ranking(rater=rater, shown=mixed, ranks=tuple(shown.index(id) for id in mixed)))
    assert abs(alpha(tables(noise)[1]).value or 0) < 0.06
    assert alpha(tables(same)[1]).value == 1


def test_a_ranking_with_ties_is_as_in_the_plain_definition() -> None:
    said = [("ann", (0, 1, 2)), ("bob", (0, 0, 1)), ("eve", (1, 0, 0)), ("joe", (0, 1, 0))]
    found = [Ranking(rater=rater, shown=("x", "y", "z"), ranks=ranks) for rater, ranks in said]
    places = [[0, 1, 2], [0.5, 0.5, 2], [2, 0.5, 0.5], [0.5, 2, 0.5]]
    units = [[row[answer] for row in places] for answer in range(3)]
    assert alpha(tables(found)[1]).value == pytest.approx(plain_alpha(units, ordered=True))


def test_a_rater_who_always_picks_the_left_is_flagged_and_weighs_nothing() -> None:
    found = compared({"ann": 0.9, "bob": 0.9, "eve": 0.9})
    found += echo(found, "lefty", {"first": "first", "second": "first"})
    report = of("lefty", found)
    assert "always the same side" in report.flags and "contradicts the others" in report.flags and report.weight == 0
    assert report.first and report.first.value == 1 and report.first.low > 0.95
    for rater in ("ann", "bob", "eve"):
        assert (of(rater, found).flags, of(rater, found).weight) == ((), 1)


def ranked(raters: dict[str, float], questions: int, answers: int = 4) -> list[AnyJudgement]:
    """Rankings by raters who see what answers are worth through noise of this size; `lefty` takes them as shown."""
    chance = np.random.default_rng(7)
    found: list[AnyJudgement] = []
    for question in range(questions):
        worth = liked(question, sorted(STRENGTH)[:answers])
        for rater, noise in raters.items():
            shown: tuple[str, ...] = tuple(chance.permutation(sorted(worth)).tolist())
            seen = np.array([worth[id] for id in shown]) + noise * chance.normal(size=len(shown))
            order = range(len(shown)) if rater == "lefty" else np.argsort(np.argsort(-seen)).tolist()
            found.append(Ranking(rater=rater, shown=shown, ranks=tuple(order)))
    return found


def test_rankings_find_the_true_order_alpha_falls_with_noise_and_who_takes_them_as_shown_is_flagged() -> None:
    values = []
    for noise in (0.0, 0.7, 2.0, 50.0):
        value = alpha(tables(ranked(dict.fromkeys(("ann", "bob", "eve"), noise), 80))[1]).value
        assert value is not None
        values.append(value)
    assert values[0] == 1 and values == sorted(values, reverse=True) and abs(values[-1]) < 0.1
    found = ranked({"ann": 0.3, "bob": 0.3, "eve": 0.5, "lefty": 0.0}, 150)
    report = of("lefty", found)
    assert "always the same side" in report.flags and report.weight == 0
    assert all(of(rater, found).flags == () for rater in ("ann", "bob", "eve"))
    stored = [kept(judgement) for judgement in found]
    board = leaderboard(stored, weights(stored, {}))
    assert [s.version for s in board.standings] == sorted(STRENGTH, key=lambda v: -STRENGTH[v])


def verdicts(chance: np.random.Generator, items: int, abilities: tuple[float, ...]) -> Table:
    """Comparisons by raters who say what is true with this probability, else one or the other."""
    true = 2 * chance.integers(0, 2, items)
    said = [np.where(chance.random(items) < a, true, 2 * chance.integers(0, 2, items)) for a in abilities]
    item, rater = np.tile(np.arange(items), len(abilities)), np.repeat(np.arange(len(abilities)), items)
    return Table(item, item, rater, np.concatenate(said), 4, False, tuple(f"rater{n}" for n in range(len(abilities))))


def test_the_intervals_of_alpha_hold_the_truth_in_90_to_98_of_100_cases() -> None:
    abilities = (0.9, 0.7, 0.5)
    truth = alpha([verdicts(np.random.default_rng(0), 300_000, abilities)], resamples=0).value
    held = []
    for repetition in range(1, 201):
        found = alpha([verdicts(np.random.default_rng(repetition), 150, abilities)], 200, repetition)
        assert truth is not None and found.low is not None and found.high is not None
        held.append(found.low <= truth <= found.high)
    print(f"coverage {np.mean(held):.3f}")
    assert 0.90 <= np.mean(held) <= 0.98


def test_a_rater_who_says_the_opposite_is_flagged_but_of_two_nobody_knows_who_is_wrong() -> None:
    found = compared({"ann": 0.9, "bob": 0.9, "eve": 0.9})
    found += echo(found, "joe", {"first": "second", "second": "first"})
    report = of("joe", found)
    assert report.flags == ("contradicts the others",) and report.weight == 0 and (report.with_others or 0) < -0.3
    two = [j for j in found if j.rater in ("ann", "joe")]
    assert of("joe", two).flags == () and of("ann", two).flags == ()


def test_who_contradicts_themselves_or_is_too_fast_is_weighted_down() -> None:
    chance = random.Random(5)
    steady = compared({"ann": 0.9}, 40, seconds=20)
    moody = [
        j.model_copy(update={"id": f"{j.id}-2", "verdict": chance.choice(VERDICTS), "rater": "ann"}) for j in steady
    ]
    report = of("ann", steady + moody)
    assert report.flags == ("contradicts themselves",) and report.itself and report.itself.of == 40
    assert report.weight == pytest.approx(max(0, 2 * report.itself.value - 1), abs=1e-3)
    assert of("ann", steady + [j.model_copy(update={"id": f"{j.id}-2"}) for j in steady]).flags == ()
    lengths = {id: 3000 for j in steady for id in j.shown}  # 6000 characters in 20 seconds
    fast = of("ann", steady, lengths)
    assert fast.flags == ("faster than one can read",) and fast.weight == 0
    assert of("ann", steady, dict.fromkeys(lengths, 300)).flags == ()


def test_a_few_judgements_flag_nobody() -> None:
    few = [Comparison(rater="ann", shown=(f"{n}:a@1", f"{n}:b@1"), verdict="first") for n in range(8)]
    assert of("ann", list(few)).flags == ()


def simulated(chance: np.random.Generator, items: int, strengths: Any, answers: int) -> list[Match]:
    """Plackett-Luce rankings of so many answers, as matches."""
    found = []
    for item in range(items):
        chosen = chance.permutation(len(strengths))[:answers]
        order = np.argsort(np.argsort(-(strengths[chosen] + chance.gumbel(size=answers))))
        found += [
            Match(item, f"m{chosen[i]}", f"m{chosen[j]}", float(order[i] < order[j]), 2 / answers, ())
            for i, j in combinations(range(answers), 2)
        ]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("items", "answers"), [(300, 2), (150, 4)])
def test_the_intervals_hold_the_truth_in_90_to_98_of_100_cases(items: int, answers: int) -> None:
    truth = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    held = []
    for repetition in range(200):
        matches = simulated(np.random.default_rng(repetition), items, truth, answers)
        _, drawn = _estimate(matches, [f"m{n}" for n in range(5)], 200, repetition)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        held.append((low <= truth) & (truth <= high))
    print(f"{answers} answers: coverage {np.mean(held):.3f}, by version {np.mean(held, axis=0)}")
    assert 0.90 <= np.mean(held) <= 0.98


def test_pairs_of_rankings_estimate_what_plackett_luce_does() -> None:
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    truth, chance = np.array([-1.0, -0.4, 0.2, 1.2]), np.random.default_rng(0)
    orders = [np.argsort(-(truth + chance.gumbel(size=4))) for _ in range(3000)]

    def unlikely(free: Any) -> float:
        drawn = np.exp(free)[np.array(orders)]
        left = np.cumsum(drawn[:, ::-1], axis=1)[:, ::-1]
        return -float(np.log(drawn / left).sum())

    whole = minimize(unlikely, np.zeros(4)).x
    matches = [
        Match(n, f"m{order[i]}", f"m{order[j]}", 1.0, 0.5, ())
        for n, order in enumerate(orders) for i, j in combinations(range(4), 2)
    ]  # fmt: skip
    pairs, _ = _estimate(matches, [f"m{n}" for n in range(4)], 1, 0)
    assert np.abs(pairs - (whole - whole.mean())).max() < 0.05 and np.abs(pairs - (truth - truth.mean())).max() < 0.12


def test_the_true_order_is_found_in_spite_of_a_bad_rater_who_weighs_nothing() -> None:
    found = compared({"ann": 0.9, "bob": 0.9, "eve": 0.9}, 400)
    found += echo(found, "joe", {"first": "second", "second": "first"})
    stored = [kept(j) for j in found]
    weight = weights(stored, {})
    assert weight["joe"] == 0 and weight["ann"] == 1
    board, raw = leaderboard(stored, weight), leaderboard(stored, {})
    assert [s.version for s in board.standings] == sorted(STRENGTH, key=lambda v: -STRENGTH[v])
    assert all(s.low < s.points < s.high for s in board.standings)
    assert board.standings[0].points > raw.standings[0].points, "the contradictions pull the strengths together"


def test_length_that_is_liked_is_not_taken_for_quality() -> None:
    chance = np.random.default_rng(2)
    found, styles = [], {}
    for n in range(1500):
        lengths = {f"{n}:long@1": int(chance.integers(300, 900)), f"{n}:short@1": int(chance.integers(100, 500))}
        styles |= {id: looks("x" * length) for id, length in lengths.items()}
        shown = tuple(chance.permutation(sorted(lengths)).tolist())
        gap = (lengths[shown[0]] - lengths[shown[1]]) / sum(lengths.values())
        won = chance.random() < 1 / (1 + np.exp(-2.0 * gap))
        found.append(kept(Comparison(rater="ann", shown=shown, verdict="first" if won else "second")))
    plain, equal = leaderboard(found, {}), leaderboard(found, {}, styles)
    assert plain.standings[0].version == "long@1" and plain.standings[0].low > 1000
    assert all(s.low < 1000 < s.high for s in equal.standings), "at equal length neither is better"
    effect = equal.style[0]
    assert effect.low < np.exp(2 / 3) < effect.high and effect.low > 1


def test_who_always_wins_stays_finite_and_what_nobody_compared_is_said() -> None:
    found = [kept(Comparison(rater="ann", shown=(f"{n}:a@1", f"{n}:b@1"), verdict="first")) for n in range(20)]
    found += [kept(Comparison(rater="ann", shown=(f"{n}:c@1", f"{n}:d@1"), verdict="tie")) for n in range(5)]
    board = leaderboard(found, {})
    assert board.standings[0].version == "a@1" and board.standings[0].points < 2500
    assert board.groups == (("a@1", "b@1"), ("c@1", "d@1"))
    with pytest.raises(DataError, match="no two versions have been compared"):
        leaderboard([kept(Comparison(rater="ann", shown=("1:a@1", "2:a@1"), verdict="first"))], {})


@pytest.mark.data
def test_pandalms_annotators_agree_as_an_independent_count_says(public_data: Path) -> None:
    found, texts, instruction = pandalm(public_data)
    report = agreement(found, {})
    units: dict[Any, list[float]] = {}
    for one in found:
        assert isinstance(one.judgement, Comparison)
        lowest = one.judgement.shown[0] == min(one.judgement.shown)
        value = {"tie": 0, "first": 1 if lowest else 2, "second": 2 if lowest else 1}[one.judgement.verdict]
        units.setdefault(one.judgement.shown, []).append(value)
    assert report.comparisons.value == pytest.approx(plain_alpha(list(units.values()), ordered=False))
    assert report.comparisons.value == pytest.approx(0.847, abs=5e-4) and report.comparisons.items == 673
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]

    said = [[one.judgement.verdict for one in found if one.judgement.rater == f"annotator{n}"] for n in (1, 2, 3)]  # type: ignore[union-attr]
    for n, theirs in enumerate(said):  # of two raters, alpha is all but Cohen's kappa
        other = (n + 1) % 3
        two = [k for k in found if k.judgement.rater in (f"annotator{n + 1}", f"annotator{other + 1}")]
        alone = agreement(two, {}).comparisons.value
        assert alone == pytest.approx(cohen_kappa_score(theirs, said[other]), abs=2e-3)
    assert all(rater.flags == () and 0.8 < (rater.with_others or 0) < 0.9 for rater in report.raters)
    board = leaderboard(found, {}, item=lambda one: instruction[one.judgement.shown[0]])
    assert [s.version for s in board.standings] == [
        "llama-7b",
        "pythia-6.9b",
        "bloom-7b",
        "opt-7b",
        "cerebras-gpt-6.7B",
    ]
    assert board.standings[0].low > board.standings[1].high and len(texts) == 1346
