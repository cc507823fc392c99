"""Measure `grounded`: do answers say what their passages say? By the check of assistant/grounding.py.

Every arm gets the same passages in its prompt, so that nothing but the weights differ. They stand in the lines of the
part's file, or are found once in an assistant's documents. A version has no rules of an assistant in its system prompt:
they stand in front of the passages here.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adapters.exam_types import Answer, Part, Parts, Room, Scores
from adapters.measure_data import Line, field, is_file, lines, means, texts_of, told, user
from adapters.measure_pieces import AskOptions, held_out, options
from assistant.chunking import Passage, passage_id
from assistant.grounding import Grounding, ground
from assistant.passage_prompt import RULES, Shown, show, with_passages
from data.errors import BrogueError
from data.records import question
from data.settings import load_settings

LETTERS_A_TOKEN = 3  # of a tokenizer that is not asked


class GroundedOptions(AskOptions):
    """Options."""

    assistant: str = ""  # whose documents the questions are looked up in; empty: the lines have `passages`
    passages: int = 5  # that are shown at most
    tokens: int = 1200  # that they take at most
    silent: str = "My documents do not say anything about that."  # claims nothing


class Asked(NamedTuple):
    """A question and what is shown with it."""

    question: str
    shown: Shown


def measure(room: Room, part: Part) -> list[Scores]:
    """Lines with `question` and `passages`, or any questions with the option `assistant`. Three figures.

    `supported`: the share of the claiming sentences that a passage supports; `cited`: of those, that the answer cites
    rightly; `claims`: the share of answers that claim anything.
    """
    chosen = options(part, GroundedOptions)
    asked = [one for one in _asked(room, part, chosen) if one.shown.blocks]
    if not asked:
        raise BrogueError(f"'{part.prefix}': no passages were found for its questions; add documents or `passages`")
    prompts = [with_passages(user(one.question), one.shown) for one in asked]
    prompts = [[{**prompt[0], "content": f"{RULES}\n\n{prompt[0]['content']}"}] for prompt in prompts]
    answers = {arm: room.answers(arm, prompts, **chosen.sampling) for arm in room.arms}
    checked = {arm: _checked(asked, some, chosen) for arm, some in answers.items()}
    items = told([one.question for one in asked], answers)
    figures = {
        arm: (_claims(some, ("cited", "attributed")), _claims(some, ("cited",))) for arm, some in checked.items()
    }
    note = "By the words: see docs/grounding.md."
    return [
        Scores(f"{part.prefix}.supported", "share", "higher", {a: f[0] for a, f in figures.items()}, items, note=note),
        Scores(f"{part.prefix}.cited", "share", "higher", {a: f[1] for a, f in figures.items()}, items),
        means(f"{part.prefix}.claims", "neither", items, {a: list(f[0][:, 1] > 0) for a, f in figures.items()}),
    ]


def _checked(asked: Sequence[Asked], answers: Sequence[Answer], chosen: GroundedOptions) -> list[Grounding]:
    return [
        ground(answer.text, one.shown.blocks, one.question, silent=chosen.silent)
        for one, answer in zip(asked, answers, strict=True)
    ]


def _claims(checked: Sequence[Grounding], support: tuple[str, ...]) -> Parts:
    """(sentences with this support, sentences that claim something) of each answer."""
    rows = []
    for one in checked:
        claims = [sentence.support for sentence in one.sentences if sentence.support != "no claim"]
        rows.append((float(sum(claim in support for claim in claims)), float(len(claims))))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _asked(room: Room, part: Part, chosen: GroundedOptions) -> list[Asked]:
    if chosen.assistant:
        return _looked_up(room, part, chosen)
    found = lines(room, part, None, "`question` and `passages`, or the option `assistant`")
    return [
        Asked(_question(part, line), _shown([_passage(text) for text in texts_of(part, line, "passages")], chosen))
        for line in found
    ]


def _looked_up(room: Room, part: Part, chosen: GroundedOptions) -> list[Asked]:
    """The part's questions, each with what the assistant's documents have on it."""
    from assistant.knowledge import Knowledge, knowledge_of

    home = getattr(room, "home", None)
    if home is None or part.data is None:
        raise BrogueError(f"'{part.prefix}' wants questions to look up: data: a dataset's name, or a file of lines")
    questions = (
        [_question(part, line) for line in room.lines(part)]
        if is_file(part)
        else [question(row.record) for row in held_out(room, part)]
    )
    name, _ = knowledge_of(home, chosen.assistant)
    knowledge = Knowledge(home, load_settings(home.settings_file).knowledge)
    knowledge.summary(name)  # an unknown one is refused before anything is searched
    room.say(f"{part.prefix}: looking {len(questions)} questions up in the documents of {name}")
    return [
        Asked(one, _shown([hit.passage for hit in knowledge.search(name, one, chosen.passages).hits], chosen))
        for one in questions
    ]


def _question(part: Part, line: Line) -> str:
    return str(field(part, line, "question", "prompt"))


def _shown(passages: Sequence[Passage], chosen: GroundedOptions) -> Shown:
    return show(passages[: chosen.passages], chosen.tokens, lambda text: len(text) // LETTERS_A_TOKEN)


def _passage(text: str) -> Passage:
    digest = hashlib.sha256(text.encode()).hexdigest()
    fields: dict[str, Any] = {"source": "passage", "title": "passage", "start": 0, "end": len(text), "text": text}
    return Passage(id=passage_id("passage", "passage", "", text, 0), sha256=digest, **fields)
