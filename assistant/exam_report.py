"""An exam as one page of HTML: verdict, what got better and worse, all figures, the prompts that moved most.

It asks for nothing from outside and runs no script, so it opens from a disk as it does from the gateway.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from adapters.exam_types import Arm, Exam, Moved, Verdict
from assistant import exam_plots
from assistant import exam_words as words
from assistant.exam_words import Judged, other_arm, title
from assistant.report_html import frame, write_page
from assistant.report_pieces import STYLE, asked, listed, pictures, value, wide

_MANY = 10  # compared figures, from which on chance is worth a word
_OPEN = 2  # prompts that are shown unfolded, each way
_SHOWN = 6  # plots by slice, and lines of a list that are not folded
_ORDER = ("better", "worse", "open")  # whose slices are drawn
_MARKS = {"pass": "good", "fail": "error", "not enough evidence": "warning"}


def write(exam: Exam, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_page(path, page(exam))


def page(exam: Exam) -> str:
    """The whole page."""
    found = words.judged(exam)
    heading = escape(words.heading(exam))
    body = (
        f'<h1>{heading}</h1><p class="soft">{_circumstances(exam)}</p>{_verdict(exam.verdict)}{_ways(exam, found)}'
        f"{_plots(exam, found)}{_moved('better', exam, exam.better)}{_moved('worse', exam, exam.worse)}"
        f"{_table(exam, found)}{_slices(exam)}{listed('What was left out', exam.left_out)}"
    )
    return frame(f"Exam of {heading}", body, STYLE)


def _circumstances(exam: Exam) -> str:
    parts = [f"Examined {exam.created[:16].replace('T', ' ')} UTC in {exam.minutes:.0f} minutes",
             f"suite '{exam.suite.name}'", f"seed {exam.seed}"]  # fmt: skip
    if exam.judge:
        parts.append(f"judged by {exam.judge}")
    return escape(" · ".join(parts))


def _verdict(verdict: Verdict | None) -> str:
    kind, rules = (_MARKS[verdict.result], words.grouped(verdict)) if verdict else ("", [])
    shown = _rules([rule for rule in rules if rule.result == "fail"])
    for result, said in (("not enough evidence", "without enough evidence"), ("pass", "passed")):
        some = [rule for rule in rules if rule.result == result]
        is_open = " open" if result != "pass" and len(some) <= _SHOWN else ""
        if some:
            shown += f"<details{is_open}><summary>{len(some)} {said}</summary>{_rules(some)}</details>"
    return f'<section class="finding verdict {kind}"><p>{escape(words.headline(verdict))}</p>{shown}</section>'


def _rules(rules: Sequence[words.Rule]) -> str:
    rows = "".join(
        f'<li><span class="{_rule_class(rule.result)}">{words.result_words(rule.result)}</span>'
        f"<code>{escape(rule.text)}</code><span>{'<br>'.join(map(escape, rule.reasons))}</span></li>"
        for rule in rules
    )
    return f'<ul class="rules">{rows}</ul>' if rows else ""


def _rule_class(result: str) -> str:
    return {"pass": "better", "fail": "worse"}.get(result, "")


def _ways(exam: Exam, found: list[Judged]) -> str:
    """What got better, what got worse, what cannot be told."""
    other, done = other_arm(exam), ""
    for way, heading, empty in (
        ("better", "What got better", "Nothing that was measured got better beyond chance."),
        ("worse", "What got worse", "Nothing that was measured got worse beyond chance."),
        ("open", "What cannot be told", ""),
    ):
        lines = [f"<li>{escape(words.sentence(one, other))}</li>" for one in found if one.way == way]
        listed = f"<ul>{''.join(lines)}</ul>" if lines else f'<p class="soft">{empty}</p>'
        if way == "open" and len(lines) > _SHOWN:
            listed = f"<details><summary>{len(lines)} figures, whose change may be chance</summary>{listed}</details>"
        if lines or empty:
            done += f"<h2>{heading}</h2>{listed}"
    if same := [title(one.figure.name) for one in found if one.way == "same"]:
        done += f'<p class="soft">Exactly as before: {escape("; ".join(same))}.</p>'
    compared = sum(one.way in ("better", "worse", "open") for one in found)
    if compared >= _MANY:
        done += (
            f'<p class="soft">{compared} figures were compared, each with its 95% interval: about one in twenty would '
            "seem changed by chance alone.</p>"
        )
    return done


def _plots(exam: Exam, found: list[Judged]) -> str:
    drawn = exam_plots.changes(found)
    told = sorted((one for one in found if one.way in _ORDER), key=lambda one: _ORDER.index(one.way))
    slices = {f"{title(one.figure.name)}, by slice": svg for one in told
              if (svg := exam_plots.by_slice(one.figure, other_arm(exam), exam.names))}  # fmt: skip
    drawn |= dict(list(slices.items())[:_SHOWN])
    return f'<h2>Pictures</h2><div class="plots">{pictures(drawn)}</div>' if drawn else ""


def _table(exam: Exam, found: list[Judged]) -> str:
    arms = _arms(exam)
    heads = ["Figure", *(exam.names[arm] for arm in arms), "Change (95% interval)", "Which way", "Items"]
    return f"<h2>All figures: {words.counted(found)}</h2>" + wide(
        "All figures", heads, [_cells(one, arms) for one in found]
    )


def _cells(one: Judged, arms: Sequence[Arm]) -> list[str]:
    figure, change = one.figure, one.change
    note, moved = f"<small>{escape(figure.name)}{escape(f': {figure.note}' if figure.note else '')}</small>", ""
    if change is not None:
        unit = "points" if figure.unit == "share" else escape(figure.unit)
        moved = f"{words.difference(change, figure.unit)} {unit}"
        moved += f"<small>{words.change_between(change, figure.unit)}</small>"
    said = {"open": "cannot be told", "stated": "" if figure.decides else "stated only"}.get(one.way, one.way)
    values = [value(figure.arms.get(arm), figure.unit) for arm in arms]
    way = f'<span class="{one.way}">{said}</span>' if said else ""
    return [f"<span>{escape(title(figure.name))}</span>{note}", *values, moved, way, f"{figure.n:,}"]


def _slices(exam: Exam) -> str:
    """The figures that are given by slice, a table each, folded."""
    arms, done = _arms(exam), ""
    heads = ["Slice", *(exam.names[arm] for arm in arms)]
    for figure in exam.measures:
        rows = [
            [escape(name), *(value(found.get(arm), figure.unit) for arm in arms)]
            for name, found in figure.slices.items()
        ]
        if rows:
            shown, label = escape(title(figure.name)), f"{title(figure.name)} by slice"
            done += f"<details><summary>{shown}</summary>{wide(label, heads, rows)}</details>"
    return f"<h2>By slice</h2>{done}" if done else ""


def _moved(which: str, exam: Exam, moved: Sequence[Moved]) -> str:
    if not moved:
        return ""
    count = f"The {len(moved)} prompts that" if len(moved) > 1 else "The prompt that"
    shown = "".join(_one_moved(exam, one, place < _OPEN) for place, one in enumerate(moved))
    return f"<h2>{count} moved most for the {which}</h2>{shown}"


def _one_moved(exam: Exam, one: Moved, is_open: bool) -> str:
    answers = [
        (f"{exam.names[arm]}{_score(one, arm)}", one.answers[arm])
        for arm in dict.fromkeys((other_arm(exam), *_arms(exam))) if arm in one.answers
    ]  # fmt: skip
    return asked(f"{title(one.measure)}: ", one.prompt, answers, is_open)


def _score(one: Moved, arm: Arm) -> str:
    return f", scored {one.scores[arm]:.3g}" if arm in one.scores else ""


def _arms(exam: Exam) -> list[Arm]:
    known: list[Arm] = ["version", "against", "base"]
    return [arm for arm in known if arm in exam.names]
