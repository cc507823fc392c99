"""The Chat tab: one assistant in its brand, its answer as it is written, Stop, Retry, Edit and Clear.

The Chatbot component holds the conversation. Whatever starts an answer (a question, an example, Retry, an edited
question) is one generator event that ends in `_answer`; Stop, Clear and another assistant cancel whichever is running.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from assistant.ui_answers import (
    NOTICE,
    Answer,
    Message,
    as_text,
    conversation,
    growing_answer,
    is_notice,
    plain_text,
    side_by_side,
    tags_shown,
)
from assistant.ui_brand import Voice, hint, page_header, welcome
from assistant.ui_correct import QUIET
from assistant.ui_credit import Credit, Given, credited, written_by
from assistant.ui_people import People
from assistant.ui_sources import sources_html

MAX_SEGMENTS = 4  # more assistants than this become a menu
WAITING, WARNING = "…", "⚠"
ENDED = "ended"
Busy = bool | str
Update = Any  # a component's new value or properties, as Gradio takes it


class ChatTab:
    """The components of the tab and what they do; build it inside `gr.Tab`."""

    def __init__(self, people: People, team: gr.State) -> None:
        self._people = people
        self._team = team
        self._chosen = gr.State(None)  # the assistant's id
        # Enter must not start a second answer while one is being written (True); one that ran to its end: ENDED.
        self._busy = gr.State(False)
        self._kept: gr.State = gr.State({})  # conversations with the assistants that are not shown now
        self._thread: gr.State = gr.State("")  # the id of the one that is shown
        with gr.Row(elem_classes="topline"):
            self._header = gr.HTML(elem_classes="header")
            self._segments = gr.Radio(show_label=False, label="Assistant", visible=False, elem_classes="segments")
            self._menu = gr.Dropdown(
                show_label=False, label="Assistant", visible=False, filterable=False, elem_classes="menu"
            )
        self._chat = gr.Chatbot(
            label="Conversation",
            show_label=False,
            container=False,
            elem_id="chat",
            height="100%",
            editable="user",
            allow_tags=False,
            latex_delimiters=[],  # "$5 or $6" is a price
            buttons=["copy"],
            feedback_options=None,
        )
        self._credit = Credit(people, self._chat)
        self._box = gr.Textbox(
            label="Your message",
            show_label=False,
            container=False,
            placeholder="Write a message",
            submit_btn="Send",
            lines=1,
            max_lines=6,
            interactive=False,  # until the page knows its assistants: nobody would answer an Enter before
            elem_id="message",
        )
        with gr.Row(elem_classes="underline"):
            self._hint = gr.HTML(hint(), elem_classes="hint")
            self._clear = gr.Button("Clear chat", size="sm", variant="secondary", min_width=90, elem_id="clear")
        self._wire()

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        first = [self._hint, self._box, self._thread, self._chosen, self._segments, self._menu]
        return [*first, self._header, self._chat, *self._credit.outputs]

    def show(self, team: dict[str, Voice], logging: str = "") -> list[Update]:
        """Values for `outputs` when the page has loaded the list of assistants and what the gateway keeps."""
        chosen = next(iter(team), None)
        choices = [(voice.title, voice.id) for voice in team.values()]
        few = len(choices) <= MAX_SEGMENTS
        return [
            hint(logging),
            gr.Textbox(interactive=bool(team)),
            new_conversation(),
            chosen,
            gr.Radio(choices=choices, value=chosen, visible=few and len(choices) > 1),
            gr.Dropdown(choices=choices, value=chosen, visible=not few),
            *_dressed(team.get(chosen) if chosen else None, []),
            *self._credit.show([]),
        ]

    def _wire(self) -> None:
        state = [self._chat, self._chosen, self._busy, self._thread]
        whole = [self._chat, self._box, self._busy, *self._credit.outputs]
        # While an answer grows, as little as can be is told to the browser: slow ones would fall behind.
        answering = {"outputs": [self._chat, self._box, self._busy, self._credit.by], **QUIET}
        running = [
            self._box.submit(self._ask, [self._box, *state], **answering),
            self._chat.example_select(self._ask_example, state, **answering),
            self._chat.retry(self._retry, state, **answering),
            self._chat.edit(self._edit, state, **answering),
        ]
        for event in running:
            event.then(self._finish, [self._chat, self._busy], whole[1:], **QUIET)
        # First cancel, then tidy up: a last piece of the answer may still be on its way.
        cancel_each(self._box.stop, running).then(self._stop, self._chat, whole, **QUIET)
        cancel_each(self._clear.click, running).then(
            lambda: (new_conversation(), [], *self._idle([])), None, [self._thread, *whole], **QUIET
        )  # fmt: skip
        for picker in (self._segments, self._menu):
            cancel_each(picker.input, running).then(
                self._choose,
                [picker, self._chosen, self._chat, self._thread, self._kept, self._team, self._credit.given],
                [self._chosen, self._thread, self._kept, self._header, *whole],
                **QUIET,
            )

    def _ask(
        self, text: str, history: list[Message], chosen: str, busy: Busy, thread: str, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        if busy is True or not chosen or not text.strip():
            return
        yield gr.skip(), gr.Textbox(value=""), gr.skip(), gr.skip()
        yield from self._answer([*history, question(text.strip())], chosen, thread, request)

    def _ask_example(
        self,
        history: list[Message],
        chosen: str,
        busy: Busy,
        thread: str,
        example: gr.SelectData,
        request: gr.Request,
    ) -> Iterator[tuple[Update, ...]]:
        if busy is not True:
            yield from self._answer([*history, question(example.value["text"])], chosen, thread, request)

    def _retry(
        self,
        history: list[Message],
        chosen: str,
        busy: Busy,
        thread: str,
        which: gr.RetryData,
        request: gr.Request,
    ) -> Iterator[tuple[Update, ...]]:
        if busy is not True:
            yield from self._answer(history[: which.index + 1], chosen, thread, request)

    def _edit(
        self, history: list[Message], chosen: str, busy: Busy, thread: str, edit: gr.EditData, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        if busy is not True:
            edited = question(plain_text(edit.value))
            yield from self._answer([*history[: edit.index], edited], chosen, thread, request)

    def _answer(
        self, history: list[Message], chosen: str, thread: str, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        yield [*history, *_as_messages(Answer())], gr.Textbox(submit_btn=False, stop_btn="Stop"), True, ""
        options = {"metadata": {"conversation": thread}} | self._people.named(request)
        growing = growing_answer(self._people.client(request), chosen, conversation(history), **options)
        before = Answer()
        for (answer,) in side_by_side([growing]):
            shown = gr.skip() if answer == before else [*history, *_as_messages(answer)]
            by = gr.skip() if answer.source == before.source else written_by(answer.source)
            yield shown, gr.skip(), gr.skip(), by
            before = answer
        yield gr.skip(), gr.skip(), ENDED, gr.skip()

    def _finish(self, history: list[Message], busy: Busy) -> tuple[Update, ...]:
        """After an answer's end; it is called too after Stop or Clear, and after an Enter that came too early."""
        return self._idle(history) if busy == ENDED else (gr.skip(),) * (2 + len(self._credit.outputs))

    def _stop(self, history: list[Message]) -> tuple[Update, ...]:
        """The text so far stays; if there is none, a notice stands there, so that Retry has its place."""
        if history and is_notice(history[-1]):
            history = [*history[:-1], _own(f"{WARNING} Stopped before the answer began.")]
        return history, *self._idle(history)

    def _choose(
        self, new: str, old: str, history: list[Message], thread: str, kept: dict[str, tuple[str, list[Message]]],
        team: dict[str, Voice], given: Given,
    ) -> tuple[Update, ...]:  # fmt: skip
        if new == old:  # Gradio reports a choice from the menu twice
            return (gr.skip(),) * (7 + len(self._credit.outputs))
        kept = kept | {old: (thread, history)}
        thread, shown = kept.get(new) or (new_conversation(), [])
        return new, thread, kept, *_dressed(team.get(new), shown), *self._idle(shown, given)

    def _idle(self, history: list[Message], given: Given | None = None) -> tuple[Update, ...]:
        """Box, busy and the line under the chat when no answer is being written."""
        return gr.Textbox(submit_btn="Send", stop_btn=False), False, *self._credit.show(history, given)


def cancel_each(trigger: Callable[..., Any], running: Sequence[Any]) -> Any:
    """Let `trigger` cancel whichever of `running` runs; gives the event to go on from.

    One listener for each: the events of one listener are cancelled in turn, each when the one before has ended, and
    that would take along an answer that was begun meanwhile, such as Retry's right after Stop.
    """
    return [trigger(None, cancels=[event]) for event in running][-1]


def new_conversation() -> str:
    """An id by which the gateway knows the answers of one conversation."""
    return f"chat-{uuid.uuid4().hex}"


def question(text: str) -> Message:
    """A visitor's message."""
    return {"role": "user", "content": tags_shown(text)}


def _dressed(voice: Voice | None, history: list[Message]) -> tuple[Update, Update]:
    """Header and chat in an assistant's brand."""
    examples = [{"text": text} for text in voice.examples] if voice else []
    return page_header(voice), gr.Chatbot(value=history, placeholder=welcome(voice), examples=examples)


def _as_messages(answer: Answer) -> list[Message]:
    """The text, then what went wrong; while there is neither, that the answer is on its way."""
    said = [credited({"role": "assistant", "content": _content(answer)}, answer.source)] if answer.text else []
    if answer.problem:
        said.append(_own(f"{WARNING} {as_text(answer.problem)}"))
    return said or [_own(WAITING)]


def _content(answer: Answer) -> Any:
    """The text; where documents had a part in it, the sources under it in the same message."""
    sources = sources_html(answer.checked, answer.text) if answer.checked else ""
    text = tags_shown(answer.text)
    return [text, gr.HTML(sources)] if sources else text


def _own(text: str) -> Message:
    """A message of the page itself; the style sheet knows it by how its text begins."""
    return {"role": "assistant", "content": text, "metadata": {"id": NOTICE}}
