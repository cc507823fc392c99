"""The editor for "Correct this answer": the answer as text to change, what is changed so far, Save, Cancel, Take back.

    corrector = Corrector(people, "rank")                          # where the editor is to stand; hidden until opened
    button.click(corrector.open, [id, text, corrector.saved], corrector.outputs)
    corrector.saved.change(my_own, corrector.saved, [...])         # saved or taken back

`corrector.saved` is a `gr.State`: {response id: {"judgement": its id, "text": as corrected}}, what this visitor has
corrected in this window and not taken back. For a button in HTML of your own: its event gives id and text to `open`.
"""

import difflib
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from assistant.client import GatewayError
from assistant.ui_brand import notice
from assistant.ui_people import People
from data.judgements import MAX_CORRECTION

QUIET = {"show_progress": "hidden", "api_visibility": "private"}  # no spinners, no entry in an API list
MAX_WORDS = 3_000  # longer texts are compared line by line: comparing words takes the square of their number
THANKS = "<p>Thank you. Your correction is kept.</p>"
HEAD = "<h2>Correct this answer</h2><p>Write it as it should have been. What you change is marked below.</p>"
# Runs whenever the editor comes to be; its text box may come a little later.
FOCUS = """
const focus = (tries) => {
  const text = element.closest(".corrector")?.querySelector("textarea");
  if (text?.checkVisibility()) text.focus();
  else if (tries && element.isConnected) setTimeout(focus, 50, tries - 1);
};
requestAnimationFrame(() => focus(100));
"""
# Keys of the editor; at its end the keyboard goes back to where it was before.
SCRIPT = """
{
  let before = null;
  const seen = (part) => part.isConnected && part.checkVisibility();
  const giveBack = (box, pressed, tries) => {  // the editor closes when the server has answered
    if (seen(pressed)) return tries && setTimeout(giveBack, 50, box, pressed, tries - 1);
    const at = document.activeElement;  // whoever is somewhere else by now stays there
    if (at === document.body || (box.contains(at) && !seen(at))) before?.focus();
  };
  document.addEventListener("focusin", ({ target }) => { if (!target.closest(".corrector")) before = target; });
  document.addEventListener("click", ({ target }) => {
    const box = target.closest?.(".corrector"), pressed = target.closest?.(".cancel, .save");
    if (box && pressed) giveBack(box, pressed, 600);
  });
  document.addEventListener("keydown", (event) => {
    const box = event.target.closest?.(".corrector");
    const keep = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    const press = event.key === "Escape" ? ".cancel" : keep ? ".save" : "";
    if (!box || !press) return;
    event.preventDefault();
    box.querySelector(press)?.click();
  });
}
"""
CSS = """
.corrector.corrector { flex: none !important; gap: 10px; padding: 14px 16px; border: 1px solid var(--line);
  border-radius: 16px; background: var(--card); max-height: 62dvh; overflow-y: auto; }
.corrector :is(h2, p) { margin: 0 !important; }
.corrector h2 { font-size: 15px !important; font-weight: 650 !important; }
.corrector .head p, .corrector .thanks p { font-size: 13.5px; color: var(--soft) !important; }
.corrector .form, .corrector .text.text { border: 0 !important; background: none; box-shadow: none; padding: 0;
  overflow: visible !important; }
.corrector .text .input-container { border: 0; box-shadow: none; background: none; }
.corrector.corrector textarea { border: 1px solid var(--field); border-radius: 11px; background: var(--page);
  color: var(--ink); font-size: 15px; line-height: 1.5; padding: 9px 11px; }
.corrector .diff { padding: 9px 11px; border-radius: 11px; background: var(--bot); font-size: 14px; line-height: 1.6;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26dvh; overflow-y: auto; color: var(--ink); }
.diff ins { background: #d4edda; color: #12401f; text-decoration: underline; border-radius: 3px; }
.diff del { margin-right: 2px; background: #f8d9d6; color: #6b1d16; border-radius: 3px; }
.dark .diff ins { background: #1d4429; color: #d8f3df; } .dark .diff del { background: #58231d; color: #fbdcd8; }
.corrector .editing { flex: none !important; gap: 10px; }
.corrector .row { gap: 8px; flex-wrap: wrap; align-items: center; }
.corrector.corrector button.sm { flex: none; width: auto; padding: 7px 14px; border-radius: 10px;
  border: 1px solid var(--line); background: none; color: var(--ink); font-size: 14px; font-weight: 500; }
.corrector.corrector button.sm:hover { background: var(--bot); }
.corrector.corrector button.sm.save { border-color: transparent; background: var(--brand); color: var(--on-brand); }
.corrector.corrector button.sm.save:hover { background: var(--brand); filter: brightness(1.1); }
"""

Update = Any  # a component's new value or properties, as Gradio takes it
Saved = dict[str, dict[str, str]]


class Corrector:
    """The components of the editor and what they do; build it where the editor is to stand, one for each tab."""

    def __init__(self, people: People, name: str) -> None:
        """`name`, such as "chat" or "rank", makes the element ids: `#correct-rank`, `#correct-rank-text`."""
        self.saved: gr.State = gr.State({})
        self._people = people
        self._now: gr.State = gr.State({})  # {"response", "text"} that the editor is open for
        with gr.Column(visible=False, elem_classes="corrector", elem_id=f"correct-{name}") as self._panel:
            with gr.Column(elem_classes="editing") as self._editing:
                gr.HTML(HEAD, elem_classes="head", js_on_load=FOCUS)
                self._text = gr.Textbox(
                    label="The answer as it should be", show_label=False, container=False, lines=3, max_lines=10,
                    max_length=MAX_CORRECTION, elem_id=f"correct-{name}-text", elem_classes="text",
                )  # fmt: skip
                self._diff = gr.HTML(elem_id=f"correct-{name}-diff")
            self._said = gr.HTML(elem_classes="thanks", visible=False)
            with gr.Row():
                self._save = gr.Button("Save", size="sm", min_width=0, elem_classes="save")
                self._cancel = gr.Button("Cancel", size="sm", min_width=0, elem_classes="cancel")
                self._back = gr.Button("Take back", size="sm", min_width=0, elem_classes="back", visible=False)
        self._wire()

    @property
    def outputs(self) -> list[gr.Component]:
        """What `open` and `close` fill."""
        parts = [self._now, self._text, self._diff, self._said, self._save, self._cancel, self._back]
        return [self._panel, self._editing, *parts]

    def open(self, response_id: str, text: str, saved: Saved | None = None) -> list[Update]:
        """Values for `outputs`: the editor for this answer, as Markdown source; again with what `saved` holds of it."""
        text, before = text.strip(), (saved or {}).get(response_id)
        corrected = before["text"] if before else text
        return [
            gr.Column(visible=True), gr.Column(visible=True), {"response": response_id, "text": text}, corrected,
            diff_html(text, corrected), gr.HTML(visible=False), gr.Button(visible=True),
            gr.Button("Cancel", visible=True), gr.Button(visible=bool(before)),
        ]  # fmt: skip

    def close(self) -> list[Update]:
        """Values for `outputs`: the editor out of sight; nothing is stored."""
        return [gr.Column(visible=False), gr.skip(), {}, *[gr.skip()] * 6]

    def unchanged(self) -> list[Update]:
        """Values for `outputs` that leave everything as it is."""
        return [gr.skip()] * len(self.outputs)

    def _wire(self) -> None:
        self._text.change(
            lambda now, text: diff_html(now.get("text", ""), text), [self._now, self._text], self._diff,
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        self._save.click(self._keep, [self._now, self._text, self.saved], [self.saved, *self.outputs], **QUIET)
        self._cancel.click(self.close, None, self.outputs, **QUIET)
        self._back.click(self._take_back, [self._now, self.saved], [self.saved, *self.outputs], **QUIET)

    def _keep(self, now: dict[str, str], text: str, saved: Saved, request: gr.Request) -> list[Update]:
        """Store the correction; one that this visitor gave before is taken back after it."""
        response, before = now.get("response", ""), saved.get(now.get("response", ""))
        if not text.strip():
            return self._problem("An answer cannot be empty. Write what it should have been.")
        if text.strip() == (before["text"] if before else now.get("text", "")).strip():
            return self._problem("Nothing is changed yet.")
        client = self._people.client(request)
        try:
            judgement = client.judge("correction", response=response, text=text)
            if before:
                client.take_back(before["judgement"])
        except GatewayError as error:
            return self._problem(f"Your correction could not be saved: {error}")
        saved = saved | {response: {"judgement": judgement["id"], "text": text}}
        done = [gr.Button(visible=False), gr.Button("Close", visible=True), gr.Button(visible=True)]
        return [
            saved, gr.skip(), gr.Column(visible=False), *[gr.skip()] * 3, gr.HTML(THANKS, visible=True), *done
        ]  # fmt: skip

    def _take_back(self, now: dict[str, str], saved: Saved, request: gr.Request) -> list[Update]:
        """The correction counts no more; the editor closes."""
        response = now.get("response", "")
        try:
            if response in saved:
                self._people.client(request).take_back(saved[response]["judgement"])
        except GatewayError as error:
            return self._problem(f"Your correction could not be taken back: {error}")
        return [{key: value for key, value in saved.items() if key != response}, *self.close()]

    def _problem(self, text: str) -> list[Update]:
        """The editor as it is, and why nothing was stored."""
        values = self.unchanged()
        values[self.outputs.index(self._said)] = gr.HTML(notice(text), visible=True)
        return [gr.skip(), *values]


def diff_html(before: str, after: str) -> str:
    """What is left out and what is put in, word by word, as HTML; a sentence while both are the same."""
    if before.strip() == after.strip():
        return ""
    old, new = _pieces(before), _pieces(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    parts = []
    for what, i, j, k, m in matcher.get_opcodes():
        if what == "equal":
            parts.append(escape("".join(old[i:j])))
            continue
        parts += [_marked("del", old[i:j]), _marked("ins", new[k:m])]
    return f'<div class="diff" role="group" aria-label="Your changes" tabindex="0">{"".join(parts)}</div>'


def _marked(tag: str, pieces: Sequence[str]) -> str:
    return f"<{tag}>{escape(''.join(pieces))}</{tag}>" if pieces else ""


def _pieces(text: str) -> list[str]:
    """Words, marks and the spaces between them; lines, where there are very many."""
    words = re.findall(r"\s+|\w+|[^\w\s]", text)
    return words if len(words) <= MAX_WORDS else text.splitlines(keepends=True)
