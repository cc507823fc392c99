"""The editor for "Correct this answer": the answer as text to change, what is changed so far, Save, Cancel, Take back.

    corrector = Corrector(people)                                  # where the editor is to stand; hidden until opened
    button.click(lambda id, text: corrector.open(id, text), [...], corrector.outputs)
    corrector.saved.change(my_own, corrector.saved, [...])         # saved or taken back

`corrector.saved` is a `gr.State`: {response id: {"judgement": its id, "text": as corrected}}, what this visitor has
corrected in this window and not taken back. For a button in HTML of your own: its event gives id and text to `open`.
"""

from typing import Any

import gradio as gr

from assistant.ui_people import People

Update = Any  # a component's new value or properties, as Gradio takes it


class Corrector:
    """The components of the editor and what they do; build it where the editor is to stand, one for each tab."""

    def __init__(self, people: People, name: str) -> None:
        """`name`, such as "chat" or "rank", makes the element ids: `#correct-rank`, `#correct-rank-text`."""
        self.saved: gr.State = gr.State({})
        self._people = people
        self._now: gr.State = gr.State({})  # {"response", "text"} that the editor is open for

    @property
    def outputs(self) -> list[gr.Component]:
        """What `open` and `close` fill."""
        return []

    def open(self, response_id: str, text: str, saved: dict[str, Any] | None = None) -> list[Update]:
        """Values for `outputs`: the editor for this answer, as Markdown source; again with what `saved` holds of it."""
        return []

    def close(self) -> list[Update]:
        """Values for `outputs`: the editor out of sight; nothing is stored."""
        return []
