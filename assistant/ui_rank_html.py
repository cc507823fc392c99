"""What the Rank tab sends to the browser: turns, growing answers and progress as plain data, and its style sheet.

No Gradio and no network here. An answer's Markdown becomes HTML without any HTML of its own and without pictures; all
other text stays text, which the browser sets as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

Turn = dict[str, Any]  # as POST /v1/feedback/queues/{name}/next gives it
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
)


@dataclass
class Growing:
    """One answer of a turn, as far as it is there."""

    text: str = ""
    response: str | None = None  # its id: it is whole
    problem: str | None = None

    def shown(self) -> dict[str, Any]:
        """For the browser."""
        done = self.response is not None
        html = "" if self.problem else rendered(self.text)
        return {"html": html, "text": self.text, "done": done, "problem": self.problem, "response": self.response}


def rendered(text: str) -> str:
    """An answer's Markdown as HTML; what looks like HTML in it is shown as it was written."""
    environment: dict[str, Any] = {}
    tokens = _without_empty_lists(_MARKDOWN.parse(text, environment))
    for token in tokens:
        for child in token.children or []:
            if child.type == "link_open":
                child.attrs |= {"target": "_blank", "rel": "noopener noreferrer nofollow"}
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, environment))


def turn_shown(turn: Turn | None) -> dict[str, Any] | None:
    """A turn for the browser; its order is the gateway's, and nothing tells who wrote what."""
    if turn is None:
        return None
    answers = [Growing(one["text"] or "", one["response_id"]).shown() for one in turn["answers"]]
    prompt = [{"role": _WHO.get(one["role"], one["role"]), "text": _text(one["content"])} for one in turn["messages"]]
    return {"id": turn["id"], "kind": turn["kind"], "prompt": prompt, "answers": answers}


def progress_shown(progress: dict[str, Any]) -> dict[str, Any]:
    """How far a rater is: "3 of 20 done, about 4 min left", and the share."""
    done, of, left = progress["done"], progress["of"], progress.get("seconds_left")
    words = f"{done} of {of} done"
    if left:
        words += f", about {max(1, round(left / 60))} min left" if left >= 45 else ", less than a minute left"
    return {"progress": words, "share": done / of if of else 1}


def reasons_shown(reasons: dict[str, Sequence[str]]) -> list[dict[str, str]]:
    """The gateway's labels of reasons, what speaks for an answer first."""
    labels = dict.fromkeys(label for side in ("up", "down") for label in reasons.get(side, ()))
    return [{"id": label, "label": label.replace("-", " ").replace("_", " ").capitalize()} for label in labels]


def parse_arms(chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Arms from "MODEL" or "MODEL:TEMPERATURE", as on the command line."""
    arms = []
    for one in chosen:
        model, _, temperature = one.strip().rpartition(":")
        try:
            arms.append({"model": model, "temperature": float(temperature)} if model else {"model": one.strip()})
        except ValueError:
            arms.append({"model": one.strip()})  # a colon of the name's own
    return arms


def parse_prompts(text: str) -> list[dict[str, Any]]:
    """Typed questions, one a line, as the gateway wants prompts."""
    return [{"messages": [{"role": "user", "content": line.strip()}]} for line in text.splitlines() if line.strip()]


_WHO = {"user": "Customer", "assistant": "Answer", "system": "Instructions"}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or [] if isinstance(part, dict))


def _without_empty_lists(tokens: list[Token]) -> list[Token]:
    """ "2011." alone is a year, not the 2,011th item of a list with nothing in it."""
    kept: list[Token] = []
    at = 0
    while at < len(tokens):
        four = tokens[at : at + 4]
        names = [token.type for token in four]
        if names == ["ordered_list_open", "list_item_open", "list_item_close", "ordered_list_close"]:
            said = f"{four[1].info}{four[1].markup}"
            inline = Token("inline", "", 0, content=said, children=[Token("text", "", 0, content=said)])
            kept += [Token("paragraph_open", "p", 1, block=True), inline, Token("paragraph_close", "p", -1, block=True)]
            at += 4
        else:
            kept.append(tokens[at])
            at += 1
    return kept
