"""The tab Compare voices: one question to two assistants, both answers as they are written, side by side."""

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any

import gradio as gr

from assistant.ui_answers import Answer, growing_answer, side_by_side, tags_shown
from assistant.ui_brand import Voice, asked, card_mark, notice, waiting
from assistant.ui_chat import cancel_each
from assistant.ui_correct import QUIET
from assistant.ui_people import People
from assistant.ui_sources import sources_html

EXAMPLES = 4

Update = Any  # a component's new value or properties, as Gradio takes it


class CompareTab:
    """The components of the tab and what they do; build it inside `gr.Tab`."""

    def __init__(self, people: People, team: gr.State) -> None:
        self._people = people
        self._team = team
        self._busy = gr.State(False)
        gr.HTML(
            "<h1>Compare voices</h1><p>Ask one question and read two answers next to each other.</p>",
            elem_classes="intro",
        )
        self._box = gr.Textbox(
            label="Your question",
            show_label=False,
            container=False,
            placeholder="Your question",
            submit_btn="Ask both",
            lines=1,
            max_lines=6,
            interactive=False,  # until the page knows its assistants
            elem_id="question",
        )
        with gr.Row(elem_classes="examples"):  # buttons, because a Dataset cuts its samples at 60 characters
            self._examples = [gr.Button(visible=False, size="sm", min_width=0) for _ in range(EXAMPLES)]
        self._asked = gr.HTML(elem_classes="asked")
        with gr.Row(elem_classes="sides"):
            sides = [_side("First assistant", "left"), _side("Second assistant", "right")]
        self._pickers, self._faces, self._answers, self._notes = (list(parts) for parts in zip(*sides, strict=True))
        self._wire()

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self._box, *self._pickers, *self._faces, *self._examples]

    def show(self, team: dict[str, Voice]) -> list[Update]:
        """Values for `outputs` when the page has loaded the list of assistants."""
        voices = list(team.values())
        choices = [(voice.title, voice.id) for voice in voices]
        pair = [voices[0], voices[min(1, len(voices) - 1)]] if voices else [None, None]
        in_turn = chain.from_iterable(zip_longest(*(voice.examples for voice in pair if voice)))
        texts = list(dict.fromkeys(text for text in in_turn if text))
        return [
            gr.Textbox(interactive=bool(team)),
            *(gr.Dropdown(choices=choices, value=voice.id if voice else None) for voice in pair),
            *map(card_mark, pair),
            *(gr.Button(text, visible=True) for text in texts[:EXAMPLES]),
            *(gr.Button(visible=False) for _ in range(EXAMPLES - len(texts))),
        ]

    def _wire(self) -> None:
        inputs = [*self._pickers, self._busy]
        parts = [self._box, self._asked, *self._answers, *self._notes, self._busy]
        answering = {"outputs": parts, **QUIET}
        running = [
            self._box.submit(self._ask, [self._box, *inputs], **answering),
            *(example.click(self._ask, [example, *inputs], **answering) for example in self._examples),
        ]
        # First cancel, then tidy up: a last piece of the answer may still be on its way.
        cancel_each(self._box.stop, running).then(
            self._stop, self._answers, [self._box, *self._notes, self._busy], **QUIET
        )
        for picker, face in zip(self._pickers, self._faces, strict=True):
            cancel_each(picker.input, running).then(
                lambda chosen, team: (card_mark(team.get(chosen)), _idle(), "", "", "", "", "", False),
                [picker, self._team],
                [face, *parts],
                **QUIET,
            )

    def _ask(self, text: str, left: str, right: str, busy: bool, request: gr.Request) -> Iterator[tuple[Update, ...]]:
        question = text.strip()
        if busy or not question or not (left and right):
            yield (gr.skip(),) * 7
            return
        yield (gr.Textbox(value="", submit_btn=False, stop_btn="Stop"), asked(question), "", "", *[waiting()] * 2, True)
        messages = [{"role": "user", "content": question}]
        client, named = self._people.client(request), self._people.named(request)
        growing = [growing_answer(client, voice, messages, **named) for voice in (left, right)]
        for answers in side_by_side(growing):
            yield (gr.skip(), gr.skip(), *(tags_shown(a.text) for a in answers), *map(_note, answers), gr.skip())
        yield (_idle(), *[gr.skip()] * 5, False)

    def _stop(self, *texts: str) -> tuple[Update, ...]:
        return _idle(), *("" if text else notice("Stopped before the answer began.") for text in texts), False


def _side(label: str, name: str) -> tuple[gr.Dropdown, gr.HTML, gr.Markdown, gr.HTML]:
    with gr.Column(elem_classes="side", elem_id=name, min_width=300):
        with gr.Row(elem_classes="who"):
            face = gr.HTML(elem_classes="face")
            picker = gr.Dropdown(label=label, container=False, filterable=False, elem_classes="picker")
        answer = gr.Markdown(elem_classes="answer", latex_delimiters=[], line_breaks=True)
        note = gr.HTML(elem_classes="note")
    return picker, face, answer, note


def _note(answer: Answer) -> str:
    """Under an answer: what went wrong, or that it has not begun, or its sources."""
    if answer.problem:
        return notice(answer.problem)
    if answer.checked:
        return sources_html(answer.checked, answer.text)
    return "" if answer.text else waiting()


def _idle() -> Update:
    return gr.Textbox(submit_btn="Ask both", stop_btn=False)
