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
from assistant.report_html import frame
from data.errors import BrogueError, one_line
from data.home import write_text

_MANY = 10  # compared figures, from which on chance is worth a word
_OPEN = 2  # prompts that are shown unfolded, each way
_MARKS = {"pass": "good", "fail": "error", "not enough evidence": "warning"}
_STYLE = """
.good { border-left-color: var(--bar); } .good .mark { color: var(--bar); }
.verdict > p:first-child { font-size: 1.15rem; font-weight: 600; }
ul { margin: 0; padding-left: 1.2rem; } li { margin: 0 0 .3rem; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .25rem 1rem .5rem; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.wide table { width: auto; min-width: 100%; } th { text-align: left; font-size: .85rem; font-weight: 600;
  padding: .4rem .75rem .3rem 0; vertical-align: bottom; }
.wide td, .wide td:first-child { width: auto; min-width: 0; font-family: inherit; font-size: .9rem; }
.wide td:first-child { min-width: 11rem; } .wide :is(td, th):not(:first-child) { white-space: nowrap; }
.wide .note { color: var(--soft); font-size: .85rem; max-width: 26rem; }
td.better, .better > b { color: var(--bar); } td.worse, .worse > b { color: var(--alarm); }
.moved { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
  margin: 0 0 .75rem; }
.moved summary { color: var(--ink); font-size: 1rem; }
.moved .prompt { white-space: pre-wrap; margin: .6rem 0; padding-left: .75rem; border-left: 3px solid var(--line); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .75rem; }
.answers div { min-width: 0; padding: .6rem .8rem; border-radius: .4rem; background: var(--paper); }
.answers h4 { margin: 0 0 .3rem; font-size: .85rem; color: var(--soft); font-weight: 600; }
.answers p { white-space: pre-wrap; }
"""


def write(exam: Exam, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    try:
        write_text(path.absolute(), page(exam))
    except OSError as error:
        raise BrogueError(f"cannot write {path}: {one_line(error)}") from error


def page(exam: Exam) -> str:
    """The whole page."""
    found = words.judged(exam)
    heading = f"{escape(exam.names['version'])} against {escape(exam.names[other_arm(exam)])}"
    body = (
        f'<h1>{heading}</h1><p class="soft">{_circumstances(exam)}</p>{_verdict(exam.verdict)}{_ways(exam, found)}'
        f"{_plots(exam, found)}{_table(exam, found)}{_slices(exam)}"
        f"{_moved('better', exam, exam.better)}{_moved('worse', exam, exam.worse)}{_left_out(exam)}"
    )
    return frame(f"Exam of {heading}", body, _STYLE)


def _circumstances(exam: Exam) -> str:
    parts = [f"Examined {exam.created[:16].replace('T', ' ')} UTC in {exam.minutes:.0f} minutes",
             f"suite '{exam.suite.name}'", f"seed {exam.seed}"]  # fmt: skip
    if exam.judge:
        parts.append(f"judged by {exam.judge}")
    return escape(" · ".join(parts))


def _verdict(verdict: Verdict | None) -> str:
    kind = _MARKS[verdict.result] if verdict else ""
    rules = verdict.rules if verdict else ()
    rows = "".join(
        f'<tr><td class="{_rule_class(rule.result)}">{words.result_words(rule.result)}</td>'
        f"<td><code>{escape(rule.rule)}</code></td>"
        f"<td>{escape(rule.because)}{f' About {rule.more:,} more would do.' if rule.more is not None else ''}</td></tr>"
        for rule in rules
    )
    shown = f"<details open><summary>The rules</summary><table>{rows}</table></details>" if rows else ""
    return f'<section class="finding verdict {kind}"><p>{escape(words.headline(verdict))}</p>{shown}</section>'


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
        lines = "".join(f"<li>{escape(words.sentence(one, other))}</li>" for one in found if one.way == way)
        if lines or empty:
            done += f"<h2>{heading}</h2>" + (f"<ul>{lines}</ul>" if lines else f'<p class="soft">{empty}</p>')
    compared = sum(one.way in ("better", "worse", "open") for one in found)
    if compared >= _MANY:
        done += (
            f'<p class="soft">{compared} figures were compared, each with its 95% interval: about one in twenty would '
            "seem changed by chance alone.</p>"
        )
    return done


def _plots(exam: Exam, found: list[Judged]) -> str:
    drawn = exam_plots.changes(found)
    for one in exam.measures:
        if svg := exam_plots.by_slice(one, other_arm(exam), exam.names):
            drawn[f"{title(one.name)}, by slice"] = svg
    figures = "".join(
        f'<figure><h3>{escape(heading)}</h3><div role="img" aria-label="{escape(heading)}: the numbers stand in the '
        f'tables below">{svg}</div></figure>'
        for heading, svg in drawn.items()
    )
    return f'<h2>Pictures</h2><div class="plots">{figures}</div>' if figures else ""


def _table(exam: Exam, found: list[Judged]) -> str:
    arms = _arms(exam)
    heads = ["Figure", *(exam.names[arm] for arm in arms), "Change, 95% interval", "", "Items"]
    rows = "".join(_row(one, arms) for one in found)
    return _wide(f"All figures: {words.counted(found)}", heads, rows)


def _row(one: Judged, arms: Sequence[Arm]) -> str:
    figure, change = one.figure, one.change
    note = f'<div class="note">{escape(figure.note)}</div>' if figure.note else ""
    cells = "".join(f"<td>{_value(figure.arms.get(arm), figure.unit)}</td>" for arm in arms)
    moved = ""
    if change is not None:
        moved = f"{words.difference(change.value, figure.unit)} ({words.change_between(change, figure.unit)})"
        moved += f" {escape(words.unit_of_change(figure.unit))}"
    said = {"open": "cannot be told", "stated": "" if figure.decides else "stated only"}.get(one.way, one.way)
    return (
        f"<tr><td>{escape(title(figure.name))}{note}</td>{cells}<td>{moved}</td>"
        f'<td class="{one.way}">{said}</td><td>{figure.n:,}</td></tr>'
    )


def _slices(exam: Exam) -> str:
    """The figures that are given by slice, one table each, folded."""
    arms, done = _arms(exam), ""
    for figure in exam.measures:
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f"<td>{_value(found.get(arm), figure.unit)}</td>" for arm in arms)
            + "</tr>"
            for name, found in figure.slices.items()
        )
        if rows:
            heads = "".join(f"<th>{escape(text)}</th>" for text in ["Slice", *(exam.names[arm] for arm in arms)])
            table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
            done += (
                f'<details><summary>{escape(title(figure.name))}</summary><div class="wide" tabindex="0" role="region" '
                f'aria-label="{escape(title(figure.name))} by slice">{table}</div></details>'
            )
    return f"<h2>By slice</h2>{done}" if done else ""


def _moved(which: str, exam: Exam, moved: Sequence[Moved]) -> str:
    if not moved:
        return ""
    count = f"The {len(moved)} prompts that" if len(moved) > 1 else "The prompt that"
    shown = "".join(_one_moved(exam, one, place < _OPEN) for place, one in enumerate(moved))
    return f"<h2>{count} moved most for the {which}</h2>{shown}"


def _one_moved(exam: Exam, one: Moved, is_open: bool) -> str:
    answers = "".join(
        f"<div><h4>{escape(exam.names[arm])}{_score(one, arm)}</h4>"
        f"<p>{escape(one.answers[arm]) or '(nothing)'}</p></div>"
        for arm in ("against", "version", "base") if arm in one.answers and arm in exam.names
    )  # fmt: skip
    return (
        f'<details class="moved"{" open" if is_open else ""}><summary>{escape(title(one.measure))}: '
        f'{escape(one_line(one.prompt, 90))}</summary><p class="prompt">{escape(one.prompt)}</p>'
        f'<div class="answers">{answers}</div></details>'
    )


def _score(one: Moved, arm: Arm) -> str:
    return f", {one.scores[arm]:.3g}" if arm in one.scores else ""


def _left_out(exam: Exam) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in exam.left_out)
    return f"<h2>What was left out</h2><ul>{lines}</ul>" if lines else ""


def _arms(exam: Exam) -> list[Arm]:
    known: list[Arm] = ["version", "against", "base"]
    return [arm for arm in known if arm in exam.names]


def _value(found: object, unit: str) -> str:
    from adapters.exam_types import Interval

    if not isinstance(found, Interval):
        return ""
    return f'{words.number(found.value, unit)} <span class="soft">({words.between(found, unit)})</span>'


def _wide(heading: str, heads: Sequence[str], rows: str) -> str:
    """A table that scrolls within itself where the screen is narrow."""
    cells = "".join(f"<th>{escape(text)}</th>" for text in heads)
    table = f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
    label = f'tabindex="0" role="region" aria-label="{escape(heading)}"'
    return f'<h2>{escape(heading)}</h2><div class="wide" {label}>{table}</div>'
