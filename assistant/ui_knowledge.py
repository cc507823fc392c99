"""The tab Knowledge: the documents that an assistant answers from, and a search to try. Needs the admin key.

It only shows: documents are added and removed with `brogue knowledge`. Every look asks the gateway anew.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from assistant.client import GatewayError
from assistant.ui_brand import notice
from assistant.ui_passages import passage_html, place, taken_from
from assistant.ui_people import People

LIMIT = 5  # passages that a search shows
QUIET = {"show_progress": "hidden", "api_visibility": "private"}

CSS = """
#tab-knowledge > .column { gap: 14px; padding-bottom: 24px; }
#tab-knowledge .topline > .intro { flex: 1 1 260px; }
#tab-knowledge :is(h2, p, ol) { margin: 0 !important; }
#found li > p { display: block; }
#knowledge h2, #found h2 { font-size: 16px !important; font-weight: 650 !important; }
#knowledge .facts, #found .facts { font-size: 13.5px; color: var(--soft) !important; line-height: 1.5; }
#knowledge .nothing { font-size: 14.5px; color: var(--soft) !important; }
#knowledge .box, #found .hit { padding: 14px 18px; border: 1px solid var(--line); border-radius: 16px;
  background: var(--card); }
#knowledge.knowledge :is(table, tr) { border: 0 !important; }
#knowledge.knowledge table { width: 100%; margin: 10px 0 0; border-collapse: collapse; font-size: 14px; }
#knowledge.knowledge :is(th, td) { padding: 6px 10px 6px 0; border: 0; border-top: 1px solid var(--line);
  background: none; text-align: left; overflow-wrap: anywhere; }
#knowledge.knowledge th { font-size: 13px; font-weight: 500; color: var(--soft) !important; border-top: 0; }
#knowledge.knowledge :is(th, td) + :is(th, td) { text-align: right; white-space: nowrap; }
#try { flex: none; border: 1px solid var(--line) !important; border-radius: 16px; background: var(--card);
  overflow: hidden; padding: 6px; }
#try:focus-within { border-color: var(--accent) !important; box-shadow: 0 0 0 1px var(--accent); }
#try .input-container { border: 0; box-shadow: none; background: none; align-items: flex-end; }
#try textarea { border: 0; background: none; box-shadow: none; padding: 9px 10px !important; font-size: 16px;
  line-height: 22px; min-height: 40px; color: var(--ink); outline: none !important; }
#try .submit-button { height: 40px; padding: 0 18px; border-radius: 11px; margin: 0; background: var(--brand);
  color: var(--on-brand); font-weight: 600; font-size: 15px; }
#found ol { list-style: none; padding: 0 !important; display: grid; gap: 10px; margin-top: 12px !important; }
#found li { margin: 0 !important; } #found li::marker { content: none; }
#found .where { font-weight: 600; font-size: 14.5px; overflow-wrap: anywhere; }
#found .passage { margin-top: 8px; }
#found .verdict { font-size: 14.5px; }
#found:not(:has(.verdict, .notice)) { display: none; }
"""


class KnowledgeTab:
    """The components of the tab and what they do; build it inside `gr.Tab`."""

    def __init__(self, people: People) -> None:
        self._people = people
        with gr.Row(elem_classes="topline"):
            gr.HTML(
                "<h1>Knowledge</h1><p>The documents that an assistant answers from. Try a question to see what it "
                "would be shown.</p>",
                elem_classes="intro",
            )
            self._name = gr.Dropdown(
                show_label=False, label="Assistant", container=False, visible=False, filterable=False,
                elem_classes="menu",
            )  # fmt: skip
        self._box = gr.Textbox(
            label="A question to try", show_label=False, container=False, placeholder="A question to try",
            submit_btn="Search", lines=1, max_lines=4, visible=False, elem_id="try",
        )  # fmt: skip
        self._found = gr.HTML(elem_id="found", elem_classes="found")
        self._documents = gr.HTML(elem_id="knowledge", elem_classes="knowledge")
        self._name.input(self._choose, self._name, [self._documents, self._found], **QUIET)
        self._box.submit(self._search, [self._name, self._box], self._found, **QUIET)

    @property
    def inputs(self) -> list[gr.Component]:
        """What `show` is told: the assistant that is shown."""
        return [self._name]

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self._name, self._box, self._documents]

    def show(self, chosen: str | None, request: gr.Request) -> list[Any]:
        """The assistants that have documents, and the documents of the chosen one, or of the first."""
        try:
            names = [one["name"] for one in self._people.admin(request).knowledges()]
        except GatewayError as error:
            said = notice(f"The documents cannot be shown right now: {error}")
            return [gr.Dropdown(visible=False), gr.Textbox(visible=False), said]
        name = chosen if chosen in names else next(iter(names), None)
        return [
            gr.Dropdown(choices=names, value=name, visible=len(names) > 1),
            gr.Textbox(visible=bool(names)),
            self._list(name, request) if name else nothing(),
        ]

    def _choose(self, name: str, request: gr.Request) -> list[str]:
        return [self._list(name, request), ""]

    def _list(self, name: str, request: gr.Request) -> str:
        try:
            return documents_html(self._people.admin(request).knowledge(name))
        except GatewayError as error:
            return notice(f"The documents of {name} cannot be shown right now: {error}")

    def _search(self, name: str, question: str, request: gr.Request) -> str:
        if not question.strip():
            return ""
        try:
            return found_html(self._people.admin(request).search_knowledge(name, question.strip(), LIMIT))
        except GatewayError as error:
            return notice(f"The search did not work: {error}")


def nothing() -> str:
    """What the tab says while nobody has documents."""
    return (
        '<p class="nothing">No assistant has documents yet. Add some, then look again: '
        "<code>brogue knowledge add ASSISTANT FOLDER</code></p>"
    )


def documents_html(knowledge: Mapping[str, Any]) -> str:
    """One assistant's documents with the number of passages of each."""
    rows = "".join(
        f"<tr><td>{escape(one['source'])}</td><td>{one['passages']:,}</td><td>{_size(one['size'])}</td></tr>"
        for one in knowledge["files"]
    )
    facts = f"{_count(knowledge['documents'], 'document')}, {_count(knowledge['passages'], 'passage')}"
    return (
        f'<div class="box"><h2>Documents of {escape(knowledge["name"])}</h2><p class="facts">{facts} · '
        f"found with {escape(knowledge['model'])}</p>"
        f"<table><thead><tr><th>Document</th><th>Passages</th><th>Size</th></tr></thead><tbody>{rows}</tbody></table>"
        "</div>"
    )


def found_html(found: Mapping[str, Any]) -> str:
    """What a search found, and whether the assistant would answer from it."""
    how_sure = f"{found['decline_by']} {found['confidence']:.2f}, wanted {found['decline_below']:.2f}"
    if not found["hits"]:
        verdict = "Nothing was found."
    elif found["declined"]:
        verdict = f"The assistant would say that its documents don't say ({how_sure})."
    else:
        verdict = f"The assistant would answer from these passages ({how_sure})."
    hits = "".join(_hit(hit, found["question"]) for hit in found["hits"])
    took = f"Found in {sum(found['ms'].values()):,.0f} ms"
    stages = ", ".join(f"{escape(stage)} {ms:.1f}" for stage, ms in found["ms"].items())
    return (
        f'<p class="verdict" role="status"><strong>{verdict}</strong></p>'
        f'<p class="facts">{took}{f": {stages}" if stages else ""}.</p><ol>{hits}</ol>'
    )


def _hit(hit: Mapping[str, Any], question: str) -> str:
    scores = [f"score {hit['score']:.3f}"]
    scores += [
        f"{name} {hit[key]:.2f} ({_nth(hit[f'{key}_rank'])})"
        for key, name in (("cosine", "meaning"), ("bm25", "words"))
        if hit.get(key) is not None and hit.get(f"{key}_rank") is not None
    ]
    if hit.get("rerank") is not None:
        scores.append(f"reranked {hit['rerank']:.2f}")
    if hit["same"]:
        scores.append(f"also in {escape(', '.join(hit['same']))}")
    return (
        f'<li class="hit"><p class="where">{hit["number"]}. {escape(place(hit))}</p>'
        f'<p class="facts">{" · ".join(scores)} · {escape(hit["source"])}</p>'
        f"{passage_html(hit['text'], taken_from(hit['text'], [question]))}</li>"
    )


def _nth(rank: int) -> str:
    return "best" if rank == 1 else f"rank {rank}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3)):,} kB"
