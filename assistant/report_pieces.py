"""What the pages of exams and advice share: tables that fit a telephone, pictures, questions with their answers."""

from collections.abc import Mapping, Sequence
from html import escape

from adapters.exam_types import Interval
from assistant import exam_words as words
from data.errors import one_line

STYLE = """
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


def wide(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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


def value(found: Interval | None, unit: str) -> str:
    """A figure and, below it, its interval; nothing where there is none."""
    if found is None:
        return ""
    return f"<span>{escape(words.number(found.value, unit))}</span><small>{escape(words.between(found, unit))}</small>"


def pictures(drawn: Mapping[str, str]) -> str:
    """Plots by their headings."""
    return "".join(
        f'<figure><h3>{escape(heading)}</h3><div role="img" aria-label="{escape(heading)}: the numbers stand in the '
        f'tables below">{svg}</div></figure>'
        for heading, svg in drawn.items()
    )


def asked(about: str, prompt: str, answers: Sequence[tuple[str, str]], is_open: bool = False) -> str:
    """A question that can be unfolded, after what it is shown for, with its answers (heading, text) side by side."""
    shown = "".join(
        f"<div><h4>{escape(heading)}</h4><p>{escape(text) or '(nothing)'}</p></div>" for heading, text in answers
    )
    short = one_line(prompt, 90)
    whole = "" if short == prompt else f'<p class="prompt">{escape(prompt)}</p>'
    return (
        f'<details class="moved"{" open" if is_open else ""}><summary>{escape(about)}{escape(short)}</summary>'
        f'{whole}<div class="answers">{shown}</div></details>'
    )


def listed(heading: str, lines: Sequence[str]) -> str:
    """A heading with a line each; nothing without lines."""
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{escape(heading)}</h2><ul>{shown}</ul>" if shown else ""
