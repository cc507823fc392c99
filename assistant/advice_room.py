"""The room in which an arm is measured: a `Room` (adapters/exam_types.py) of one "version", asked as a client would.

Answers come from the gateway, with the exam's header: nothing is stored or counted there. They are kept by all that
they depend on, the definition's content and the question, so that a changed definition is asked anew, and an equal one
under another name is not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from adapters import exam_asking
from adapters.exam_asking import Refused
from adapters.exam_kept import key_of, keys_of
from adapters.exam_room import BASE, Progress
from adapters.exam_types import Answer, Messages, Part
from adapters.exam_types import Arm as Who
from adapters.registry import AdapterCard, Registry
from assistant.advice_lab import Lab
from assistant.advice_types import Ready
from assistant.citations import bare
from assistant.definitions import Assistant
from assistant.knowledge import manifest_file
from assistant.knowledge_manage import has_documents
from assistant.knowledge_plan import load_manifest
from data.dataset import Row, load_card
from data.errors import BrogueError

NOTHING = Answer(text="", prompt_tokens=0, completion_tokens=0, seconds=0, finish_reason="refused")


class ArmRoom:
    """`rows` are what every part gives, in their order, whatever split it names. What was asked once is kept."""

    def __init__(self, lab: Lab, ready: Ready, rows: Sequence[Row]) -> None:
        self.arms: tuple[Who, ...] = ("version",)
        self.seed, self.settings, self.home = lab.seed, lab.settings, lab.home
        self._lab, self._ready, self._rows = lab, ready, list(rows)
        adapter = ready.definition.adapter
        self._card = Registry(lab.home).resolve(adapter) if adapter else None
        self._identity = identity(lab, ready.definition)

    def card(self, arm: Who) -> AdapterCard | None:  # noqa: ARG002  # there is one only
        """The card of the arm's adapter; none without one."""
        return self._card

    def judge(self) -> AdapterCard | None:
        """None: no reward model takes part."""
        return None

    def rewards(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float] | None:  # noqa: ARG002
        """None: no reward model takes part."""
        return None

    def say(self, text: str) -> None:
        """A line for the person who waits."""
        self._lab.tell(text)

    def rows(self, part: Part) -> list[Row]:
        """The records that the arm is measured on."""
        return self._rows[: part.limit]

    def lines(self, part: Part) -> list[dict[str, Any]]:
        """Raises `BrogueError`: an arm is measured on records only."""
        raise BrogueError(f"'{part.prefix}' wants a file of JSON lines; an arm is measured on a dataset's records")

    def answers(self, arm: Who, prompts: Sequence[Messages], **sampling: Any) -> list[Answer]:  # noqa: ARG002
        """The arm's answers, greedy unless `sampling` says; a prompt that is given twice is sampled twice.

        How an answer is constrained is the arm's own business, and no measure's: that is left out of `sampling`.
        """
        asked = {"temperature": 0, "max_tokens": self._lab.task.max_tokens} | sampling
        asked.pop("structured_outputs", None)
        questions = [{"messages": list(prompt), **asked} for prompt in prompts]
        keys = keys_of(self._identity, questions)
        refused = self._complete(dict(zip(keys, questions, strict=True)))
        kept, name = self._lab.kept, self._lab.kept_as
        found = [refused.get(key) or Answer.model_validate(kept.get(name, key)) for key in keys]
        if not _knows(self._lab, self._ready.definition):
            return found
        # As a page shows them: of what was drawn from documents, the citations stand apart.
        return [answer.model_copy(update={"text": bare(answer.text)}) for answer in found]

    def likelihoods(self, arm: Who, prompts: Sequence[Messages | None], texts: Sequence[str]) -> list[list[float]]:  # noqa: ARG002
        """Log-probability (nats) of each token of each text, behind what the gateway would send to the engine.

        Nothing is likely to a specialist: it has no such figures.
        """
        if self._ready.definition.specialist is not None:
            return [[] for _ in texts]
        keys = [
            key_of("likelihood", self._identity, None if prompt is None else list(prompt), text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        kept, name = self._lab.kept, self._lab.kept_as
        wanted = dict(zip(keys, zip(prompts, texts, strict=True), strict=True))
        missing = [key for key in wanted if kept.get(name, key) is None]
        if missing:
            progress = Progress("likelihoods", len(missing), self._lab.tell)

            def take(number: int, values: list[float]) -> None:
                kept.put(name, missing[number], values)
                progress.one()

            asked = self._composed([wanted[key][0] for key in missing])
            said = [wanted[key][1] for key in missing]
            self._lab.likelihoods.of(self._card, None, asked, said, take)
        return [kept.get(name, key) or [] for key in keys]

    def _complete(self, questions: Mapping[str, Mapping[str, Any]]) -> dict[str, Answer]:
        """Ask what was never asked. Gives an empty answer for each question that is refused, such as too long a one."""
        lab, kept, name, refused = self._lab, self._lab.kept, self._lab.kept_as, dict[str, Answer]()
        missing = [key for key in questions if kept.get(name, key) is None]
        if not missing:
            return refused
        progress = Progress("answers", len(missing), lab.tell)

        def take(number: int, answer: Answer) -> None:
            kept.put(name, missing[number], answer.model_dump())
            progress.one()

        def skip(number: int, error: Refused) -> None:
            refused[missing[number]] = NOTHING
            if len(refused) == len(questions):
                raise error
            lab.tell(
                f"{len(refused)} of {len(questions)} questions are refused, which counts as a wrong answer: {error}"
            )

        lab.write(self._ready.definition)  # the same name may have been made of other rows since
        version = self._card.name if self._card is not None else BASE
        asked = [questions[key] for key in missing]
        exam_asking.ask(lab.gateway, self._ready.definition.name, version, asked, take, skip)
        return refused

    def _composed(self, prompts: Sequence[Messages | None]) -> list[Messages | None]:
        """What the gateway would make of the prompts: the system message, examples, passages."""

        async def each() -> list[Messages | None]:
            found: list[Messages | None] = []
            for prompt in prompts:
                body = {"messages": [dict(message) for message in prompt or []]}
                composed = None if prompt is None else await composer.prepared(definition, body)
                found.append(None if composed is None else composed.body["messages"])
            return found

        composer, definition = self._lab.composer, self._ready.definition
        return asyncio.run(each())


def identity(lab: Lab, definition: Assistant) -> dict[str, Any]:
    """All that an arm's answers depend on beside the base model and the question. Names are replaced by contents."""
    found = definition.model_dump(mode="json", exclude_defaults=True, exclude={"name", "description", "brand"})
    knowledge = found.pop("knowledge", {})
    if definition.adapter is not None:
        found["adapter"] = Registry(lab.home).resolve(definition.adapter).files
    if definition.examples_from is not None:
        card = load_card(lab.home, definition.examples_from.dataset)
        found["examples_from"] = [card.digest, definition.examples_from.k]
    if definition.specialist is not None:
        from assistant.specialists import load_specialist

        found["specialist"] = load_specialist(lab.home, definition.specialist).key
    if _knows(lab, definition):
        files = load_manifest(manifest_file(lab.home, definition.knowledge.use or definition.name)).files
        found["knowledge"] = knowledge | {
            "use": key_of(sorted(id for entry in files.values() for id in entry.passages))
        }
    return found


def _knows(lab: Lab, definition: Assistant) -> bool:
    """Whether it answers from documents."""
    return has_documents(lab.home, definition.knowledge.use or definition.name)
