"""Example files to fill in, one of each form of record: what `brogue data import` takes without any options.

JSON carries its explanations inside, as texts that an import passes over; CSV and CoNLL know no comments, so that
theirs come beside the file. Every example can be imported as it is, and says of itself that it is one.
"""

import csv
import io
import json
from typing import Any, Literal, NamedTuple, get_args

from data.records import Kind

Form = Literal["chat", "instruction", "labelled", "labelled-tokens", "preference", "ranking"]
FORMS: tuple[Form, ...] = get_args(Form)
EXAMPLE = "(example, replace it)"  # stands in every example, so that one that was left in can be found


class Template(NamedTuple):
    """A file to fill in."""

    kind: Kind
    suffix: str  # how the file is written
    text: str  # the file itself
    notes: tuple[str, ...]  # what to know while filling it in; JSON holds them too


_COMMON = (
    f"Replace every example: it is marked {EXAMPLE}.",
    "Save it as UTF-8. Many different questions teach more than one question many times over.",
)
_COLUMNS = "Further columns may stay. One that names the person or the customer: --subject-column, --group-column."


def template(form: Form) -> Template:
    """The file to fill in for records of that form."""
    return {
        "chat": _chat, "instruction": _instruction, "labelled": _labelled, "labelled-tokens": _tokens,
        "preference": _preference, "ranking": _ranking,
    }[form]()  # fmt: skip


def _instruction() -> Template:
    notes = (
        "One row for each question and the answer wanted.",
        "prompt: what a person asks, in the words and with the mistakes that people make.",
        "response: the answer as it should be given, word for word.",
        "system: instructions for this one answer; leave it empty, or delete the column, if there are none.",
        _COLUMNS,
    )
    rows = [
        ["prompt", "response", "system"],
        [
            f"{EXAMPLE} Can I return shears that I have used once?",
            "Yes, within 30 days of delivery.",
            "",
        ],
        [f"{EXAMPLE} how long is delivery", "Two to three working days.", "Answer in one sentence."],
    ]
    return Template("instruction", ".csv", _csv(rows), (*notes, *_COMMON))


def _labelled() -> Template:
    notes = (
        "One row for each text and the one label that it belongs to.",
        "text: what a person wrote. label: always written the same way; case and spaces count.",
        "A label with fewer than about ten texts is hardly learnt; keep the labels about equally large.",
        _COLUMNS,
    )
    rows = [
        ["text", "label"],
        [f"{EXAMPLE} where is my parcel", "delivery"],
        [f"{EXAMPLE} I was charged twice", "payment"],
    ]
    return Template("labelled", ".csv", _csv(rows), (*notes, *_COMMON))


def _tokens() -> Template:
    notes = (
        "One word a line, a tab, its tag; an empty line after each sentence. Punctuation is a word of its own.",
        "Tags: O for a word that is no name, B-… for a name's first word, I-… for its further words; the names of "
        "the kinds (here product and place) are yours.",
        *_COMMON,
    )
    sentence = [(word, "O") for word in EXAMPLE.split()]
    first = [("My", "O"), ("hedge", "B-product"), ("trimmer", "I-product"), ("broke", "O"), (".", "O")]
    second = [("Do", "O"), ("you", "O"), ("deliver", "O"), ("to", "O"), ("York", "B-place"), ("?", "O")]
    sentences = ([*sentence, *first], [*sentence, *second])
    text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in words) for words in sentences)
    return Template("labelled", ".conll", text, notes)


def _chat() -> Template:
    notes = (
        "One object with messages for each conversation: user and assistant in turn, ending with the assistant.",
        "A first message of the role system may stand before them; leave it out if there is none.",
        "content: the words as they were, or as they should have been.",
        *_COMMON,
    )
    record = {
        "messages": [
            _message("system", "You are the help desk of a garden shop."),
            _message("user", f"{EXAMPLE} My roses have black spots."),
            _message("assistant", "That is a fungus. Have you watered the leaves?"),
            _message("user", "yes, every evening"),
            _message("assistant", "Water the soil only, in the morning, and take the spotted leaves off."),
        ]
    }
    return Template("chat", ".json", _json(notes, [record]), notes)


def _preference() -> Template:
    notes = (
        "One object for each pair of answers to the same question.",
        "prompt: what was asked; for a longer conversation a list of messages with role and content.",
        "chosen: the better answer. rejected: the other one. tie: true if neither is better.",
        *_COMMON,
    )
    record = {
        "prompt": f"{EXAMPLE} Is the shop open on Sunday?",
        "chosen": "No, we are open from Monday to Saturday, 9 to 18.",
        "rejected": "Opening hours vary.",
        "tie": False,
    }
    return Template("preference", ".json", _json(notes, [record]), notes)


def _ranking() -> Template:
    notes = (
        "One object for each question and the answers to it that were put in order; two answers at least.",
        "prompt: what was asked; for a longer conversation a list of messages with role and content.",
        "ranks: one number for each of the replies, in their order. 0 is best; equal numbers are a tie.",
        *_COMMON,
    )
    record = {
        "prompt": f"{EXAMPLE} Is the shop open on Sunday?",
        "replies": ["We are closed on Sunday.", "No, from Monday to Saturday, 9 to 18.", "Opening hours vary."],
        "ranks": [1, 0, 2],
    }
    return Template("ranking", ".json", _json(notes, [record]), notes)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _json(notes: tuple[str, ...], records: list[dict[str, Any]]) -> str:
    comments = {f"note {number}": note for number, note in enumerate(notes, 1)}
    return json.dumps({**comments, "records": records}, indent=2, ensure_ascii=False) + "\n"


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
