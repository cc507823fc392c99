"""Under an answer from documents: whether they say what it says, and the passages as cards that open.

In goes what the gateway adds to an answer as `brogue`; out comes HTML. The answer's own sentences are marked in the
browser (assistant/ui_marks.py).
"""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from assistant.citations import bare
from assistant.ui_passages import CSS as PASSAGE_CSS
from assistant.ui_passages import passage_html, place, taken_from

Checked = Mapping[str, Any]  # the field `brogue` of an answer

_CITED = re.compile(r"[\[【［]\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*[\]】］]")  # as in ui_marks
NOT_FOUND = "not found in the documents"
_HOW = {
    "cited": ("Cited in the answer", "The answer names this source, and the source says so."),
    "attributed": (
        "Matched afterwards",
        "The answer does not name this source. Comparing the texts, it was found here.",
    ),
}

CSS = (
    PASSAGE_CSS
    + """
.sources { display: grid; gap: 8px; padding: 2px 0; font-size: 14px; line-height: 1.5; color: var(--ink); }
.sources :is(p, ol) { margin: 0 !important; }
.sources .verdict { color: var(--soft) !important; }
.sources .verdict strong { color: var(--ink); font-weight: 600; }
.sources .verdict::before { content: "✓"; margin-right: 7px; color: var(--accent); font-weight: 700; }
.sources .verdict:is(.partly, .missing)::before { content: "!"; color: var(--warn-ink); }
.sources .verdict.nothing::before { content: "·"; }
.sources .line { display: flex; align-items: baseline; justify-content: space-between; gap: 12px; }
.sources.sources .copy.copy { flex: none; margin: 0; padding: 1px 8px; border: 1px solid var(--line);
  border-radius: 8px; background: none; color: var(--soft); font: 500 12.5px/1.5 var(--font); cursor: pointer; }
.sources.sources .copy.copy:hover { border-color: var(--accent); color: var(--ink); }
.side .sources.sources .copy.copy { display: none; }
.sources ol { list-style: none; padding: 0 !important; display: grid; gap: 6px; }
.sources li { margin: 0 !important; } .sources li::marker { content: none; }
.sources .card { border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.sources summary { cursor: pointer; list-style: none; }
.sources summary::-webkit-details-marker { display: none; }
.sources .card > summary { display: flex; align-items: baseline; gap: 9px; padding: 7px 11px; border-radius: 10px; }
.sources .card > summary:hover { background: var(--page); }
:is(.sources :is(summary, button), .cite):focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.sources .number { flex: none; min-width: 1.2em; font-weight: 650; color: var(--accent); }
.sources .where { flex: 1 1 auto; min-width: 0; overflow-wrap: anywhere; }
.sources .how { flex: none; font-size: 12.5px; color: var(--soft); }
.sources .card > div { padding: 4px 12px 10px; border-top: 1px solid var(--line); }
.sources .why { padding: 5px 0 8px; font-size: 13px; color: var(--soft) !important; }
.sources .file { font-size: 12.5px; color: var(--soft) !important; overflow-wrap: anywhere; }
.sources .others > summary { width: fit-content; font-size: 13px; color: var(--soft); text-decoration: underline;
  text-underline-offset: 3px; text-decoration-color: var(--line); }
.sources .others[open] > summary { margin-bottom: 6px; }
.unsupported { text-decoration: underline dotted 2px var(--warn-ink); text-underline-offset: 4px; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.cite.cite { display: inline; margin: 0 1px; padding: 0 5px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); color: var(--accent); font: inherit; font-size: .82em; font-weight: 600; cursor: pointer;
  vertical-align: 1px; }
.cite.cite:hover { border-color: var(--accent); }
.cite.matched { border: 1px dashed var(--soft); margin-left: 4px; }
.cite.wrong { color: var(--warn-ink); text-decoration: line-through; }
@media (max-width: 640px) {
  .sources .card > summary { flex-wrap: wrap; gap: 2px 8px; }
  .sources .where { flex: 1 1 60%; }
}
"""
)


def sources_html(checked: Checked, text: str) -> str:
    """What stands under the answer `text`; empty if the documents had no part in it."""
    passages, found = checked["passages"], checked["sentences"]
    if not passages and not checked["declined"]:
        return ""
    used = {p["number"] for p in passages if _how(p["number"], found)}
    cards = [_card(p, found, text) for p in passages if p["number"] in used]
    others = [_card(p, found, text) for p in passages if p["number"] not in used]
    return (
        f'<section class="sources" aria-label="Sources" data-marks="{escape(_marks(found, text))}"><div class="line">'
        f'{verdict(checked)}<button type="button" class="copy" data-text="{escape(text)}">Copy</button></div>'
        f"{_list(cards)}{_others(others, bool(cards))}</section>"
    )


def verdict(checked: Checked) -> str:
    """Whether the documents say what the answer says, in a sentence."""
    supports = [s["support"] for s in checked["sentences"]]
    claims = len(supports) - supports.count("no claim")
    missing = supports.count("unsupported")
    if checked["declined"]:
        kind, title, more = "missing", "Not found in the documents", "So no answer was made up."
    elif not supports:
        kind, title, more = "nothing", "Not checked", "The answer could not be compared with these passages."
    elif not claims:
        kind, title, more = "nothing", "Nothing to check", "The answer states nothing that a source could support."
    elif not missing:
        kind, title, more = "all", "From the documents", "What the answer says, figures too, was found there."
    elif missing == claims:
        kind, title, more = "missing", "Not found in the documents", "Check the answer before you rely on it."
    else:
        kind, title = "partly", "Partly from the documents"
        more = f"{missing} of {claims} sentences, underlined with dots, {'was' if missing == 1 else 'were'} not found."
    return f'<p class="verdict {kind}" role="status"><strong>{title}.</strong> {more}</p>'


def _how(number: int, found: Sequence[Checked]) -> str | None:
    """How the answer and a passage belong together; none if no sentence is supported by it."""
    kinds = {s["support"] for s in found if s["passage"] == number}
    return next((kind for kind in _HOW if kind in kinds), None)


def _card(passage: Mapping[str, Any], found: Sequence[Checked], text: str) -> str:
    number = passage["number"]
    how = _how(number, found)
    label, why = _HOW[how] if how else ("", "No sentence of the answer was found here.")
    said = [text[s["start"] : s["end"]] for s in found if s["passage"] == number]
    if any(number in s["wrong"] for s in found):
        why += " The answer names it also for something that it does not say."
    body = passage_html(passage["text"], taken_from(passage["text"], said))
    return (
        f'<li><details class="card" data-n="{number}"><summary><span class="number">{number}</span>'
        f'<span class="where">{escape(place(passage))}</span><span class="how">{label}</span></summary>'
        f'<div><p class="why">{why}</p>{body}<p class="file">{escape(str(passage["source"]))}</p></div></details></li>'
    )


def _list(cards: Sequence[str]) -> str:
    return f"<ol>{''.join(cards)}</ol>" if cards else ""


def _others(cards: Sequence[str], more: bool) -> str:
    """Behind a line of its own: what was found and not used; `more` than the cards before it."""
    if not cards:
        return ""
    other = "other " if more else ""
    what = f"{len(cards)} {other}passages were" if len(cards) > 1 else f"One {other}passage was"
    return f'<details class="others"><summary>{what} looked at</summary>{_list(cards)}</details>'


def _marks(found: Sequence[Checked], text: str) -> str:
    """What the script needs: the sentences to mark, and for every citation in the answer whether it is wrong."""
    told = [_mark(s, text) for s in found if s["support"] in ("unsupported", "attributed")]
    wrong = [
        not {*map(str, [*s["wrong"], *s["unknown"]])}.isdisjoint(re.findall(r"\d+", citation))
        for s in found
        for citation in _CITED.findall(text[s["start"] : s["end"]])
    ]
    return json.dumps({"sentences": told, "wrong": wrong}, ensure_ascii=False)


def _mark(sentence: Checked, text: str) -> dict[str, Any]:
    note = NOT_FOUND if sentence["support"] == "unsupported" else "Matched afterwards"
    if sentence["missing"] and note == NOT_FOUND:
        note += f": {', '.join(sentence['missing'])}"
    said = bare(text[sentence["start"] : sentence["end"]])
    return {"text": said, "kind": sentence["support"], "passage": sentence["passage"], "note": note}
