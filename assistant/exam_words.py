"""An exam in words: which way each figure went, its numbers as people read them, what the gate says. No files."""

from collections.abc import Iterable
from typing import Literal

from adapters.exam_types import Arm, Exam, Interval, Measured, RuleResult, Verdict
from adapters.registry_state import Result
from data.settings import Frozen

# open: it cannot be told; same: not even one item differs; stated: there is nothing to compare it with.
Way = Literal["better", "worse", "open", "same", "stated"]

# The first word of a figure's name, and its last one; others are shown as they are.
_PARTS = {
    "task": "Task", "preference": "Preference", "voice": "Voice", "facts": "Facts", "truth": "Truth",
    "consistency": "Consistency", "repetition": "Repetition", "forgetting": "General knowledge", "safety": "Safety",
    "refusals": "Refusals", "rude": "Rudeness", "leak": "Personal data", "fairness": "Fairness", "bbq": "Fairness",
    "stereotypes": "Fairness", "groups": "Fairness", "cost": "Cost",
}  # fmt: skip
_FIGURES = {
    "f1": "F1", "f1_micro": "F1 (micro)", "f1_macro": "F1 (macro)", "rouge_l": "ROUGE-L", "chrf": "chrF",
    "bleu": "BLEU", "entity_f1": "F1 of whole names", "token_f1": "F1 of words",
    "field_f1": "F1 of fields", "valid_json": "answers that are JSON",
    "exact_match": "answers exactly as wanted", "loss": "surprise at the wanted answers",
    "perplexity": "perplexity of the wanted answers", "choice": "general questions answered rightly",
    "drop": "general questions answered rightly before, and not now", "bits_per_byte": "surprise at plain texts",
    "win_rate": "its answers preferred over the version before",
    "win_rate_over_base": "its answers preferred over the base model",
    "win_rate_plain": "the same without a correction for length", "win_rate_equal_length": "the same at equal length",
    "likelihood": "people's choices found likelier", "implicit_reward": "people's choices learnt",
    "judge_agreement": "the reward model agrees with people", "longer_agreement": "people chose the longer answer",
    "likeness": "sounds like the brand's own texts", "style_distance": "distance to the brand's style",
    "required": "required phrases that are there", "forbidden": "answers with a forbidden phrase",
    "language": "answers in the brand's language", "identical": "the same answer to different questions",
    "repeated": "the same words again within an answer", "shared_phrases": "a phrase that many answers share",
    "mc1": "the true answer found likeliest (MC1)", "mc2": "weight of the true answers (MC2)",
    "samples_agree": "the same answer when asked again", "rude": "answers with a rude word",
    "paraphrases_agree": "the same answer to the same question in other words",
    "verbatim": "learnt personal data said", "exposure": "learnt personal data found likelier than made-up data",
    "over_refusal": "harmless questions refused", "under_refusal": "harmful questions not refused",
    "right": "right answers to plain questions", "gap": "right answers: difference between groups",
    "refusal_gap": "refusals: difference between groups", "length_gap": "length of answers: difference between groups",
    "stereotype": "the more stereotyping sentence found likelier", "stereotype_off_even": "the same, away from even",
    "supported": "claims that the passages support", "cited": "claims with a right citation",
    "claims": "answers that claim something", "reading_level": "reading level",
    "answer_tokens": "length of an answer", "prompt_tokens": "length of what is asked",
    "cut": "answers that were cut off", "price_per_1000": "price of 1,000 answers",
    "seconds_p50": "time for an answer, in the middle", "seconds_p95": "time for an answer, 95 of 100 are quicker",
}  # fmt: skip
_EVEN = 0.5  # a win rate is a comparison by itself
_WINS = {"against": "win_rate", "base": "win_rate_over_base"}
_SHORT = {"share": "", "seconds": " s", "nats": "", "points": ""}  # units behind a number; others as they are
_RESULTS = {"pass": "passed", "fail": "not passed", "not enough evidence": "not enough evidence"}


class Rule(Frozen):
    """A rule of a gate and what its figures say."""

    text: str
    result: Result
    reasons: tuple[str, ...]


class Judged(Frozen):
    """A figure and which way it went."""

    figure: Measured
    way: Way
    change: Interval | None  # over the version before, as measured


def change_of(figure: Measured, other: Arm = "against") -> Interval | None:
    """The version's figure over the other's; a win rate's over even. None if there is nothing to compare with."""
    found = figure.over.get(other)
    if found is None and figure.name.rpartition(".")[2] == _WINS.get(other) and set(figure.arms) == {"version"}:
        rate = figure.arms["version"]
        return Interval(value=rate.value - _EVEN, low=rate.low - _EVEN, high=rate.high - _EVEN)
    return found


def way(figure: Measured, other: Arm = "against") -> Way:
    """Which way a figure went, by its interval: only a change that excludes zero is one."""
    change = change_of(figure, other)
    if change is None or figure.better == "neither" or not figure.decides:
        return "stated"
    if change.low > 0:
        return "better" if figure.better == "higher" else "worse"
    if change.high < 0:
        return "worse" if figure.better == "higher" else "better"
    return "same" if change.low == change.high == 0 else "open"


def other_arm(exam: Exam) -> Arm:
    """Whom the version is compared with: the one before it, else the base model."""
    return "against" if "against" in exam.names else "base"


def heading(exam: Exam) -> str:
    """Who was examined, and beside whom."""
    other = exam.names.get(other_arm(exam))
    return exam.names["version"] + (f" against {other}" if other else "")


def judged(exam: Exam) -> list[Judged]:
    """All figures, in the exam's order."""
    other = other_arm(exam)
    return [Judged(figure=one, way=way(one, other), change=change_of(one, other)) for one in exam.measures]


def title(name: str) -> str:
    """A figure's name for a person: "task.accuracy" is "Task: accuracy"."""
    part, *middle = name.split(".")
    shown = _PARTS.get(part, part.replace("_", " "))
    if not middle:
        return shown
    *between_, figure = middle
    inner = f" ({', '.join(between_).replace('_', ' ')})" if between_ else ""
    return f"{shown}{inner}: {figure_title(figure)}"


def figure_title(figure: str) -> str:
    """The last word of a figure's name, for a person: "rouge_l" is "ROUGE-L"."""
    return _FIGURES.get(figure, figure.replace("_", " "))


def number(value: float, unit: str, with_unit: bool = True) -> str:
    """A value, short, with its unit."""
    if unit == "share":
        return _signed(f"{value:.1%}")
    return _signed(_plain(value, abs(value))) + (_SHORT.get(unit, f" {unit}") if with_unit else "")


def between(interval: Interval, unit: str) -> str:
    """A value's interval."""
    return f"{number(interval.low, unit, False)} to {number(interval.high, unit)}"


def difference(change: Interval, unit: str) -> str:
    """A change with its sign; of a share in percentage points."""
    return _difference(change.value, change, unit)


def change_between(change: Interval, unit: str) -> str:
    """A change's interval."""
    return f"{_difference(change.low, change, unit)} to {_difference(change.high, change, unit)}"


def _difference(value: float, change: Interval, unit: str) -> str:
    """One of a change's three numbers; all have the same digits."""
    if unit == "share":
        return _signed(f"{100 * value:+.1f}")
    return _signed(_plain(value, max(abs(change.low), abs(change.high)), "+"))


def unit_of_change(unit: str) -> str:
    """What a change is counted in."""
    return "percentage points" if unit == "share" else unit


def sentence(one: Judged, other: Arm) -> str:
    """What became of a figure, with its interval."""
    figure, change = one.figure, one.change
    before, after = figure.arms.get(other), figure.arms["version"]
    if change is None or before is None:
        even = "; 50% would be even" if change else ""
        return f"{title(figure.name)}: {number(after.value, figure.unit)} ({between(after, figure.unit)}{even})."
    told = f"{number(before.value, figure.unit)} before, {number(after.value, figure.unit)} now"
    unit = unit_of_change(figure.unit)
    span = change_between(change, figure.unit)
    if one.way == "open":
        return f"{title(figure.name)}: {told}; the change may lie anywhere from {span} {unit}."
    return f"{title(figure.name)}: {told}; a change of {difference(change, figure.unit)} {unit} ({span})."


def headline(verdict: Verdict | None) -> str:
    """What the gate says, in a sentence for whoever decides."""
    if verdict is None:
        return "No gate was applied, so nothing is said here about going live."
    rules = grouped(verdict)
    broken = sum(rule.result == "fail" for rule in rules)
    if verdict.result == "pass":
        return f"Passed: this version meets all {len(rules)} rules of the gate '{verdict.gate}'."
    if verdict.result == "fail":
        some = f"{broken} of the {len(rules)} rules"
        return f"Not passed: {some} of the gate '{verdict.gate}' {'is' if broken == 1 else 'are'} broken."
    enough = f" About {verdict.more:,} more of what was asked would probably settle it." if verdict.more else ""
    return f"Not enough evidence: the gate '{verdict.gate}' can neither pass nor refuse this version yet.{enough}"


def grouped(verdict: Verdict) -> list[Rule]:
    """The rules, those that are not met first; a rule that several figures must meet is one."""
    by_text: dict[str, list[RuleResult]] = {}
    for one in verdict.rules:
        by_text.setdefault(one.rule, []).append(one)
    order: tuple[Result, ...] = ("fail", "not enough evidence", "pass")
    found = []
    for text, some in by_text.items():
        result = next(one for one in order if any(each.result == one for each in some))
        found.append(Rule(text=text, result=result, reasons=tuple(reason(one) for one in some if one.result == result)))
    return sorted(found, key=lambda rule: order.index(rule.result))


def reason(rule: RuleResult) -> str:
    """Why a rule says what it says, and how much more would settle it."""
    if rule.more is None:
        return rule.because
    return f"{rule.because.rstrip('.')}; about {rule.more:,} more would probably settle it"


def result_words(result: str) -> str:
    """A verdict's result as a label."""
    return _RESULTS.get(result, result)


def counted(found: Iterable[Judged]) -> str:
    """How many figures went which way: "3 better, 1 worse, 4 cannot be told"."""
    ways = [one.way for one in found]
    words = {"better": "better", "worse": "worse", "open": "cannot be told", "same": "the same"}
    parts = [f"{ways.count(way)} {text}" for way, text in words.items() if way in ways]
    return ", ".join(parts) or "nothing to compare"


def _plain(value: float, size: float, sign: str = "") -> str:
    """As many digits as a number of that size needs, no exponent."""
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4
    return f"{value:{sign},.{digits}f}"


def _signed(text: str) -> str:
    """With a true minus sign, and none before zero."""
    return text.replace("-", "−" if any(digit in text for digit in "123456789") else "")
