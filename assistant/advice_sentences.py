"""The verdict in sentences, for whoever has to decide and is no engineer. Pure."""

import math
from collections.abc import Sequence

from adapters.exam_types import Interval
from assistant import exam_words as words
from assistant.advice_field import WORTH, Choice, Field, FineTune, bar, figures, turned
from assistant.advice_statistics import needed, rounded_up
from assistant.advice_types import Growth, Result, Task

NAMED = 6  # arms that a sentence lists
BEARABLE = 0.5  # of the chosen arm's figure: nobody wants to hear with what they would get less than that
_FINE_TUNING: dict[FineTune, str] = {
    "worth it": "is worth it here", "not worth it": "is not worth it here", "cannot be told": "may be worth it, or not",
}  # fmt: skip


def recommended(field: Field, choice: Choice, target: float | None, fine_tune: FineTune) -> tuple[str, ...]:
    """What to use and why; or that it cannot be told yet."""
    use = f"Use {_named(choice.arm)}: {_figure(field, choice.arm)}."
    if choice.meets:
        found = [use, _met(field, target or 0.0)]
    else:
        found = _open(field, choice) if choice.rivals else [use, _why(field, choice)]
    missed = [_missed(field, target)] if target is not None and not choice.meets else []
    aside = [f"Fewer test records have {_listed(field.aside)}: not compared."] if field.aside else []
    return (*found, *missed, _tuned(field, fine_tune), *aside)


def unmeasured(results: Sequence[Result]) -> tuple[str, ...]:
    """When no arm has test figures."""
    return (f"None of {len(results)} ways was measured on the test records, so nothing can be recommended.",)


def nothing(field: Field, more: int | None, hasty: bool) -> tuple[str, ...]:
    """When no arm is surely above its bar; `hasty`: there was no time to train one on half of the records."""
    best, count = field.best, len(field.arms)
    ways = "The only way that was tried is" if count == 1 else f"None of {count} ways is"
    not_ = " not" if count == 1 else ""
    bar_ = words.number(bar(field.task, figures(best)), "share")
    reached = f"{_named(best)} reaches {_figure(field, best)}"
    base = f"{ways}{not_} surely better than what can be had without reading the question ({bar_}): {reached}."
    if hasty:
        return (
            base,
            "There was no time to train anything on half of the records: these are not to blame yet.",
        )
    if field.shows:
        return ("Nothing works: look at the data.", base,
                "Do the answers follow from the questions? Would two colleagues give the same ones?")  # fmt: skip
    return (base, f"But {field.n} test records would hardly show it if one was."
            + (f" About {more:,} would." if more else ""))  # fmt: skip


def look(task: Task) -> tuple[str, ...]:
    """What to do where nothing works."""
    return (
        f"Check the records, and read some: brogue data check {task.dataset}; brogue data show {task.dataset}",
        "If the records are right: another base model ([advisor] other_bases in brogue.toml), or more records.",
    )


def changes(field: Field, results: Sequence[Result], choice: Choice, target: float | None,
            grown: Sequence[Growth]) -> tuple[str, ...]:  # fmt: skip
    """What would change the verdict."""
    arm = choice.arm
    found = [*_cheaper(field, arm), *_grows(field, arm, grown)]
    if choice.meets and field.best is not arm:
        more = field.gain(field.best, arm).difference
        found.append(f"A higher target: {_quoted(field.best)} is better by {_points(more)}.")
    if not choice.meets and not choice.rivals:
        found += _finer(field, choice)
    if not choice.meets and target is not None:
        found.append("A lower target, or another base model ([advisor] other_bases in brogue.toml).")
    return (*found, *untried(results))


def untried(results: Sequence[Result]) -> tuple[str, ...]:
    """The arms that were not measured, since one of them might be better."""
    left = [one.arm.name for one in results if one.state == "left out" and one.test is None]
    failed = [one.arm.name for one in results if one.state == "failed" and one.test is None]
    found = [f"More time (--budget): {_listed(left)} {_were(left)} not tried."] if left else []
    return (*found, *([f"{_listed(failed)} failed: the report says why."] if failed else []))


# --- the pieces ---


def _why(field: Field, choice: Choice) -> str:
    """Why the chosen arm, where the records tell."""
    arm, even = choice.arm, choice.even
    cheaper = field.arms.index(arm)
    if arm is field.best:
        first = "Nothing else has a higher figure"
        rest = f"and all that costs less ({cheaper}) is significantly worse" if cheaper else "and nothing costs less"
        return f"{first}, {rest}."
    gain = max(field.gain(one, arm).difference.high for one in even if one is not arm)
    return (
        f"It costs least of the {len(even)} ways that may be the best: {_quoted(field.best)} has "
        f"{_value(field.best)}, but surely none of them is better by more than {100 * max(0.0, gain):.1f} points."
    )


def _open(field: Field, choice: Choice) -> list[str]:
    """Where the records do not tell."""
    arm, more = choice.arm, choice.needed
    rival = max(choice.rivals, key=lambda one: field.gain(one, arm).difference.high)
    gain = field.gain(rival, arm).difference
    luck = "; with so many ways compared, luck may do that" if gain.low > 0 else ""
    return [
        f"{field.n} test records do not tell which way is best: {_named(arm)} has {_figure(field, arm)}; "
        f"{_named(rival)} has {_figure(field, rival)}, a difference of {_points(gain)}{luck}.",
        f"About {more:,} test records would probably tell." if more
        else "More than a million test records would be needed to tell.",
        f"Until then {_quoted(arm)} is the one to use: it costs least of the {len(choice.even)} that may be the best.",
    ]  # fmt: skip


def _met(field: Field, target: float) -> str:
    """Why the chosen arm, where there is a target that is met."""
    end = "lower" if field.task.better == "higher" else "upper"
    return (
        f"It is the cheapest way that surely meets the target of {words.number(target, 'share')}: "
        f"the {end} end of its interval does, so it is no luck of these {field.n} records."
    )


def _missed(field: Field, target: float) -> str:
    """What became of a target that is not surely met."""
    high = field.task.better == "higher"
    may = [one for one in field.arms
           if (figures(one).main.high >= target if high else figures(one).main.low <= target)]  # fmt: skip
    shown = words.number(target, "share")
    if not may:
        return f"No way meets the target of {shown}: {_quoted(field.best)} comes nearest."
    near = figures(field.best).main
    worse, distance = (near.low, near.value - target) if high else (near.high, target - near.value)
    more = rounded_up(field.n * ((near.value - worse) / distance) ** 2) if distance > 0 else None
    tell = f": about {more:,} test records would probably tell" if more else ""
    return f"No way surely meets the target of {shown}; {_listed([one.arm.name for one in may])} may{tell}."


def _tuned(field: Field, verdict: FineTune) -> str:
    """Whether to fine-tune: the best fine-tuned way beside the best of the others."""
    trained, plain = field.highest(trained=True), field.highest(trained=False)
    if plain is None:
        return "No other way than fine-tuning was measured, so whether that is worth it cannot be told."
    if trained is None:
        stopped = "Every fine-tuned way was stopped, as it could not win: fine-tuning is not worth it here."
        return stopped if verdict == "not worth it" else "No fine-tuned way was measured, so nothing is said of it."
    return (
        f"Fine-tuning {_FINE_TUNING[verdict]}: the best such way, {_quoted(trained)}, has {_value(trained)}, the best "
        f"other, {_quoted(plain)}, {_value(plain)}; a gain of {_points(field.gain(trained, plain).difference)}."
    )


def _cheaper(field: Field, arm: Result) -> list[str]:
    """The target with which something cheaper would do."""
    if field.task.better == "lower":
        return []
    before = [one for one in field.arms[: field.arms.index(arm)] if one.arm.name in field.works]
    if not before:
        return []
    other = max(before, key=lambda one: figures(one).main.low)
    enough = math.floor(100 * figures(other).main.low) / 100
    if enough < BEARABLE * figures(arm).main.value:
        return []
    return [f"If {enough:.0%} is enough, {_quoted(other)} does, which costs less: --target "
            f"{field.task.metric}={enough:.2f}"]  # fmt: skip


def _finer(field: Field, choice: Choice) -> list[str]:
    """More test records, where the chosen arm may yet be worse than a dearer one by something that counts."""
    gains = {one.arm.name: field.gain(one, choice.arm) for one in choice.even if one is not choice.arm}
    name = max(gains, key=lambda one: gains[one].difference.high, default=None)
    if name is None or (gain := gains[name]).difference.high <= WORTH:
        return []
    more = needed(gain.spread, gain.difference.value, WORTH, len(field.pairs))
    many = f"about {more:,} of them" if more else "more than a million"
    return [f"More test records: '{name}' may be better by up to {100 * gain.difference.high:.1f} points; "
            f"{many} would tell down to {100 * WORTH:.0f} points."]  # fmt: skip


def _grows(field: Field, arm: Result, grown: Sequence[Growth]) -> list[str]:
    """More data, where an arm that learns might then be better than the chosen one."""
    found = []
    turn = 1 if field.task.better == "higher" else -1
    mine = turn * figures(arm).main.value
    for one in field.arms:
        more = next((growth for growth in grown if growth.arm == one.arm.name), None)
        if more is None or one is arm:
            continue
        value, gain = turn * figures(one).main.value, turned(field.task, more.twice)
        if value + gain.high > mine + WORTH:
            sure = "would" if value + gain.low > mine + WORTH else "might"
            found.append(f"With twice the training records {_quoted(one)} {sure} be clearly better. {more.told}")
    return found


def _named(arm: Result) -> str:
    return f"'{arm.arm.name}' ({arm.arm.title})"


def _quoted(arm: Result) -> str:
    return f"'{arm.arm.name}'"


def _listed(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:NAMED]]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last


def _were(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _figure(field: Field, arm: Result) -> str:
    found = figures(arm).main
    title = words.figure_title(field.task.metric)
    return f"{title} {words.number(found.value, 'share')} ({words.between(found, 'share')}; {figures(arm).n:,} records)"


def _value(arm: Result) -> str:
    return words.number(figures(arm).main.value, "share")


def _points(change: Interval) -> str:
    return f"{words.difference(change, 'share')} percentage points ({words.change_between(change, 'share')})"
