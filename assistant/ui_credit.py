"""The line under the chat: which version wrote the last answer, and two buttons that say whether it helped.

Where an answer came from travels in its message's metadata, so it stays with the conversation.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from assistant.client import Client, GatewayError, Source
from assistant.ui_answers import Message, is_notice

HELPFUL, NOT_HELPFUL = 1, -1  # the gateway's ratings
BASE = "base"  # what the gateway calls the model without an adapter; it has no versions to rate

Update = Any  # a component's new value or properties, as Gradio takes it


class Credit:
    """The components of the line; build it where the line is to stand."""

    def __init__(self, client: Client, chat: gr.Chatbot) -> None:
        self._client = client
        with gr.Row(elem_classes="credit", visible=False) as self._row:
            self._by = gr.HTML(elem_classes="by")
            self._thumbs = [
                gr.Button("Helpful", size="sm", min_width=0, elem_classes=["thumb", "up"], visible=False),
                gr.Button("Not helpful", size="sm", min_width=0, elem_classes=["thumb", "down"], visible=False),
            ]
        for thumb, rating in zip(self._thumbs, (HELPFUL, NOT_HELPFUL), strict=True):
            thumb.click(
                lambda history, rating=rating: self._rate(history, rating),
                chat,
                [self._by, *self._thumbs],
                show_progress="hidden",
                api_visibility="private",
            )

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show`, `show_writer` and `unchanged` fill."""
        return [self._row, self._by, *self._thumbs]

    def show(self, history: Sequence[Message]) -> list[Update]:
        """The line for a conversation whose last answer is finished, was stopped, or is about to begin."""
        source = source_of(history)
        rateable = bool(source.response_id) and source.version != BASE
        thumbs = [
            gr.Button(visible=rateable, elem_classes=["thumb", "up"]),
            gr.Button(visible=rateable, elem_classes=["thumb", "down"]),
        ]
        return [gr.Row(visible=bool(history)), written_by(source), *thumbs]

    def show_writer(self, source: Source) -> list[Update]:
        """The line while an answer is being written."""
        return [gr.skip(), written_by(source), gr.skip(), gr.skip()]

    def unchanged(self) -> list[Update]:
        return [gr.skip()] * len(self.outputs)

    def _rate(self, history: list[Message], rating: int) -> list[Update]:
        source = source_of(history)
        try:
            self._client.rate(source.response_id, rating)
        except GatewayError as error:
            return [f"<p>Your rating could not be saved: {error}</p>", gr.skip(), gr.skip()]
        chosen = (rating == HELPFUL, rating == NOT_HELPFUL)
        names = zip(("up", "down"), chosen, strict=True)
        thumbs = [gr.Button(elem_classes=["thumb", name, *["chosen"] * is_it]) for name, is_it in names]
        return [written_by(source, "Thank you."), *thumbs]


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


def written_by(source: Source, more: str = "") -> str:
    """Who wrote the answer, in words."""
    adapter, _, version = source.version.partition("@")
    if not adapter:
        return ""
    who = f"{adapter}, version {version}" if version else "the base model"
    return f"<p>Answered by {who}. {more}</p>"
