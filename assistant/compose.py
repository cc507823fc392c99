"""What an assistant's definition makes of a request: prompt, examples, passages, the form of the answer, a specialist.

The order of what the model sees: the system message (the assistant's prompt, the rules for passages, what the client
says), the examples as turns of a conversation, the conversation itself, with the passages before its last question.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from adapters.recipes import labels
from assistant.definitions import MOST_CHOICES, Assistant
from assistant.documents import without_tokens
from assistant.knowledge_answer import Answers, Drawn
from assistant.nearest_examples import ExampleSets, PerDataset, Turns
from assistant.passage_prompt import RULES
from assistant.questions import last_question, text_of
from data.dataset import DatasetCard, iter_rows
from data.errors import BrogueError, DataError
from data.home import Home
from data.messages import with_system
from serve.exchange import Prepared
from serve.openai_errors import ApiError
from serve.tracing import span

if TYPE_CHECKING:
    from assistant.specialists import Specialist

_LOG = logging.getLogger("brogue.compose")
_AT_ONCE = 8  # requests for which something is looked up
# A client that brings one of these has said what the answer is to look like.
OWN_FORM = ("structured_outputs", "response_format", "tools")
Body = dict[str, Any]


class Composer:
    """Composes requests for the assistants of one home. Without `answers` nothing can be looked up."""

    def __init__(self, home: Home, supports_system: bool, answers: Answers | None) -> None:
        self._home, self._supports_system, self._answers = home, supports_system, answers
        self._examples = None if answers is None else ExampleSets(home, answers.knowledge.embedder)
        self._embedder = None if answers is None else answers.knowledge.embedder
        self._labels = PerDataset(home, self._read_labels)
        self._specialists: dict[str, tuple[int, Specialist]] = {}  # name → its card's time, what was opened
        self._opening = threading.Lock()
        # Threads of their own: an embedding server that hangs must not hold up what else the gateway does in threads.
        self._threads = ThreadPoolExecutor(_AT_ONCE, "compose")
        self._may_embed = ThreadPoolExecutor(_AT_ONCE, "examples")  # a whole dataset, at the first question

    def with_prompt(self, body: Body, system: str | None, shots: Sequence[Mapping[str, Any]] = ()) -> Body:
        """The request with a system prompt, and examples before its conversation; itself, if there is nothing to do."""
        asked = body["messages"]
        if not (system or shots or _wants_joining(asked, self._supports_system)):
            return body
        own = list(takewhile(lambda m: m.get("role") in ("system", "developer"), asked)) if shots else []
        return body | {"messages": with_system([*own, *shots, *asked[len(own) :]], system, self._supports_system)}

    async def prepared(self, assistant: Assistant, body: Body) -> Prepared:
        """The request as the engine is to see it, or the answer that needs none. Raises `ApiError`."""
        looks_up = self._concerns(assistant)
        if not (looks_up or assistant.examples or assistant.examples_from or assistant.answer or assistant.specialist):
            return Prepared(assistant.adapter, self.with_prompt(body, assistant.system_prompt), assistant.name)
        threads = self._threads if assistant.examples_from is None else self._may_embed
        loop = asyncio.get_running_loop()
        with span("retrieval", assistant=assistant.name):
            return await loop.run_in_executor(threads, self._composed, assistant, body, looks_up)

    def beside_adapter(self, assistant: Assistant) -> list[str]:
        """What an assistant adds to its adapter's (or the base model's) own voice, for a person."""
        parts = {
            "a system prompt": assistant.system_prompt, "documents": self._concerns(assistant),
            "examples": assistant.examples or assistant.examples_from, "a form of its answers": assistant.answer,
            "a specialist": assistant.specialist,
        }  # fmt: skip
        return [name for name, there in parts.items() if there]

    def warm(self, assistants: Iterable[Assistant]) -> None:
        """Embed what examples are looked for in, so that the first question need not wait."""
        for assistant in assistants:
            if assistant.examples_from is not None and self._examples is not None:
                try:
                    self._examples.warm(assistant.examples_from)
                except BrogueError as error:  # who asks this assistant is told
                    _LOG.error("%s: %s", assistant.name, error)

    def _concerns(self, assistant: Assistant) -> bool:
        return self._answers is not None and self._answers.concerns(assistant)

    def _composed(self, assistant: Assistant, body: Body, looks_up: bool) -> Prepared:
        began = time.perf_counter()
        if assistant.answer is not None and not any(body.get(key) for key in OWN_FORM):
            body = body | self._form(assistant)
        shots = self._shots(assistant, body, looks_up)
        drawn = self._draw(assistant, body, shots) if looks_up else None
        found = drawn or Drawn(body["messages"], assistant.system_prompt)
        seen, said, by = body | {"messages": found.messages}, found.instead, None
        if said is None and assistant.specialist is not None:
            said, by = self._ask_specialist(assistant.name, assistant.specialist, seen), assistant.specialist
        searched = drawn is not None or assistant.examples_from is not None or by is not None
        return Prepared(
            assistant.adapter, self.with_prompt(seen, found.system, shots), assistant.name, found.passages,
            found.extension, said, time.perf_counter() - began if searched else None, by,
        )  # fmt: skip

    # --- examples ---

    def _shots(self, assistant: Assistant, body: Body, looks_up: bool) -> list[dict[str, Any]]:
        """The examples that fit, as turns, the most similar last."""
        found: list[Turns] = [
            ({"role": "user", "content": one.user}, {"role": "assistant", "content": one.assistant})
            for one in assistant.examples
        ]
        if assistant.examples_from is not None:
            found = self._nearest(assistant, last_question(body["messages"]))
        if self._answers is None or not found:
            return [dict(turn) for one in found for turn in one]
        base, rules = self._answers.base, RULES if looks_up else ""
        clean = without_tokens(base.template_tokens)  # an example must not end its own turn and begin another one
        found = [tuple(turn | {"content": clean(turn["content"])} for turn in one) for one in found]
        texts = [text_of(m.get("content")) for m in body["messages"]]
        system = "\n\n".join(filter(None, [assistant.system_prompt, rules]))
        room = base.room(system, texts, body)
        kept = self._fitting(found, room // 2 if looks_up else room)  # documents want their part of it
        if len(kept) < len(found):
            _LOG.info("%s: room for %d of %d examples", assistant.name, len(kept), len(found))
        return [turn for one in kept for turn in one]

    def _fitting(self, shots: Sequence[Turns], room: int) -> list[Turns]:
        """Those at the end that fit into so many tokens: the farthest, at the beginning, go first."""
        kept: list[Turns] = []
        for one in reversed(shots):
            room -= self._tokens(one)
            if room < 0:
                break
            kept.append(one)
        return kept[::-1]

    def _tokens(self, turns: Sequence[Mapping[str, Any]]) -> int:
        return 0 if self._answers is None else self._answers.base.taken(turn["content"] for turn in turns)

    def _nearest(self, assistant: Assistant, question: str) -> list[Turns]:
        wanted = assistant.examples_from
        if wanted is None or not question:
            return []
        try:
            if self._examples is None:
                raise BrogueError("there is no embedding model here")
            return self._examples.nearest(wanted, question)
        except BrogueError as error:
            raise _unusable(assistant.name, f"its examples from '{wanted.dataset}'", "examples", error) from error

    # --- passages ---

    def _draw(self, assistant: Assistant, body: Body, shots: Sequence[Mapping[str, Any]]) -> Drawn | None:
        assert self._answers is not None  # else nothing is looked up
        return self._answers.draw(assistant, body, self._tokens(shots))

    # --- the form of the answer ---

    def _form(self, assistant: Assistant) -> Body:
        form = assistant.answer
        assert form is not None
        if form.json_schema is not None:
            schema = {"name": "answer", "schema": form.json_schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        choices = form.choices
        if form.labels_of is not None:
            try:
                choices = self._labels.of(form.labels_of)
            except BrogueError as error:
                raise _unusable(assistant.name, f"the labels of '{form.labels_of}'", "answer_form", error) from error
        return {"structured_outputs": {"choice": list(choices)}}

    def _read_labels(self, card: DatasetCard) -> tuple[str, ...]:
        rows = list(iter_rows(self._home, card.name)) if card.kind == "labelled" else []
        if not rows or getattr(rows[0].record, "tokens", None) is not None:
            raise DataError(f"it has no labels of texts (its kind is {card.kind}); name choices instead of labels_of")
        found = labels(rows)
        if len(found) > MOST_CHOICES:
            raise DataError(f"{len(found)} labels are more than the {MOST_CHOICES} that an engine can be held to")
        return found

    # --- specialists ---

    def _ask_specialist(self, assistant: str, name: str, body: Body) -> str:
        try:
            return self._specialist(name).answer(body["messages"])
        except BrogueError as error:
            raise _unusable(assistant, f"the specialist '{name}'", "specialist", error) from error

    def _specialist(self, name: str) -> "Specialist":
        """Opened once, and again when it was made anew."""
        from assistant.specialists import CARD, folder_of, open_specialist

        card = folder_of(self._home, name) / CARD
        with self._opening:
            stamp = card.stat().st_mtime_ns if card.exists() else 0
            if name not in self._specialists or self._specialists[name][0] != stamp:
                self._specialists.pop(name, None)
                self._specialists[name] = (stamp, open_specialist(self._home, name, self._embedder))
            return self._specialists[name][1]


def _wants_joining(messages: Sequence[Mapping[str, Any]], supports_system: bool) -> bool:
    """Whether what the client says as the system has to become one plain message that the chat template can take."""
    leading = list(takewhile(lambda m: m.get("role") in ("system", "developer"), messages[:2]))
    if not leading:
        return False
    is_plain = leading[0]["role"] == "system" and isinstance(leading[0].get("content"), str)
    return len(leading) > 1 or not (is_plain and supports_system)


def _unusable(assistant: str, what: str, code: str, why: BrogueError) -> ApiError:
    message = f"'{assistant}' cannot answer: {what} cannot be used ({why})"
    return ApiError(503, message, code=f"{code}_unavailable", param="model")
