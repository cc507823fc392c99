"""Whether a version may go on: the rules of a gate over the figures of an exam, with their intervals.

Each rule passes, fails, or has not enough evidence; then it says how many more items would probably settle it. A rule
rests only on figures that may decide (`Measured.decides`), of enough items. The whole fails if any rule does. Pure.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from statistics import NormalDist
from typing import NamedTuple

from adapters.exam_types import Arm, Exam, Interval, Measured, RuleResult, Verdict
from adapters.gate_rules import AnyOf, Bound, Change, Gate, Rule
from adapters.measures import MEASURES
from adapters.registry_state import Result

MOST = 100_000  # more items than that are no plan


class _Says(NamedTuple):
    result: Result
    because: str
    more: int | None = None


def judge(exam: Exam, gate: Gate) -> Verdict:
    """What `gate` says of the exam's version, rule by rule."""
    rules = tuple(said for rule in gate.rules for said in _apply(rule, exam, gate.items))
    found = {rule.result for rule in rules}
    whole: Result = "fail" if "fail" in found else "pass" if found == {"pass"} else "not enough evidence"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Verdict(result=whole, rules=rules, gate=gate.name, exam=exam.id, time=now)


def _apply(rule: Rule | AnyOf, exam: Exam, fewest: int) -> list[RuleResult]:
    """A rule's results, one for each figure that it looks at; one altogether where one figure is enough."""
    if isinstance(rule, AnyOf):
        some = [(one, figure) for one in rule.rules for figure in _usable(one, exam)]
        each = [_one(one, figure, exam, fewest, len(some)) for one, figure in some]
        found = [_some(each) if each else _missing(rule.rules, exam)]
    else:
        figures = _usable(rule, exam)
        found = [_one(rule, figure, exam, fewest, len(figures) if _may_fail(rule) else 1) for figure in figures]
        found = [_excused(one, rule, exam, fewest) for one in found]
        if not figures and not rule.optional:
            found = [_missing([rule], exam)]
    return [RuleResult(rule=rule.text, result=one.result, because=one.because, more=one.more) for one in found]


def _excused(found: _Says, rule: Rule, exam: Exam, fewest: int) -> _Says:
    """A rule that does not pass, with those that excuse it: one that passes is enough, one that may leaves it open."""
    some = [(one, figure) for one in rule.unless for figure in _usable(one, exam)]
    if found.result == "pass" or not some:
        return found
    other = _some([_one(one, figure, exam, fewest, len(some)) for one, figure in some])
    if other.result == "fail":
        return found
    joined = "which is outweighed" if other.result == "pass" else "which may be outweighed"
    return _Says(other.result, f"{found.because}, {joined}: {other.because}", other.more)


def _may_fail(rule: Rule) -> bool:
    """Does a rule pass unless one of its figures surely fails it?"""
    says = rule.says
    return isinstance(says, Change) and (
        says.way == "not_clearly_worse" or (says.way, says.margin) == ("not_worse", None)
    )


def _matching(rule: Rule, exam: Exam) -> list[Measured]:
    return [one for one in exam.measures if fnmatchcase(one.name, rule.name)]


def _usable(rule: Rule, exam: Exam) -> list[Measured]:
    """The figures that a rule can rest on."""
    return [one for one in _matching(rule, exam) if one.decides and _interval(rule, one, exam) is not None]


def _missing(rules: Sequence[Rule], exam: Exam) -> _Says:
    """Why there is no figure for any of some rules, and what to measure."""
    rule, figure = next(((one, found) for one in rules for found in _matching(one, exam)), (rules[0], None))
    if figure is None:
        known = ", ".join(sorted({one.name.partition(".")[0] for one in exam.measures})) or "none"
        wanted = ", ".join(dict.fromkeys(one.name for one in rules))
        why = f"the exam has no figure {wanted} (it has {known}); add to its suite's parts: {_part(rules)}"
    elif not figure.decides:
        why = f"{figure.name} decides nothing: {figure.note or 'it is only stated'}"
    elif isinstance(rule.says, Change) and figure.better == "neither":
        why = f"{figure.name} has no better and worse; hold it against a number"
    else:
        why = f"{figure.name} was not measured against {exam.names.get(_arm(rule, exam) or 'against', 'another')}"
    return _Says("not enough evidence", why)


def _part(rules: Sequence[Rule]) -> str:
    """The parts of a suite that would have the figures of some rules."""
    firsts = dict.fromkeys(one.name.partition(".")[0] for one in rules)
    known = [f"'- measure: {name}'" for name in firsts if name in MEASURES]
    return " or ".join(known or [f"one with 'name: {name}'" for name in firsts])


def _arm(rule: Rule, exam: Exam) -> Arm | None:
    """Whom a rule compares with. Where no version is before it, the base model takes its place."""
    wanted = rule.says.than if isinstance(rule.says, Change) else rule.says.over
    return "base" if wanted == "against" and "against" not in exam.names else wanted


def _interval(rule: Rule, figure: Measured, exam: Exam) -> Interval | None:
    """What a rule looks at: a figure itself, or its difference to another arm; for a `Change` with up for better."""
    arm = _arm(rule, exam)
    if arm is None:
        return figure.arms.get("version")
    found = figure.over.get(arm)
    if not isinstance(rule.says, Change) or found is None or figure.better == "higher":
        return found
    if figure.better == "neither":
        return None
    return Interval(value=-found.value, low=-found.high, high=-found.low)


def _one(rule: Rule, figure: Measured, exam: Exam, fewest: int, of: int) -> _Says:
    """A rule over one figure.

    The more figures a rule looks at, the sooner one of them crosses a bound by chance. So where one of several decides
    (it alone can fail, or it alone is enough to pass), `of` is their number, and the interval is widened as
    Bonferroni's correction does.
    """
    found = _interval(rule, figure, exam)
    assert found is not None  # see `_usable`
    if isinstance(rule.says, Bound) and rule.says.field == "n":
        return _count(rule.says, figure)
    if figure.n < fewest:
        why = f"{figure.name} rests on {figure.n} items, and fewer than {fewest} decide nothing"
        return _Says("not enough evidence", why, fewest - figure.n)
    if any(map(math.isnan, (found.value, found.low, found.high))):
        return _Says("not enough evidence", f"{figure.name} has no figure that can be compared")
    found = _widened(found, of) if of > 1 else found
    arm = _arm(rule, exam)
    if isinstance(rule.says, Bound):
        return _bound(rule.says, figure, found)
    assert arm is not None
    return _change(rule.says, figure, found, arm, exam.names.get(arm, arm))


def _count(says: Bound, figure: Measured) -> _Says:
    words = f"{figure.name} rests on {figure.n} items; wanted {says.op} {says.number:g}"
    if _compare(figure.n, says.op, says.number):
        return _Says("pass", words)
    more = math.ceil(says.number) - figure.n + (says.op == ">")
    return _Says("not enough evidence", words, more if more > 0 else None)


def _bound(says: Bound, figure: Measured, found: Interval) -> _Says:
    """A figure against a number: the whole interval, or the end that is named, on the right side of it."""
    what = f"{figure.name} less {says.over}'s" if says.over else figure.name
    words = f"{what} is {_number(found.value)} ({_number(found.low)} to {_number(found.high)}), {figure.n} items"
    words += f"; wanted {says.op} {says.number:g}"
    up = says.op.startswith(">")
    strict = found.low if up else found.high  # the end that has to hold for the whole interval to do
    lenient = found.high if up else found.low
    if says.field == "value":
        return _Says("pass" if _compare(found.value, says.op, says.number) else "fail", words)
    if says.field == ("high" if up else "low"):  # "it may be as good as that": only what is surely short of it fails
        return _Says("pass" if _compare(lenient, says.op, says.number) else "fail", words)
    if _compare(strict, says.op, says.number):
        return _Says("pass", words)
    if not _compare(lenient, says.op, says.number):
        return _Says("fail", words)
    return _Says("not enough evidence", words, _more(figure.n, found, says.number))


def _change(says: Change, figure: Measured, found: Interval, arm: Arm, other: str) -> _Says:
    """A version against another arm: worse, better, or neither can be told. `found` is turned: up is better."""
    margin = (says.margin or 0) * (abs(figure.arms[arm].value) if says.relative and arm in figure.arms else 1)
    words = _compared(figure, found, arm, other) + (f"; the margin is {_number(margin)}" if says.margin else "")
    if says.way == "not_clearly_worse" or (says.way == "not_worse" and says.margin is None):
        return _Says("fail" if found.high < -margin else "pass", words)
    bound = -margin if says.way == "not_worse" else margin
    if found.low > bound or (found.low == bound and says.way == "not_worse"):
        return _Says("pass", words)
    if found.high < bound:
        return _Says("fail", words)
    return _Says("not enough evidence", words, _more(figure.n, found, bound))


def _some(found: Sequence[_Says]) -> _Says:
    """One result of several figures of which one is enough."""
    if passed := [one for one in found if one.result == "pass"]:
        return passed[0]
    likely = min(found, key=lambda one: (one.result == "fail", one.more is None, one.more or 0))
    text = likely.because if len(found) == 1 else f"none of {len(found)} figures does; the nearest: {likely.because}"
    return _Says(likely.result, text, likely.more)


def _widened(found: Interval, of: int) -> Interval:
    """The interval of one of several figures so that all hold together in 95%, as if it were normal (Bonferroni)."""
    normal = NormalDist()
    wider = normal.inv_cdf(1 - 0.025 / of) / normal.inv_cdf(1 - 0.025)
    return Interval(value=found.value, low=found.value - wider * (found.value - found.low),
                    high=found.value + wider * (found.high - found.value))  # fmt: skip


def _more(n: int, found: Interval, bound: float) -> int | None:
    """How many further items would bring the interval's nearer end to the bound, if the figure stays: width ∝ 1/√n."""
    distance = abs(found.value - bound)
    half = found.value - found.low if found.value > bound else found.high - found.value
    if not distance or not math.isfinite(half / distance):
        return None
    more = max(1, math.ceil(round(n * (half / distance) ** 2, 6)) - n)
    return more if more <= MOST else None


def _compared(figure: Measured, found: Interval, arm: Arm, other: str) -> str:
    """Both figures and which way it went, in words."""
    arms = f"{_number(figure.arms['version'].value)} " if "version" in figure.arms else ""
    theirs = f"{_number(figure.arms[arm].value)} of " if arm in figure.arms else ""
    worse = found.value < 0
    low, high = (-found.high, -found.low) if worse else (found.low, found.high)
    way = f"{'worse' if worse else 'better'} by {_number(abs(found.value))} ({_number(low)} to {_number(high)})"
    return f"{figure.name} is {arms}against {theirs}{other}: {way}, {figure.n} items"


def _compare(value: float, op: str, number: float) -> bool:
    return {">=": value >= number, "<=": value <= number, ">": value > number, "<": value < number}[op]


def _number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.3g}"
