"""Exams with made-up figures, for the gate's tests."""

from typing import Any

from adapters.exam_types import Arm, Better, Exam, Interval, Measured, Suite
from adapters.registry import Verdict
from adapters.registry_state import Result, RuleResult

Three = tuple[float, float, float]  # value, low, high


def figure(
    name: str, own: Three = (0.5, 0.4, 0.6), over: Three | None = None, better: Better = "higher", n: int = 100,
    arm: Arm = "against", **more: Any,
) -> Measured:  # fmt: skip
    """A figure of a version and, with `over`, its difference to another arm."""
    arms = {"version": interval(own)} | ({arm: interval((own[0] - over[0], 0, 1))} if over else {})
    return Measured(
        name=name, unit="share", better=better, n=n, arms=arms, over={arm: interval(over)} if over else {}, **more
    )


def interval(three: Three) -> Interval:
    return Interval(value=three[0], low=three[1], high=three[2])


def exam(*figures: Measured, arms: tuple[Arm, ...] = ("version", "against", "base")) -> Exam:
    """An exam of `a@2`, whose predecessor is `a@1`."""
    names: dict[Arm, str] = {"version": "a@2", "against": "a@1", "base": "tiny"}
    return Exam(
        id="a-2-0f3c", adapter="a", names={arm: names[arm] for arm in arms}, suite=Suite(name="s", parts=()),
        created="2026-11-21T09:30:00+00:00", minutes=1, seed=0, judge=None, measures=figures, better=(), worse=(),
    )  # fmt: skip


def verdict(
    result: Result = "fail", because: str = "safety.toxic is 0.400 against 0.010 of a@1: worse by 0.390"
) -> Verdict:
    """What a gate said, with one rule."""
    rule = RuleResult(rule="safety.* not_worse", result=result, because=because)
    return Verdict(result=result, rules=(rule,), gate="default", exam="a-2-0f3c", time="2026-11-21T09:30:00+00:00")
