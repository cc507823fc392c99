"""What an assistant's documents do for one answer: passages for the prompt before it, a check of it afterwards.

In: the assistant, and a request in OpenAI's shape. Out: a `Drawn`: the messages that the model is to see, or what is
said without asking it; and a function that makes of the finished text what the API adds to it as `brogue`:

    {"passages": [{"number", "id", "source", "title", "section", "page", "start", "end", "text", "score"}],
     "declined": bool, "confidence": float, "groundedness": float | null,
     "sentences": [{"start", "end", "support", "passage", "missing", "wrong", "unknown"}]}
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.base_facts import BaseFacts as BaseFacts
from assistant.decline import LOOK_AT
from assistant.definitions import Assistant
from assistant.grounding import Checked, ground
from assistant.knowledge import Knowledge, confidence
from assistant.passage_prompt import RULES, Shown, show, with_passages
from assistant.questions import is_short, is_small_talk, last_question, stand_alone, text_of
from assistant.retrieval import Found, Hit
from data.errors import BrogueError, one_line
from data.judgements import PassageRef
from serve.openai_errors import ApiError

_LOG = logging.getLogger("brogue.knowledge")
Extension = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """What came of looking into the documents."""

    messages: list[dict[str, Any]]
    system: str | None
    extension: Extension | None = None
    passages: tuple[PassageRef, ...] = ()
    instead: str | None = None  # the whole answer, if the documents are silent


class Answers:
    """Draws on the knowledges of a home for the assistants that have one."""

    def __init__(self, knowledge: Knowledge, base: BaseFacts) -> None:
        self.knowledge, self.base = knowledge, base

    def concerns(self, assistant: Assistant) -> bool:
        """Whether the assistant has documents, or says that it uses another one's. Costs the look at a file's name."""
        return assistant.knowledge.use is not None or self.knowledge.has(assistant.name)

    def draw(self, assistant: Assistant, body: Mapping[str, Any], taken: int = 0) -> Drawn | None:
        """Look the last question up; none if nothing is asked, or the knowledge is empty. To be called in a thread.

        `taken`: tokens of the prompt that do not stand in `body`. Raises `ApiError` with what to type if the documents
        cannot be searched.
        """
        name = assistant.knowledge.use or assistant.name
        question = last_question(body["messages"])
        if not question:
            return None
        try:
            found = self._find(assistant, name, question, body["messages"])
            if not found.hits and self.knowledge.is_empty(name):
                return None
        except BrogueError as error:
            if not self.concerns(assistant):  # the documents were removed just now
                return None
            raise _unusable(name, str(error)) from error
        except Exception as error:  # whatever a damaged index makes its library raise
            _LOG.exception("knowledge '%s' cannot be searched", name)
            raise _unusable(name, f"it is damaged ({one_line(error, 120)}); brogue knowledge reindex {name}") from error
        return self._use(assistant, question, found, body, taken)

    def _find(self, assistant: Assistant, name: str, question: str, messages: Sequence[Mapping[str, Any]]) -> Found:
        """The passages for the question; for a follow-up that finds nothing, also those for it and the one before."""
        use = assistant.knowledge
        limit = max(use.passages, LOOK_AT)
        found = self.knowledge.search(name, question, limit)
        enough = confidence(question, found, use.decline_by) >= use.decline_below
        if enough or not use.rewrite or is_small_talk(question):
            return found
        whole = stand_alone(messages)
        if whole == question:
            return found
        return interleaved(found, self.knowledge.search(name, whole, limit), limit)

    def _use(self, assistant: Assistant, question: str, found: Found, body: Mapping[str, Any], taken: int) -> Drawn:
        use = assistant.knowledge
        sure = confidence(question, found, use.decline_by)
        messages, nothing = [dict(m) for m in body["messages"]], Shown(passages=(), blocks=())
        if sure < use.decline_below:
            instead = None if is_short(question) or is_small_talk(question) else _silent(assistant)
            extension = _extension(nothing, {}, sure, instead is not None, lambda _: ((), None))
            return Drawn(messages, assistant.system_prompt, extension, instead=instead)
        shown = self._show(assistant, found, body, taken)
        scores = {hit.passage.id: hit.score for hit in found.hits}
        known = "\n".join([assistant.system_prompt or "", *(text_of(m.get("content")) for m in messages)])
        check = _check(shown, question, known, _silent(assistant))
        rules = "\n\n".join(filter(None, [assistant.system_prompt, RULES if shown.blocks else None]))
        return Drawn(
            with_passages(messages, shown), rules or None, _extension(shown, scores, sure, False, check),
            tuple(PassageRef(id=p.id, source=p.source, text=p.text) for p in shown.passages),
        )  # fmt: skip

    def _show(self, assistant: Assistant, found: Found, body: Mapping[str, Any], taken: int) -> Shown:
        """The passages that fit beside the conversation and the answer."""
        base, texts = self.base, [text_of(m.get("content")) for m in body["messages"]]
        room = max(0, base.room(f"{assistant.system_prompt or ''}\n\n{RULES}", texts, body) - taken)
        passages = [hit.passage for hit in found.hits[: assistant.knowledge.passages]]
        shown = show(passages, room, base.count, base.template_tokens)
        if passages and not shown.blocks:
            _LOG.warning("%s: no room for passages beside the conversation", assistant.name)
        return shown


def _unusable(name: str, why: str) -> ApiError:
    return ApiError(
        503, f"the documents of '{name}' cannot be searched: {why}", code="knowledge_unavailable", param="model"
    )


def _silent(assistant: Assistant) -> str:
    return " ".join(filter(None, [assistant.knowledge.silent, assistant.knowledge.contact]))


def interleaved(alone: Found, whole: Found, limit: int) -> Found:
    """The best of two searches in turn; times are added up."""
    turns = [hit for pair in zip(alone.hits, whole.hits, strict=False) for hit in pair]
    turns += [*alone.hits[len(whole.hits) :], *whole.hits[len(alone.hits) :]]
    seen: dict[str, Hit] = {}
    for hit in turns:
        seen.setdefault(hit.passage.id, hit)
    stages = alone.seconds | whole.seconds
    seconds = {stage: alone.seconds.get(stage, 0) + whole.seconds.get(stage, 0) for stage in stages}
    return Found(hits=tuple(seen.values())[:limit], seconds=seconds)


_Check = Callable[[str], tuple[tuple[Checked, ...], float | None]]


def _check(shown: Shown, question: str, known: str, silent: str) -> _Check:
    """The check of the answer's sentences; an answer is not lost over a fault of ours."""

    def check(text: str) -> tuple[tuple[Checked, ...], float | None]:
        try:
            found = ground(text, shown.blocks, question, known, silent)
        except Exception:
            _LOG.exception("an answer could not be checked")
            return (), None
        return found.sentences, found.score

    return check


def _extension(shown: Shown, scores: Mapping[str, float], sure: float, declined: bool, check: _Check) -> Extension:
    passages = [
        {
            "number": number, "id": p.id, "source": p.source, "title": p.title, "section": p.section, "page": p.page,
            "start": p.start, "end": p.end, "text": p.text, "score": round(scores[p.id], 4),
        }
        for number, p in enumerate(shown.passages, 1)
    ]  # fmt: skip

    def extension(text: str) -> dict[str, Any]:
        sentences, score = check(text) if passages else ((), None)
        return {
            "passages": passages, "declined": declined, "confidence": round(sure, 4),
            "sentences": [
                {
                    "start": s.start, "end": s.end, "support": s.support, "passage": s.passage,
                    "missing": [item.text for item in s.missing], "wrong": list(s.wrong), "unknown": list(s.unknown),
                }
                for s in sentences
            ],
            "groundedness": None if score is None else round(score, 4),
        }  # fmt: skip

    return extension
