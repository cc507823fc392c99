"""Under the chat: which version wrote the last answer, and what a visitor thinks of it.

Two thumbs; after one of them reasons to choose and room for words; "Correct this answer". Everything is stored at
once and can be taken back. Where an answer came from travels in its message's metadata, so it stays with the
conversation; what was said of it, in `given`.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from assistant.client import GatewayError, Source
from assistant.ui_answers import Message, is_notice, plain_text, text_of
from assistant.ui_correct import QUIET, Corrector, Saved
from assistant.ui_people import People
from data.judgements import MAX_COMMENT

HELPFUL, NOT_HELPFUL = 1, -1  # the gateway's ratings
NONE = "none"  # the version where the documents were silent, so that no model was asked
SPECIALIST = "specialist:"  # before the name of a small model, where one answered
# Reasons that only make sense for an answer from documents: what was to blame, the search or the model.
OF_DOCUMENTS = {"wrong-source": "Wrong source", "right-source-wrong-answer": "Right source, wrong answer"}
ASKED = {HELPFUL: "What was good?", NOT_HELPFUL: "What was wrong?"}
NOT_BY_A_MODEL = "No model was asked."

Update = Any  # a component's new value or properties, as Gradio takes it
Given = dict[str, dict[str, Any]]  # response id → {"rating", "reasons", "comment", "judgement", "choices"}

# One after the other: what is said later must not be stored sooner, nor be made of what was known before.
ORDERLY: dict[str, Any] = {**QUIET, "concurrency_id": "credit", "concurrency_limit": 1}


class Credit:
    """The components of the line and what opens below it; build it where they are to stand."""

    def __init__(self, people: People, chat: gr.Chatbot) -> None:
        self._people = people
        self._chat = chat
        self.given: gr.State = gr.State({})
        small = {"size": "sm", "min_width": 0, "visible": False}
        with gr.Row(elem_classes="credit"):
            self.by = gr.HTML(elem_classes="by")
            self._thumbs = [
                gr.Button("Helpful", elem_classes=["thumb", "up"], **small),
                gr.Button("Not helpful", elem_classes=["thumb", "down"], **small),
            ]
            self._correct = gr.Button("Correct this answer", elem_classes=["thumb", "correct"], **small)
        with gr.Column(elem_classes="why", visible=False) as self._why:
            with gr.Row():
                self._thanks = gr.HTML(elem_classes="thanks")
                self._back = gr.Button("Take back", size="sm", min_width=0, elem_classes="back")
            self._reasons = gr.CheckboxGroup(
                label="Reasons", show_label=False, container=False, interactive=True, elem_classes="chips"
            )
            self._comment = gr.Textbox(
                label="Anything else about this answer?", show_label=False, container=False, submit_btn="Send",
                placeholder="Anything else? (optional)", lines=1, max_lines=4, max_length=MAX_COMMENT,
                elem_id="comment",
            )  # fmt: skip
        self._corrector = Corrector(people, "chat")
        self._wire()

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self.by, *self._judged, *self._corrector.outputs]

    @property
    def _judged(self) -> list[gr.Component]:
        """What a thumb changes."""
        below = [self._why, self._thanks, self._reasons, self._comment]
        return [*self._thumbs, self._correct, *below]

    def show(self, history: Sequence[Message], given: Given | None = None) -> list[Update]:
        """The line for a conversation whose last answer is finished, was stopped, or is about to begin."""
        source = source_of(history)
        said = (given or {}).get(source.response_id)
        return [written_by(source), *self._thumbed(history, said), *self._corrector.close()]

    def _wire(self) -> None:
        state = [self._chat, self.given]
        for button, rate in zip(self._thumbs, (self._up, self._down), strict=True):
            button.click(rate, state, [self.given, *self._judged], **ORDERLY)
        more = [self._reasons, self._comment]
        self._reasons.input(
            self._add, [*state, *more], [self.given, self._thanks], trigger_mode="always_last", **ORDERLY
        )  # fmt: skip
        self._comment.submit(self._add, [*state, *more], [self.given, self._thanks], **ORDERLY)
        self._back.click(self._take_back, state, [self.given, *self._judged], **ORDERLY)
        self._correct.click(
            self._open_editor, [self._chat, self._corrector.saved], [self._why, *self._corrector.outputs], **QUIET
        )

    def _up(self, history: list[Message], given: Given, request: gr.Request) -> list[Update]:
        return self._rate(HELPFUL, history, given, request)

    def _down(self, history: list[Message], given: Given, request: gr.Request) -> list[Update]:
        return self._rate(NOT_HELPFUL, history, given, request)

    def _rate(self, rating: int, history: list[Message], given: Given, request: gr.Request) -> list[Update]:
        """Store a thumb and ask why."""
        before = given.get(source_of(history).response_id, {})
        same = before.get("rating") == rating
        reasons = before.get("reasons", []) if same else []
        given, problem = self._store(rating, reasons, before.get("comment", ""), history, given, request)
        if problem:
            hidden = [gr.Column(visible=True), problem, gr.CheckboxGroup(visible=False), gr.Textbox(visible=False)]
            return [gr.skip(), *[gr.skip()] * (len(self._thumbs) + 1), *hidden]
        return [given, *self._thumbed(history, given[source_of(history).response_id])]

    def _open_editor(self, history: list[Message], saved: Saved) -> list[Update]:
        """The editor in place of the reasons: a phone has no room for both."""
        editor = self._corrector.open(source_of(history).response_id, last_answer(history), saved)
        return [gr.Column(visible=False), *editor]

    def _add(
        self, history: list[Message], given: Given, reasons: list[str], comment: str, request: gr.Request
    ) -> list[Update]:
        """Store reasons and words with the thumb."""
        before = given.get(source_of(history).response_id)
        if before is None:  # taken back meanwhile
            return [gr.skip(), gr.skip()]
        given, problem = self._store(before["rating"], reasons, comment, history, given, request)
        return [gr.skip() if problem else given, problem or thanks(before["rating"], comment.strip())]

    def _store(
        self, rating: int, reasons: list[str], comment: str, history: list[Message], given: Given, request: gr.Request
    ) -> tuple[Given, str]:
        """What was given with this thumb, and what went wrong."""
        source = source_of(history)
        try:
            kept = self._people.client(request).thumb(source.response_id, rating, reasons, comment.strip())
        except GatewayError as error:
            return given, f'<p class="problem">Your rating could not be saved: {escape(str(error))}</p>'
        choices = self._choices(rating, has_sources(history) and source.version != NONE, request)
        said = {"rating": rating, "reasons": reasons, "comment": comment.strip(), "judgement": kept.get("judgement")}
        return given | {source.response_id: said | {"choices": choices}}, ""

    def _take_back(self, history: list[Message], given: Given, request: gr.Request) -> list[Update]:
        """The thumb counts no more, with its reasons and words."""
        response = source_of(history).response_id
        judgement = given.get(response, {}).get("judgement")
        try:
            if judgement:
                self._people.client(request).take_back(judgement)
        except GatewayError as error:
            said = f'<p class="problem">Your rating could not be taken back: {escape(str(error))}</p>'
            values: list[Update] = [gr.skip()] * len(self._judged)
            values[self._judged.index(self._thanks)] = said
            return [gr.skip(), *values]
        given = {key: value for key, value in given.items() if key != response}
        return [given, *self._thumbed(history, None)]

    def _thumbed(self, history: Sequence[Message], said: Mapping[str, Any] | None) -> list[Update]:
        """Values for `_judged`: what was said of the last answer, or room to say it."""
        rating = said["rating"] if said else 0
        can_be_judged = bool(source_of(history).response_id)
        thumbs = [
            gr.Button(visible=can_be_judged, elem_classes=["thumb", kind, *["chosen"] * (rating == value)])
            for kind, value in (("up", HELPFUL), ("down", NOT_HELPFUL))
        ]
        correct = gr.Button(visible=can_be_judged and bool(last_answer(history)))
        said = said or {"reasons": [], "choices": [], "comment": ""}
        reasons = gr.CheckboxGroup(choices=said["choices"], value=said["reasons"], visible=bool(said["choices"]))
        below = [gr.Column(visible=bool(rating)), thanks(rating, said["comment"]) if rating else "", reasons]
        return [*thumbs, correct, *below, gr.Textbox(value=said["comment"], visible=True)]

    def _choices(self, rating: int, documents: bool, request: gr.Request) -> list[tuple[str, str]]:
        """The reasons to choose from, as the gateway names them."""
        try:
            reasons = self._people.me(request)["reasons"]["up" if rating == HELPFUL else "down"]
        except GatewayError:
            return []
        return [(label(reason), reason) for reason in reasons if documents or reason not in OF_DOCUMENTS]


def label(reason: str) -> str:
    """A reason as people read it."""
    return OF_DOCUMENTS.get(reason) or reason.replace("-", " ").capitalize()


def thanks(rating: int, comment: str) -> str:
    """What stands over the reasons."""
    return f'<p role="status">Thank you. {"Your words are kept." if comment else ASKED[rating]}</p>'


def credited(message: Message, source: Source) -> Message:
    """The message with its source; `log` is shown only for messages with a title, so this one stays unseen."""
    return message | {"metadata": {"id": source.response_id, "log": source.version}}


def source_of(history: Sequence[Message]) -> Source:
    """Where the answer to the last question came from; empty if there is none."""
    message = _last(history)
    metadata = (message or {}).get("metadata") or {}
    return Source(str(metadata.get("log") or ""), str(metadata.get("id") or ""))


def last_answer(history: Sequence[Message]) -> str:
    """The text of the answer to the last question, as the model wrote it; empty if there is none."""
    message = _last(history)
    return plain_text(message["content"]) if message else ""


def has_sources(history: Sequence[Message]) -> bool:
    """Whether the last answer stands above its sources."""
    content = history[-1]["content"] if history and history[-1]["role"] != "user" else ""
    return isinstance(content, list) and any(not isinstance(p, str) and not text_of(p) for p in content)


def written_by(source: Source) -> str:
    """Who wrote the answer, in words."""
    if source.version == NONE:
        return f"<p>{NOT_BY_A_MODEL}</p>"
    if source.version.startswith(SPECIALIST):
        return f"<p>Answered by the small model {escape(source.version.removeprefix(SPECIALIST))}.</p>"
    adapter, _, version = source.version.partition("@")
    if not adapter:
        return ""
    who = f"{escape(adapter)}, version {escape(version)}" if version else "the base model"
    return f"<p>Answered by {who}.</p>"


def _last(history: Sequence[Message]) -> Message | None:
    """The message of the last answer, without the page's own."""
    for message in reversed(history):
        if message["role"] == "user":
            break
        if not is_notice(message) and message.get("metadata"):
            return message
    return None
