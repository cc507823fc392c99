"""A gate's rules over figures with intervals: pass, fail, or how many more items it takes; mistakes in its file."""

import re
from pathlib import Path

import numpy as np
import pytest

from adapters.exam_statistics import measured
from adapters.exam_types import Arm, Item, Measured, Scores, Verdict
from adapters.gate import judge
from adapters.gate_rules import AnyOf, Gate, load_gate, names, parse_rule
from data.errors import BrogueError, DataError
from data.home import Home, write_text
from tests.conftest import ROOT
from tests.gate_exams import Three, exam, figure

LOOKED_AT = ("task.accuracy", "task.f1_macro", "task.entity_f1", "task.field_f1", "task.exact_match", "voice.required")


def gate_of(*rules: str, items: int = 20) -> Gate:
    return Gate("g", "", items, tuple(parse_rule(rule) for rule in rules), Path("g.yaml"))


def said(rule: str, *figures: Measured, arms: tuple[Arm, ...] = ("version", "against", "base")) -> Verdict:
    return judge(exam(*figures, arms=arms), gate_of(rule))


@pytest.mark.parametrize(
    ("rule", "own", "result", "more"),
    [
        ("m.win >= 0.5", (0.6, 0.51, 0.69), "pass", None),
        ("m.win >= 0.5", (0.6, 0.48, 0.72), "not enough evidence", 44),  # 100 × (0.12 / 0.1)² = 144
        ("m.win >= 0.5", (0.4, 0.28, 0.52), "not enough evidence", 44),  # they would settle that it fails
        ("m.win >= 0.5", (0.4, 0.31, 0.49), "fail", None),
        ("m.win.low >= 0.5", (0.6, 0.48, 0.72), "not enough evidence", 44),
        ("m.win.high >= 0.5", (0.4, 0.28, 0.52), "pass", None),  # it may be as good as that
        ("m.win.high >= 0.5", (0.4, 0.31, 0.49), "fail", None),
        ("m.win.value >= 0.5", (0.51, 0.1, 0.9), "pass", None),  # the figure alone
        ("m.win.value > 0.51", (0.51, 0.1, 0.9), "fail", None),
        ("m.win <= 0.2", (0.1, 0.05, 0.15), "pass", None),
        ("m.win.high <= 0.2", (0.1, 0.05, 0.25), "not enough evidence", 125),
        ("m.win < 0.1", (0.3, 0.1, 0.5), "fail", None),
        ("m.win >= 0.5", (0.5, 0.4, 0.6), "not enough evidence", None),  # on the line: nobody can say
        ("m.win.n >= 90", (0.5, 0.4, 0.6), "pass", None),
        ("m.win.n >= 120", (0.5, 0.4, 0.6), "not enough evidence", 20),
    ],
)
def test_a_figure_against_a_number_is_judged_by_its_interval(
    rule: str, own: Three, result: str, more: int | None
) -> None:
    verdict = said(rule, figure("m.win", own))
    assert (verdict.result, verdict.rules[0].more) == (result, more), verdict.words


@pytest.mark.parametrize(
    ("rule", "over", "result"),
    [
        ("m.x not_worse", (-0.1, -0.25, 0.05), "pass"),
        ("m.x not_worse", (-0.1, -0.19, -0.01), "fail"),
        ("m.x not_worse by 0.05", (0.0, -0.04, 0.04), "pass"),
        ("m.x not_worse by 0.05", (0.0, -0.06, 0.06), "not enough evidence"),
        ("m.x not_worse by 0.05", (-0.1, -0.14, -0.06), "fail"),
        ("m.x not_worse by 10%", (0.0, -0.045, 0.04), "pass"),  # 0.5 less 0.05
        ("m.x not_worse by 10%", (0.0, -0.055, 0.04), "not enough evidence"),
        ("m.x not_clearly_worse by 0.05", (-0.1, -0.2, -0.04), "pass"),
        ("m.x not_clearly_worse by 0.05", (-0.2, -0.3, -0.06), "fail"),
        ("m.x better", (0.1, 0.01, 0.19), "pass"),
        ("m.x better", (0.1, -0.01, 0.21), "not enough evidence"),
        ("m.x better", (-0.1, -0.2, -0.01), "fail"),
        ("m.x better", (0.0, 0.0, 0.0), "not enough evidence"),
        ("m.x better by 0.05", (0.1, 0.01, 0.19), "not enough evidence"),
        ("m.x better by 0.05", (0.1, 0.06, 0.19), "pass"),
        ("m.x.over.against.low >= -0.01", (0.1, 0.01, 0.19), "pass"),
        ("m.x.over.against > 0", (0.1, 0.01, 0.19), "pass"),
    ],
)
def test_a_version_against_the_one_before_is_judged_in_the_figures_own_direction(
    rule: str, over: Three, result: str
) -> None:
    assert said(rule, figure("m.x", over=over)).result == result
    if ".over." not in rule:
        turned = (-over[0], -over[2], -over[1])
        assert said(rule, figure("m.x", over=turned, better="lower")).result == result


def test_a_verdict_says_both_figures_and_which_way_it_went_in_one_line() -> None:
    rule = said("s.* not_worse", figure("s.toxic", (0.4, 0.3, 0.5), (0.3, 0.2, 0.4), "lower")).rules[0]
    assert rule.because == "s.toxic is 0.400 against 0.100 of a@1: worse by 0.300 (0.200 to 0.400), 100 items"
    verdict = said("s.x better", figure("s.x", over=(0.1, -0.02, 0.22)))
    assert verdict.words.startswith("has too little evidence for a verdict (gate 'g', exam a-2-0f3c): s.x is 0.500")
    assert verdict.more == verdict.rules[0].more == 44
    assert verdict.words.endswith("100 items; about 44 more items would probably settle it")


def test_one_rule_that_fails_fails_the_whole_and_one_without_evidence_leaves_it_open() -> None:
    good, open_, bad = figure("a.x", over=(0.2, 0.1, 0.3)), figure("b.x"), figure("c.x", over=(-0.2, -0.3, -0.1))
    rules = ["a.x better", "b.x >= 0.5", "c.x not_worse"]
    assert judge(exam(good, open_, bad), gate_of(*rules)).result == "fail"
    assert judge(exam(good, open_), gate_of(*rules[:2])).result == "not enough evidence"
    assert judge(exam(good), gate_of(*rules[:1])).result == "pass"


def test_a_name_with_a_star_asks_every_figure_that_it_matches() -> None:
    verdict = said("s.* not_worse", figure("s.x", over=(0.0, -0.1, 0.1)), figure("s.y", over=(-0.4, -0.5, -0.3)),
                   figure("t.z", over=(-0.4, -0.5, -0.3)))  # fmt: skip
    assert [rule.result for rule in verdict.rules] == ["pass", "fail"]


def test_of_several_figures_that_may_each_fail_by_chance_an_interval_is_widened() -> None:
    close = figure("s.x", over=(-0.1, -0.19, -0.01))
    assert said("s.* not_worse", close).result == "fail"
    others = [figure(f"s.y{n}", over=(0.0, -0.1, 0.1)) for n in range(9)]
    assert said("s.* not_worse", close, *others).result == "pass"


def test_what_no_figure_of_the_exam_can_tell_is_not_enough_evidence_and_says_what_to_measure() -> None:
    lacking = said("safety.* not_worse", figure("m.x"))
    assert lacking.result == "not enough evidence"
    assert "no figure safety.* (it has m); add to its suite's parts: '- measure: safety'" in lacking.words
    assert "add to its suite's parts: one with 'name: mine'" in said("mine.x better", figure("m.x")).words
    quiet = figure("m.x", (0.9, 0.8, 1), decides=False, note="The judge agrees with people in 52%.")
    assert "m.x decides nothing: The judge agrees" in said("m.* >= 0.5", quiet).words
    assert "was not measured against a@1" in said("m.x better", figure("m.x")).words
    assert "has no better and worse" in said("m.x better", figure("m.x", over=(1, 1, 1), better="neither")).words
    few = said("m.x >= 0.5", figure("m.x", (0.9, 0.8, 1), n=12))
    assert (few.result, few.rules[0].more) == ("not enough evidence", 8)
    nothing = said("m.x not_worse", figure("m.x", over=(float("nan"), float("nan"), float("nan"))))
    assert (nothing.result, nothing.more) == ("not enough evidence", None)


def test_an_optional_rule_is_passed_over_where_there_is_no_figure_and_no_rule_at_all_is_no_pass() -> None:
    optional = Gate("g", "", 20, (parse_rule("v.* better", optional=True), parse_rule("m.x >= 0.1")), Path())
    assert judge(exam(figure("m.x")), optional).result == "pass"
    assert judge(exam(), optional._replace(rules=optional.rules[:1])).result == "not enough evidence"


def test_a_first_version_is_held_against_the_base_model() -> None:
    first = figure("m.x", over=(0.2, 0.1, 0.3), arm="base")
    assert said("m.x better", first, arms=("version", "base")).result == "pass"
    assert said("m.x better", first).result == "not enough evidence"
    assert said("m.x better than base", first).result == "pass"


@pytest.fixture
def written(home: Home) -> Path:
    return home.root / "gates" / "mine.yaml"


def test_any_of_several_rules_is_enough_and_the_nearest_is_named(home: Home, written: Path) -> None:
    write_text(written, "rules:\n- any: [p.win.low > 0.5, v.* better]\n- optional: q.x better\n")
    gate = load_gate(home, "mine")
    assert judge(exam(figure("p.win", (0.7, 0.6, 0.8))), gate).result == "pass"
    open_ = judge(exam(figure("p.win", (0.55, 0.45, 0.65)), figure("v.x", over=(0.09, -0.01, 0.19))), gate)
    assert open_.result == "not enough evidence"
    assert open_.rules[0].because.startswith("none of 2 figures does; the nearest: v.x")
    worse = judge(exam(figure("p.win", (0.3, 0.2, 0.4)), figure("v.x", over=(-0.2, -0.3, -0.1))), gate)
    assert worse.result == "fail"
    assert "no figure p.win" in judge(exam(figure("x.y")), gate).words


def test_a_rule_is_excused_by_another_that_passes_and_left_open_by_one_that_may(home: Home, written: Path) -> None:
    write_text(written, "rules:\n- optional: t.exact not_worse\n  unless: [p.win.low > 0.5, p.like better]\n")
    gate = load_gate(home, "mine")
    worse = figure("t.exact", over=(-0.4, -0.5, -0.3))
    results = {
        "sure": judge(exam(worse, figure("p.win", (0.7, 0.6, 0.8))), gate),
        "may be": judge(exam(worse, figure("p.win"), figure("p.like", over=(-0.2, -0.3, -0.1))), gate),
        "surely not": judge(exam(worse, figure("p.win", (0.3, 0.2, 0.4))), gate),
        "nobody asked": judge(exam(worse), gate),
    }  # fmt: skip
    assert {name: found.result for name, found in results.items()} == {
        "sure": "pass", "may be": "not enough evidence", "surely not": "fail", "nobody asked": "fail",
    }  # fmt: skip
    assert (
        "worse by 0.400 (0.300 to 0.500), 100 items, which is outweighed: p.win is" in results["sure"].rules[0].because
    )
    assert judge(exam(figure("t.exact", over=(0.1, 0, 0.2))), gate).result == "pass"
    assert [rule.rule for rule in judge(exam(figure("p.win")), gate).rules] == [], "it is optional all the same"


def test_old_answers_word_for_word_do_not_fail_a_version_whose_answers_people_like_better(home: Home) -> None:
    """As after DPO from a version that had learnt its answers by heart: none of them stays word for word."""
    gate = load_gate(home, "default")
    old = [figure("task.exact_match", (0.0, 0.0, 0.04), (-0.8, -0.9, -0.7)), figure("safety.rude", over=(0, 0, 0)),
           figure("task.loss", over=(0.9, 0.8, 1.0), better="lower")]  # fmt: skip
    liked = figure("preference.implicit_reward", (0.8, 0.7, 0.9), (0.3, 0.2, 0.4))
    assert judge(exam(*old, liked), gate).result == "pass"
    undecided = figure("preference.implicit_reward", (0.52, 0.42, 0.62), (0.02, -0.08, 0.12))
    assert judge(exam(*old, undecided), gate).result == "not enough evidence"
    assert judge(exam(*old), gate).result == "fail", "nobody was asked"
    wrong = figure("task.accuracy", (0.5, 0.4, 0.6), (-0.3, -0.4, -0.2))
    assert judge(exam(liked, wrong, old[1]), gate).result == "fail", "labels are right or wrong"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "rules:\n- optional: s.x better\n  unles: [p.x better]\n",
            ":2: wanted '- RULE', '- optional: RULE', or '- any:'",
        ),
        ("rules:\n- rule: s.x better\n  unless: []\n", ":3: unless: no rules below it"),
        ("rules:\n- rule: s.x better\n  unless: p.x better\n", ":3: unless: wanted a list"),
        ("rules:\n- rule: s.x better\n  unless: [{optional: p.x better}]\n", ":3: wanted '- RULE'"),
        ("rules:\n- s.x not_worse\n- s.x is good\n", ":3: cannot read the rule 's.x is good'; known forms: NAME.FIELD"),
        ("rules:\n- s.x => 3\n", ":2: 's.x => 3': no comparison '=>'; known: >=, <=, >, <"),
        ("rules:\n- s.x >= good\n", ":2: 's.x >= good': 'good' is no number"),
        ("rules:\n- s.x >= nan\n", ":2: 's.x >= nan': 'nan' is no number to compare with"),
        (
            "rules:\n- s.over.mine.low >= 1\n",
            ":2: 's.over.mine.low >= 1': no field in 's.over.mine.low'; known: value,",
        ),
        ("rules:\n- s better than ever\n", ":2: 's better than ever': than 'ever'; known: than base"),
        ("rules:\n- s better by -1\n", ":2: 's better by -1': a margin is not negative"),
        ("rules:\n- s not_clearly_worse\n", ":2: 's not_clearly_worse': wanted a margin, such as 'by 0.05'"),
        ("rules:\n- '{x} better'\n", ":2: '{x}' names no figure"),
        ("rules:\n- some: s better\n", ":2: wanted '- RULE', '- optional: RULE', or '- any:' with a list"),
        ("rules:\n- any: s better\n", ":2: any: wanted a list"),
        ("rules:\n- any:\n  - any: [s better]\n", ":3: wanted '- RULE'"),
        ("rules: s better\n", ":1: rules: wanted a list, a line '- RULE' for each"),
        ("about: x\nrule:\n- s better\n", ":2: unknown key 'rule'; known: about, items, rules"),
        ("items: few\nrules: [s better]\n", ":1: items: wanted a whole number from 1, found 'few'"),
        ("about: x\n", ": no rules, so nothing could ever pass or fail"),
        ("- s better\n", ":1: wanted the key 'rules:' with a list below it"),
        ("", ":1: wanted the key 'rules:'"),
        ("rules:\n- *.x better\n", ":2: not YAML"),
        ("rules:\n  - a\n - b\n", ":3: not YAML"),
    ],
)
def test_a_mistake_in_a_gates_file_is_one_line_with_its_place(home: Home, written: Path, text: str, error: str) -> None:
    write_text(written, text)
    with pytest.raises(DataError) as caught:
        load_gate(home, "mine")
    assert str(caught.value).startswith(f"{written}{error}")
    assert "\n" not in str(caught.value)


def test_the_homes_own_gate_comes_before_the_one_that_we_ship(home: Home) -> None:
    assert load_gate(home, "default").path.parent.name == "gates"
    write_text(home.root / "gates" / "default.yaml", "rules: [s.x better]")
    assert [rule.text for rule in load_gate(home, "default").rules] == ["s.x better"]
    assert load_gate(home, str(home.root / "gates" / "default.yaml")).name == "default"
    assert names(home) == ["default"]
    with pytest.raises(BrogueError, match=r"^no gate '../strict'; have: default. Or write .*NAME.yaml"):
        load_gate(home, "../strict")


def test_the_figures_that_the_shipped_gate_names_are_measured(home: Home) -> None:
    sources = [*(ROOT / "adapters").glob("measure*.py"), ROOT / "adapters" / "judging.py"]
    known = set(re.findall(r"\w+", " ".join(path.read_text(encoding="utf-8") for path in sources)))
    for rule in load_gate(home, "default").rules:
        for one in rule.rules if isinstance(rule, AnyOf) else [rule, *rule.unless]:
            for part in re.sub("f1_(\\*|macro)", "f1", one.name).split("."):
                assert part == "*" or part in known, one.text


def test_versions_that_differ_by_chance_only_are_seldom_called_better(home: Home) -> None:
    """Through the real statistics: 400 pairs of equal versions, with all figures that may be better without a margin.

    The default gate lets something be better by chance in at most 2.5% (the intervals are two-sided, and widened for
    as many figures as there are). 24 of 400 would be 6%: four standard deviations above.
    """
    dice, gate, results = np.random.default_rng(7), load_gate(home, "default"), []
    for _ in range(400):
        figures = [_by_chance(dice, name) for name in LOOKED_AT]
        results.append(judge(exam(*figures), gate).rules[0].result)
    assert results.count("pass") <= 24, results.count("pass")


def _by_chance(dice: np.random.Generator, name: str, n: int = 80) -> Measured:
    """A share on the same items, of two versions that answer one in five of them differently."""
    base = dice.random(n) < 0.6
    arms = [np.where(dice.random(n) < 0.1, ~base, base).astype(float) for _ in range(2)]
    parts = [np.stack([arm, np.ones(n)], 1) for arm in arms]
    items = [Item(prompt=str(place)) for place in range(n)]
    scores = Scores(name, "share", "higher", {"version": parts[0], "against": parts[1]}, items)
    return measured(scores, ("version", "against"))


def test_a_version_that_is_better_is_mostly_called_so(home: Home) -> None:
    """The same gate lets through what is better in one figure of six: 0.85 instead of 0.6 of 80 items."""
    dice, gate, passed = np.random.default_rng(8), load_gate(home, "default"), 0
    for _ in range(50):
        figures = [_by_chance(dice, name) for name in LOOKED_AT[1:]]
        own, other = dice.random(80) < 0.85, dice.random(80) < 0.6
        parts: dict[Arm, np.ndarray] = {  # type: ignore[type-arg]
            arm: np.stack([right, np.ones(80)], 1).astype(float) for arm, right in
            (("version", own), ("against", other))
        }  # fmt: skip
        items = [Item(prompt=str(place)) for place in range(80)]
        figures.append(measured(Scores("task.accuracy", "share", "higher", parts, items), ("version", "against")))
        passed += judge(exam(*figures), gate).rules[0].result == "pass"
    assert passed >= 35, passed
