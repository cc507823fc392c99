"""The line under the chat: which version wrote the last answer, and two buttons that say whether it helped.

Where an answer came from travels in its message's metadata, so it stays with the conversation.
"""

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from assistant.client import Client, GatewayError, Source
from assistant.ui_answers import Message, is_notice, text_of

HELPFUL, NOT_HELPFUL = 1, -1  # the gateway's ratings
BASE = "base"  # what the gateway calls the model without an adapter; it has no versions to rate
NONE = "none"  # and what it says where the documents were silent, so that no model was asked
# What was to blame for an answer from documents, the search or the model: label → the gateway's reason.
BLAMES = {"Wrong source": "wrong-source", "Right source, wrong answer": "right-source-wrong-answer"}

Update = Any  # a component's new value or properties, as Gradio takes it


class Credit:
    """The components of the line; build it where the line is to stand."""

    def __init__(self, client: Client, chat: gr.Chatbot) -> None:
        self._client = client
        self._blamed = gr.State("")  # the reason that was given last for this answer
        with gr.Row(elem_classes="credit", visible=False) as self._row:
            self._by = gr.HTML(elem_classes="by")
            self._thumbs = [
                gr.Button("Helpful", size="sm", min_width=0, elem_classes=["thumb", "up"], visible=False),
                gr.Button("Not helpful", size="sm", min_width=0, elem_classes=["thumb", "down"], visible=False),
            ]
            self._blames = [
                gr.Button(label, size="sm", min_width=0, elem_classes=["thumb", "blame"], visible=False)
                for label in BLAMES
            ]
        clicks = [(self._thumbs[0], HELPFUL, ""), (self._thumbs[1], NOT_HELPFUL, "")]
        clicks += [(b, NOT_HELPFUL, reason) for b, reason in zip(self._blames, BLAMES.values(), strict=True)]
        for button, rating, reason in clicks:
            button.click(
                partial(self._rate, rating, reason),
                [chat, self._blamed],
                [self._by, self._blamed, *self._thumbs, *self._blames],
                show_progress="hidden",
                api_visibility="private",
            )

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show`, `show_writer` and `unchanged` fill."""
        return [self._row, self._by, self._blamed, *self._thumbs, *self._blames]

    def show(self, history: Sequence[Message]) -> list[Update]:
        """The line for a conversation whose last answer is finished, was stopped, or is about to begin."""
        source, documents = source_of(history), has_sources(history)
        rateable = bool(source.response_id) and (source.version != BASE or documents)
        blameable = rateable and documents and source.version != NONE
        return [gr.Row(visible=bool(history)), written_by(source), *_buttons(rateable, blameable)]

    def show_writer(self, source: Source) -> list[Update]:
        """The line while an answer is being written."""
        return [gr.skip(), written_by(source), *[gr.skip()] * (len(self.outputs) - 2)]

    def unchanged(self) -> list[Update]:
        return [gr.skip()] * len(self.outputs)

    def _rate(self, rating: int, reason: str, history: list[Message], blamed: str) -> list[Update]:
        """Send a thumb with its reason; a reason that was given already is taken back, the thumb stays."""
        source, reason = source_of(history), "" if reason == blamed else reason
        try:
            self._client.rate(source.response_id, rating, [reason] if reason else [])
        except GatewayError as error:
            said = f"<p>Your rating could not be saved: {escape(str(error))}</p>"
            return [said, *[gr.skip()] * (1 + len(self._thumbs) + len(self._blames))]
        blameable = has_sources(history) and source.version != NONE
        return [written_by(source, "Thank you."), *_buttons(True, blameable, rating, reason)]


def _buttons(rateable: bool, blameable: bool, rating: int = 0, reason: str = "") -> list[Update]:
    """The reason that was given, then thumbs and blames, with what was chosen."""
    chosen = [rating == HELPFUL, rating == NOT_HELPFUL, *(reason == one for one in BLAMES.values())]
    kinds = [("up", rateable), ("down", rateable), *[("blame", blameable)] * len(BLAMES)]
    return [
        reason,
        *(
            gr.Button(visible=visible, elem_classes=["thumb", kind, *["chosen"] * is_it])
            for (kind, visible), is_it in zip(kinds, chosen, strict=True)
        ),
    ]


def credited(message: Message, source: Source) -> Message:
    """The message with its source; `log` is shown only for messages with a title, so this one stays unseen."""
    return message | {"metadata": {"id": source.response_id, "log": source.version}}


def source_of(history: Sequence[Message]) -> Source:
    """Where the answer to the last question came from; empty if there is none."""
    for message in reversed(history):
        if message["role"] == "user":
            break
        if not is_notice(message) and (metadata := message.get("metadata")):
            return Source(str(metadata.get("log") or ""), str(metadata.get("id") or ""))
    return Source()


def has_sources(history: Sequence[Message]) -> bool:
    """Whether the last answer stands above its sources."""
    content = history[-1]["content"] if history and history[-1]["role"] != "user" else ""
    return isinstance(content, list) and any(not isinstance(p, str) and not text_of(p) for p in content)


def written_by(source: Source, more: str = "") -> str:
    """Who wrote the answer, in words."""
    if source.version == NONE:
        return f"<p>No model was asked. {more}</p>"
    adapter, _, version = source.version.partition("@")
    if not adapter:
        return ""
    who = f"{adapter}, version {version}" if version else "the base model"
    return f"<p>Answered by {who}. {more}</p>"
