"""Passages of documents as HTML: where they stand, their text, and in it what an answer took from them.

No Gradio here. A passage's text is what a loader made of the document, mostly Markdown; of that only tables, lists,
headings and bold letters are told apart, everything else is shown letter by letter.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from assistant.citations import bare, sentences
from assistant.claims import words

Span = tuple[int, int]

_PATH = " > "
_COMMON = 2  # words that two sentences must have in common for one to be marked as the source of the other
_NEARLY = 0.75  # of the best one's; those are marked too
_TABLE = re.compile(r"\s*\|")
_RULE = re.compile(r"\s*\|[\s:|-]*$")  # the line under a table's header
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_HEADING = re.compile(r"\s*#{1,6}\s+")

CSS = """
.passage { font-size: 14px; line-height: 1.55; overflow-wrap: anywhere; }
.passage :is(p, table) { margin: 0 0 8px !important; }
.passage p.item { padding-left: 1.1em; text-indent: -1.1em; margin-bottom: 3px !important; }
.passage p.heading { font-weight: 650; }
.passage .scroll { overflow-x: auto; }
.passage table { border-collapse: collapse; font-size: 13.5px; width: auto; }
.passage.passage :is(th, td) { border: 1px solid var(--line); padding: 4px 9px; text-align: left; background: none;
  overflow-wrap: normal; }
.passage.passage th { font-weight: 600; }
.passage.passage tr.hit :is(th, td) { background: var(--hit); }
.passage mark { background: var(--hit); color: inherit; border-radius: 3px; padding: 1px 2px; }
:root:root { --hit: #fbeeb2; } .dark.dark { --hit: #574a16; }
"""


def place(passage: Mapping[str, Any]) -> str:
    """Where a passage stands, in words: title, headings, page."""
    path = [str(passage["title"]), *str(passage.get("section") or "").split(_PATH)]
    named = " › ".join(dict.fromkeys(filter(None, path))) or str(passage["source"])
    return f"{named}, page {passage['page']}" if passage.get("page") else named


def taken_from(text: str, said: Sequence[str]) -> list[Span]:
    """The sentences and table rows of a passage that an answer's sentences `said` were taken from, as spans in it."""
    parts = [(s.start, s.end, set(words(bare(s.text)))) for s in sentences(text)]
    spans = set[Span]()
    for sentence in said:
        spoken = set(words(bare(sentence)))
        common = [sum(1 + word.isdigit() for word in spoken & found) for _, _, found in parts]
        best = max(common, default=0)
        if best >= _COMMON:
            spans |= {part[:2] for part, score in zip(parts, common, strict=True) if score >= _NEARLY * best}
    return sorted(spans)


def passage_html(text: str, hits: Sequence[Span] = ()) -> str:
    """A passage's text, with `hits` (spans in it, in order) highlighted."""
    blocks: list[tuple[str, list[str]]] = []  # kind, parts
    start = 0
    for line in text.splitlines(keepends=True):
        kind, body, at = _kind(line, start)
        if kind == "table" and not _RULE.match(line):
            _extend(blocks, kind, _row(body, at, hits))
        elif kind == "plain" and blocks and blocks[-1][0] in ("plain", "item"):
            blocks[-1][1].append(_marked(body, at, hits))
        elif kind not in ("table", "blank"):
            blocks.append((kind, [_marked(body, at, hits)]))
        elif kind == "blank":
            blocks.append((kind, []))
        start += len(line)
    return f'<div class="passage">{"".join(_block(kind, parts) for kind, parts in blocks)}</div>'


def _kind(line: str, start: int) -> tuple[str, str, int]:
    """What a line is, its text without what Markdown puts in front of a heading, and where that begins."""
    if not line.strip():
        return "blank", "", start
    if _TABLE.match(line):
        return "table", line, start
    if heading := _HEADING.match(line):
        return "heading", line[heading.end() :], start + heading.end()
    return ("item" if _ITEM.match(line) else "plain"), line, start


def _extend(blocks: list[tuple[str, list[str]]], kind: str, part: str) -> None:
    if blocks and blocks[-1][0] == kind:
        blocks[-1][1].append(part)
    else:
        blocks.append((kind, [part]))


def _block(kind: str, parts: list[str]) -> str:
    if kind == "table":
        return f'<div class="scroll"><table>{"".join(parts)}</table></div>'
    return "" if kind == "blank" else f'<p class="{kind}">{" ".join(parts)}</p>'


def _row(line: str, start: int, hits: Sequence[Span]) -> str:
    hit = ' class="hit"' if any(a < start + len(line) and b > start for a, b in hits) else ""
    cells = line.strip().strip("|").split("|")
    return f"<tr{hit}>{''.join(f'<td>{_plain(cell.strip())}</td>' for cell in cells)}</tr>"


def _marked(line: str, start: int, hits: Sequence[Span]) -> str:
    """A line with the parts of it that lie in `hits` marked."""
    html, done = "", 0
    for a, b in hits:
        first, last = max(a - start, done), min(b - start, len(line.rstrip()))
        if first < last:
            html += f"{_plain(line[done:first])}<mark>{_plain(line[first:last])}</mark>"
            done = last
    return html + _plain(line[done:].rstrip())


def _plain(text: str) -> str:
    return escape(re.sub(r"^[-*+](?=\s)", "•", text.replace("**", "").replace("\\|", "|")))
