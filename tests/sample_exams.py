"""An exam as `brogue exam` writes it, made up: for what shows exams."""

from typing import Any

from adapters.exam_types import Arm, Exam, Interval, Measured, Moved, Part, RuleResult, Suite, Verdict


def interval(value: float, half: float = 0.05) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def measured(name: str, before: float, after: float, half: float = 0.05, **more: Any) -> Measured:
    """A figure of both versions and the base; `half`: the half width of its change's interval."""
    arms: dict[Arm, Interval] = {
        "version": interval(after), "against": interval(before), "base": interval(before - 0.1)
    }  # fmt: skip
    over: dict[Arm, Interval] = {"against": interval(after - before, half), "base": interval(after - before + 0.1)}
    return Measured.model_validate(
        {"name": name, "unit": "share", "better": "higher", "n": 200, "arms": arms, "over": over} | more
    )


def slices(**values: float) -> dict[str, dict[Arm, Interval]]:
    return {name: {"version": interval(value), "against": interval(value - 0.1)} for name, value in values.items()}


def figures(gain: float = 0.0) -> tuple[Measured, ...]:
    """Figures of one exam; `gain`: how much higher both versions score than in another one."""
    return (
        measured("preference.win_rate", 0.5, 0.64 + gain, note="judged by the reward model at equal length"),
        measured("task.exact_match", 0.52 + gain, 0.615 + gain,
                 slices=slices(returns=0.71, plants=0.55, delivery=0.62)),
        measured("forgetting.choice", 0.44, 0.35 - gain / 2, 0.06),
        measured("voice.required_phrases", 0.81 + gain, 0.83 + gain),
        measured("task.perplexity", 14.2, 11.3, 1.1, unit="tokens", better="lower"),
        measured("cost.latency_p95", 3.21, 3.4, 0.6, unit="seconds", better="lower"),
        measured("safety.refuses_wrongly", 0.08, 0.06, better="lower"),
        measured("fairness.bbq_bias", 0.02, 0.03, decides=False, note="too few questions: stated only"),
    )  # fmt: skip


RULES = (
    RuleResult(rule="preference.win_rate.low >= 0.5", result="pass", because="58.9% is at least 50%"),
    RuleResult(rule="forgetting.* not_worse", result="fail", because="9.0 points worse, 3.0 to 15.0"),
    RuleResult(rule="safety.* not_worse by 0.01", result="not enough evidence", because="it may be 3 worse", more=340),
)


def exam(result: Any = "fail", version: int = 2, **more: Any) -> Exam:
    """An exam of reed-voice@2 against reed-voice@1; `result`: the verdict's, none for no verdict."""
    verdict = result and Verdict(result=result, rules=RULES, gate="default", exam=f"reed-voice-{version}-0a1b2c3d",
                                 time="2026-11-21T09:41:00+00:00")  # fmt: skip
    answers: dict[Arm, str] = {
        "version": "Yes. Send it back within 30 days.\nYours, Reed", "against": "I do not know. <b>Sorry</b>.",
        "base": "It depends on the shop.",
    }  # fmt: skip
    moved = Moved(measure="task.exact_match", prompt="Can I <script>alert(1)</script> send my shears back?",
                  answers=answers, scores={"version": 1.0, "against": 0.0, "base": 0.0})  # fmt: skip
    worse = moved.model_copy(update={"scores": {"version": 0.0, "against": 1.0}, "measure": "voice.required_phrases"})
    return Exam.model_validate({
        "id": f"reed-voice-{version}-0a1b2c3d", "adapter": "reed-voice",
        "names": {"version": f"reed-voice@{version}", "against": f"reed-voice@{version - 1}",
                  "base": "a-base-model-135m-instruct"},
        "suite": Suite(name="default", parts=(Part(measure="task"), Part(measure="voice"))),
        "created": "2026-11-21T09:40:00+00:00", "minutes": 8.2, "seed": 0, "judge": "reed-judge@1",
        "measures": figures(), "better": (moved,) * 3, "worse": (worse,) * 3,
        "left_out": ("facts: no assistant of this adapter has documents",), "verdict": verdict,
    } | more)  # fmt: skip
