"""An advice as one page of HTML: the recommendation, pictures, all arms beside the best one, and each arm by itself.

It asks for nothing from outside and runs no script, so it opens from a disk as it does from a server.
"""

from html import escape
from pathlib import Path

from assistant import advice_plots
from assistant import advice_words as shown
from assistant import exam_words as words
from assistant.advice_report_arms import STYLE as ARMS_STYLE
from assistant.advice_report_arms import arms
from assistant.advice_types import Advice, Result
from assistant.report_html import frame, write_page
from assistant.report_pieces import STYLE, listed, pictures, value, wide

_MARKS = {"use": "good", "nothing works": "error", "not enough evidence": "warning"}
_CURVE = 2  # points that are a curve
_ASIDE = 6  # figures that do not decide, beside each other


def write(advice: Advice, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_page(path, page(advice))


def page(advice: Advice) -> str:
    """The whole page."""
    heading = f"Advice on {escape(advice.task.dataset)}"
    body = (
        f'<h1>{heading}</h1><p class="soft">{_circumstances(advice)}</p>{_recommendation(advice)}{_facts(advice)}'
        f"{listed('What would change this', advice.recommendation.changes)}"
        f"{_quality(advice)}{_table(advice)}{_comparisons(advice)}{_others(advice)}{_curves(advice)}{arms(advice)}{_unfinished(advice)}"
        f"{listed('What was left out', shown.left_out(advice))}"
    )
    return frame(heading, body, STYLE + ARMS_STYLE)


def _circumstances(advice: Advice) -> str:
    when = f"{advice.created[:16].replace('T', ' ')} UTC"
    return escape(f"Advice {advice.id} of {when} · base model {advice.base_model} · seed {advice.seed}")


def _recommendation(advice: Advice) -> str:
    found = advice.recommendation
    first, *rest = found.words or (shown.title(advice),)
    told = "".join(f"<p>{escape(line)}</p>" for line in rest)
    step = f'<p class="next">→ <code>brogue advise apply {escape(advice.id)} --as NAME</code></p>' if found.arm else ""
    return (
        f'<section class="finding verdict {_MARKS[found.result]}"><div class="mark">{escape(shown.title(advice))}</div>'
        f"<p>{escape(first)}</p><div>{told}{step}</div></section>"
    )


def _facts(advice: Advice) -> str:
    unit, counts = shown.unit(advice), advice.counts
    facts = {"decided by": shown.metric(advice)}
    facts[f"records: {', '.join(counts)}"] = " · ".join(f"{count:,}" for count in counts.values())
    facts["without looking at the question"] = words.number(advice.task.floor, unit)
    if advice.target is not None:
        facts["target"] = words.number(advice.target, unit)
    facts["fine-tuning"] = advice.recommendation.fine_tune
    facts["time"] = f"{shown.minutes(advice.minutes)} of {shown.minutes(advice.budget_minutes)} min"
    if advice.recommendation.needed is not None:
        facts["test records that would tell"] = f"{advice.recommendation.needed:,}"
    shown_ = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items())
    return f"<dl>{shown_}</dl>"


def _numbers(advice: Advice) -> dict[str, int]:
    """What the arms are called in pictures and table."""
    return {result.arm.name: place for place, result in enumerate(shown.ordered(advice), 1)}


def _quality(advice: Advice) -> str:
    """Quality by arm and against both costs."""
    if not any(result.test for result in advice.results):
        return ""
    name, numbers = shown.metric(advice), _numbers(advice)
    drawn = {f"{_capital(name)} with its 95% interval": advice_plots.by_arm(advice)}
    for cost in (shown.cost_of_asking(advice), shown.cost_of_making(advice)):
        drawn[f"{_capital(name)} against {cost.title}"] = advice_plots.against_cost(advice, cost, numbers)
    legend = " · ".join(
        f"<b>{numbers[result.arm.name]}</b> {escape(result.arm.name)}"
        for result in shown.ordered(advice) if result.test
    )  # fmt: skip
    target = " The dashed line is the target." if advice.target is not None else ""
    return (
        f'<h2>Quality against cost</h2><p class="legend">{legend}</p><p class="soft">Filled and joined: no other arm '
        "is both better and cheaper. The ring marks the recommended one; upright lines are 95% intervals."
        f'{target}</p><div class="plots">{pictures(drawn)}</div>'
    )


def _table(advice: Advice) -> str:
    prices = any(result.price_per_1000 is not None for result in advice.results)
    heads = [
        "Arm", _capital(shown.metric(advice)), "Beside the best", "Rows", "Minutes to make", "Tokens",
        "Seconds p50 / p95", "Same when asked again", *(["Price of 1,000"] if prices else []), "Memory",
    ]  # fmt: skip
    numbers = _numbers(advice)
    known = [result for result in shown.ordered(advice) if shown.found(result)]
    rows = [_row(advice, result, numbers[result.arm.name], prices) for result in known]
    return f"<h2>The arms</h2>{wide('The arms', heads, rows)}" if rows else ""


def _row(advice: Advice, result: Result, number: int, prices: bool) -> list[str]:
    known, unit, test = shown.found(result), shown.unit(advice), result.test
    assert known is not None
    chosen = ' <span class="better">recommended</span>' if result.arm.name == advice.recommendation.arm else ""
    name = f"<span>{number}. {escape(result.arm.name)}{chosen}</span><small>{escape(result.arm.title)}</small>"
    figure = value(known.figure, unit) + ("<small>on the validation records</small>" if known.validation else "")
    standing = shown.standing(advice, result)
    kind = {"worse": "worse", "the best": "better"}.get(standing, "")
    price = "" if result.price_per_1000 is None else words.number(result.price_per_1000, shown.currency(advice))
    return [
        name, figure, f'<span class="{kind}">{standing}</span>' if standing else "", f"{known.rows:,}",
        escape(shown.minutes_to_make(result)),
        f"{test.prompt_tokens:,.0f}\u00a0+\u00a0{test.answer_tokens:,.0f}" if test else "",
        f"{shown.seconds(test.seconds_p50)} / {shown.seconds(test.seconds_p95)}" if test else "",
        value(result.consistency, "share"), *([price] if prices else []),
        shown.size(result.memory) if result.memory else "",
    ]  # fmt: skip


def _comparisons(advice: Advice) -> str:
    """Every arm less the best one, by paired bootstrap."""
    found, unit = advice.recommendation, shown.unit(advice)
    if not found.comparisons or found.best is None:
        return ""
    rows, compared = [], shown.beside_the_best(advice)
    for one in (compared[result.arm.name] for result in shown.ordered(advice) if result.arm.name in compared):
        points = " points" if unit == "share" else f" {escape(unit)}"
        moved = f"<span>{words.difference(one.difference, unit)}{points}</span>"
        moved += f"<small>{words.change_between(one.difference, unit)}</small>"
        said = '<span class="worse">worse</span>' if one.worse else "<span>perhaps as good</span>"
        rows.append(
            [f"<span>{escape(one.arm)}</span>", moved, *map(escape, map(shown.p_value, (one.p, one.p_holm))), said]
        )
    heads = ["Arm", "Difference (95% interval)", "p", "p, corrected", "What that says"]
    return (
        f"<h2>Beside the best, {escape(found.best)}</h2>{wide('Beside the best', heads, rows)}"
        '<p class="soft">On the same test records, paired. p: how often chance alone would make such a difference; '
        "corrected for the number of comparisons (Holm). Worse: below 0.05 after the correction.</p>"
    )


def _curves(advice: Advice) -> str:
    learning = [result for result in shown.ordered(advice) if len(result.curve) >= _CURVE]
    if not learning:
        return ""
    growth = {one.arm: one for one in advice.recommendation.growth}
    limits = advice_plots.limits(advice, growth)
    drawn = {
        one.arm.name: advice_plots.curve(advice, one, growth.get(one.arm.name), limits) for one in learning
    }  # fmt: skip
    rows = [
        [f"<span>{escape(one.arm.name)}</span>", f"{point.rows:,}", value(point.found, shown.unit(advice)),
         escape(shown.minutes(point.minutes))] for one in learning for point in one.curve
    ]  # fmt: skip
    numbers = wide("Learning curves", ["Arm", "Rows", _capital(shown.metric(advice)), "Minutes"], rows)
    return (
        f'<h2>Learning curves</h2><p class="soft">{escape(_capital(shown.metric(advice)))} on the validation records, '
        f'with 95% intervals; dashed, what twice the rows would bring.</p><div class="plots">{pictures(drawn)}</div>'
        f"<details><summary>The numbers</summary>{numbers}</details>"
        f"{listed('What more data would bring', shown.growth(advice))}"
    )


def _others(advice: Advice) -> str:
    """The figures that do not decide, of all arms: macro-F1, the voice, what the documents support."""
    tests = [(one.arm.name, one.test) for one in shown.ordered(advice) if one.test]
    names = dict.fromkeys(one.name for _, test in tests for one in test.measures if _is_aside(one.name, advice))
    shown_ = list(names)[:_ASIDE]
    rows = []
    for arm, test in tests:
        by_name = {one.name: one for one in test.measures}
        figures = [by_name.get(name) for name in shown_]
        rows.append(
            [
                f"<span>{escape(arm)}</span>",
                *(value(one.arms.get("version"), one.unit) if one else "" for one in figures),
            ]
        )
    heads = ["Arm", *(words.title(name) for name in shown_)]
    return f"<h2>Other figures</h2>{wide('Other figures', heads, rows)}" if shown_ else ""


def _is_aside(name: str, advice: Advice) -> bool:
    figure = name.rpartition(".")[2]
    told = figure == advice.task.metric or name.startswith("cost.")
    return not told and not figure.endswith("_micro") and not figure.startswith(("precision_", "recall_"))


def _unfinished(advice: Advice) -> str:
    lines = [f"{one.arm.name} ({one.arm.title}), {state}: {one.why}" for one, state in shown.unfinished(advice)]
    return listed("Arms that did not come to the end", lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
