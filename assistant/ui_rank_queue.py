"""The Rank tab's form to make a queue, for admins: a name, who answers, and what is asked."""

from typing import Any

import gradio as gr

from assistant.client import GatewayError
from assistant.ui_brand import notice
from assistant.ui_people import People
from assistant.ui_rank_html import parse_arms, parse_prompts

Update = Any  # a component's new value or properties, as Gradio takes it


class QueueForm:
    """The components of the form; build it where it is to stand."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.made: gr.State = gr.State("")  # the name of the queue that was made last
        with gr.Accordion("Make a queue", open=False, visible=False, elem_id="new-queue") as self._frame:
            with gr.Row():
                self._name = gr.Textbox(label="Name", placeholder="tone-of-voice", max_lines=1, min_width=180)
                self._arms = gr.Dropdown(
                    label="Who answers (2 to 6)", multiselect=True, allow_custom_value=True, min_width=280,
                    info="The same one twice: type it with another temperature, such as reed:0.9",
                )  # fmt: skip
            self._prompts = gr.Textbox(label="What is asked, one question a line", lines=4, max_lines=12)
            self._dataset = gr.Textbox(
                label="Or the name of a dataset, whose questions are asked",
                placeholder="support-questions",
                max_lines=1,
            )
            with gr.Row(equal_height=True):
                make = gr.Button("Make the queue", variant="primary", min_width=160, scale=0)
                self._said = gr.HTML(elem_classes="made")
        fields = [self._name, self._arms, self._prompts, self._dataset]
        make.click(
            self._make, fields, [self.made, self._said, *fields], show_progress="hidden", api_visibility="private"
        )

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self._frame, self._arms]

    def show(self, admin: bool, request: gr.Request) -> list[Update]:
        """Values for `outputs`: the form, if this is an admin, with the models that can answer."""
        if not admin:
            return [gr.Accordion(visible=False), gr.skip()]
        try:
            models = [entry["id"] for entry in self._people.client(request).models() if can_answer(entry)]
        except GatewayError:
            models = []
        return [gr.Accordion(visible=True), gr.Dropdown(choices=models)]

    def _make(
        self, name: str, arms: list[str], prompts: str, dataset: str, request: gr.Request
    ) -> tuple[Update, ...]:  # fmt: skip
        asked: dict[str, Any] = {}
        if prompts.strip():
            asked["prompts"] = parse_prompts(prompts)
        if dataset.strip():
            asked["dataset"] = {"name": dataset.strip()}
        problem = "" if len(asked) == 1 else "Type questions or name a dataset, one of the two."
        if not name.strip():
            problem = "Give the queue a name."
        try:
            if not problem:
                self._people.manager(request).add_queue(name.strip(), parse_arms(arms or []), **asked)
        except GatewayError as error:
            problem = str(error)
        if problem:
            return gr.skip(), notice(problem), *[gr.skip()] * 4
        return name.strip(), notice(f"The queue {name.strip()} is ready."), "", [], "", ""


def can_answer(entry: dict[str, Any]) -> bool:
    """Whether an entry of /v1/models can be asked in a chat."""
    return "embedding" not in str(entry.get("kind"))
