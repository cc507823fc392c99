"""An exam as one page of HTML: verdict, what got better and worse, all figures, the prompts that moved most.

It asks for nothing from outside and runs no script, so it opens from a disk as it does from the gateway.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from adapters.exam_types import Arm, Exam, Interval, Moved, Verdict
from assistant import exam_plots
from assistant import exam_words as words
from assistant.exam_words import Judged, other_arm, title
from assistant.report_html import frame
from data.errors import BrogueError, one_line
from data.home import write_text

_MANY = 10  # compared figures, from which on chance is worth a word
_OPEN = 2  # prompts that are shown unfolded, each way
_SHOWN = 6  # plots by slice, and lines of a list that are not folded
_ORDER = ("better", "worse", "open")  # whose slices are drawn
_MARKS = {"pass": "good", "fail": "error", "not enough evidence": "warning"}
_STYLE = """
.good { border-left-color: var(--bar); } .good .mark { color: var(--bar); }
.verdict { margin-top: 1rem; } .verdict > p { font-size: 1.15rem; font-weight: 600; }
ul { margin: 0; padding-left: 1.2rem; } li { margin: 0 0 .3rem; }
.rules { list-style: none; padding: 0; margin-top: .5rem; font-size: .95rem; }
.rules li { display: grid; grid-template-columns: 10rem minmax(0, 1fr) minmax(0, 1.4fr); gap: 0 1rem; margin: 0;
  padding: .3rem 0; border-top: 1px solid var(--line); }
.better { color: var(--bar); } .worse { color: var(--alarm); }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .25rem 1rem .5rem; }
:is(.wide, summary):focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.wide table { width: auto; min-width: 100%; margin: 0; }
th { text-align: left; font-size: .85rem; font-weight: 600; padding: .4rem .75rem .3rem 0; vertical-align: bottom; }
.wide td { width: auto; min-width: 0; font-family: inherit; font-size: .9rem; }
.wide small { display: block; color: var(--soft); font-size: .85rem; } .wide td small { white-space: nowrap; }
.wide td:first-child small { white-space: normal; max-width: 24rem; }
.wide :is(td, th) { overflow-wrap: break-word; }
.moved { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
  margin: 0 0 .75rem; }
.moved summary { color: var(--ink); font-size: 1rem; }
.moved .prompt { white-space: pre-wrap; margin: .6rem 0 0; padding-left: .75rem; border-left: 3px solid var(--line); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .75rem;
  margin-top: .7rem; }
.answers div { min-width: 0; padding: .6rem .8rem; border-radius: .4rem; background: var(--paper); }
.answers h4 { margin: 0 0 .3rem; font-size: .85rem; color: var(--soft); font-weight: 600; }
.answers p { white-space: pre-wrap; }
@media (max-width: 640px) {
  .rules li { grid-template-columns: minmax(0, 1fr); }
  .wide { position: relative; }
  .wide thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .wide thead tr { display: block; }
  .wide :is(td, small) { overflow-wrap: anywhere; white-space: normal !important; }
  .wide tr { display: block; padding: .5rem 0; border-top: 1px solid var(--line); }
  .wide tbody tr:first-child { border: 0; }
  .wide td { display: flex; flex-wrap: wrap; gap: 0 .75rem; border: 0; padding: .1rem 0; }
  .wide td:first-child { font-weight: 600; } .wide td:first-child small { font-weight: 400; }
  .wide td:empty { display: none; }
  .wide td[data-of]::before { content: attr(data-of); color: var(--soft); min-width: 8.5rem; }
}
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
    heading = escape(words.heading(exam))
    body = (
        f'<h1>{heading}</h1><p class="soft">{_circumstances(exam)}</p>{_verdict(exam.verdict)}{_ways(exam, found)}'
        f"{_plots(exam, found)}{_moved('better', exam, exam.better)}{_moved('worse', exam, exam.worse)}"
        f"{_table(exam, found)}{_slices(exam)}{_left_out(exam)}"
    )
    return frame(f"Exam of {heading}", body, _STYLE)


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
    figures = "".join(
        f'<figure><h3>{escape(heading)}</h3><div role="img" aria-label="{escape(heading)}: the numbers stand in the '
        f'tables below">{svg}</div></figure>'
        for heading, svg in drawn.items()
    )
    return f'<h2>Pictures</h2><div class="plots">{figures}</div>' if figures else ""


def _table(exam: Exam, found: list[Judged]) -> str:
    arms = _arms(exam)
    heads = ["Figure", *(exam.names[arm] for arm in arms), "Change (95% interval)", "Which way", "Items"]
    return f"<h2>All figures: {words.counted(found)}</h2>" + _wide(
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
    values = [_value(figure.arms.get(arm), figure.unit) for arm in arms]
    way = f'<span class="{one.way}">{said}</span>' if said else ""
    return [f"<span>{escape(title(figure.name))}</span>{note}", *values, moved, way, f"{figure.n:,}"]


def _slices(exam: Exam) -> str:
    """The figures that are given by slice, a table each, folded."""
    arms, done = _arms(exam), ""
    heads = ["Slice", *(exam.names[arm] for arm in arms)]
    for figure in exam.measures:
        rows = [
            [escape(name), *(_value(found.get(arm), figure.unit) for arm in arms)]
            for name, found in figure.slices.items()
        ]
        if rows:
            shown, label = escape(title(figure.name)), f"{title(figure.name)} by slice"
            done += f"<details><summary>{shown}</summary>{_wide(label, heads, rows)}</details>"
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
        for arm in dict.fromkeys((other_arm(exam), *_arms(exam))) if arm in one.answers
    )  # fmt: skip
    short = one_line(one.prompt, 90)
    prompt = "" if short == one.prompt else f'<p class="prompt">{escape(one.prompt)}</p>'
    return (
        f'<details class="moved"{" open" if is_open else ""}><summary>{escape(title(one.measure))}: '
        f'{escape(short)}</summary>{prompt}<div class="answers">{answers}</div></details>'
    )


def _score(one: Moved, arm: Arm) -> str:
    return f", scored {one.scores[arm]:.3g}" if arm in one.scores else ""


def _left_out(exam: Exam) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in exam.left_out)
    return f"<h2>What was left out</h2><ul>{lines}</ul>" if lines else ""


def _arms(exam: Exam) -> list[Arm]:
    known: list[Arm] = ["version", "against", "base"]
    return [arm for arm in known if arm in exam.names]


def _value(found: Interval | None, unit: str) -> str:
    if found is None:
        return ""
    return f"<span>{escape(words.number(found.value, unit))}</span><small>{escape(words.between(found, unit))}</small>"


def _wide(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; on a narrow screen a block for each row, whose cells say what they are. `rows` are HTML."""
    top = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(_cell(cell, heads[place] if place else "") for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: str, of: str) -> str:
    return f'<td data-of="{escape(of)}">{cell}</td>' if of else f"<td>{cell}</td>"
