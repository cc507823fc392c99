"""One request on its way: what the client asked, what the engine is to see of it, and what every answer carries."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.registry import AdapterCard
from data.judgements import PassageRef
from serve.identity import Caller
from serve.metrics_answers import Measured
from serve.timing import Timing

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
BASE = "base"  # the version, where the base model itself answers
KEY = "key:"  # what the name of a caller who came with an API key begins with
SPECIALIST = "specialist:"  # before a specialist's name, where one answered


@dataclass(frozen=True)
class Prepared:
    """What the engine is to see of a request."""

    adapter: str | None  # a reference such as "reed-voice@stable"; none: the base model
    body: dict[str, Any]
    assistant: str | None = None  # whose traffic it is; only assistants' traffic takes part in a canary
    passages: tuple[PassageRef, ...] = ()  # what of the knowledge the messages were given, for the store
    extension: Callable[[str], dict[str, Any]] | None = None  # of the finished text, what the answer has as `brogue`
    instead: str | None = None  # the whole answer, which no model is asked for
    retrieval_s: float | None = None  # what looking into knowledge and examples took, or a specialist's answer
    specialist: str | None = None  # who gave the answer, where a small model did


class Catalogue(Protocol):
    """What clients may name as `model`, and what that means."""

    def models(self) -> list[dict[str, Any]]:
        """OpenAI model objects, in the order to be listed."""

    async def prepare(self, body: dict[str, Any]) -> Prepared:
        """A chat as the engine is to see it. Raises `UnknownName` for a model that is not there."""

    def raw(self, body: dict[str, Any]) -> Prepared:
        """A text to be continued as the engine is to see it: nothing is added. Raises `UnknownName`, and `ApiError` for
        an assistant that adds something."""


@dataclass
class Exchange:
    """One request on its way, and what is counted of it."""

    path: str
    asked: Mapping[str, Any]  # the client's own body
    headers: Mapping[str, str]
    prepared: Prepared
    timing: Timing
    examined: str | None = None  # this version answers in an exam: nothing is kept, no version's tallies count it
    caller: Caller | None = None  # none: the gateway itself asks
    card: AdapterCard | None = None  # of the version that answers
    shadowed: bool = False  # its answer is to be compared with the canary's
    response_id: str = field(default_factory=lambda: f"resp-{uuid.uuid4().hex}")

    @property
    def began(self) -> float:
        """When it arrived, by time.perf_counter."""
        return self.timing.arrived

    @property
    def asked_name(self) -> str:
        return str(self.asked["model"])

    @property
    def keeps_words(self) -> bool:
        """Whether what was said may be kept; OpenAI's `store: false` says that it may not."""
        return self.asked.get("store") is not False

    @property
    def messages(self) -> list[Any]:
        """What was asked, as a chat; of several texts to be continued the first, of token ids nothing."""
        if self.path == CHAT:
            return list(self.asked["messages"])
        prompt = self.asked.get("prompt")
        first = prompt[0] if isinstance(prompt, list) and prompt else prompt
        return [{"role": "user", "content": first}] if isinstance(first, str) else []

    @property
    def version(self) -> str:
        if self.prepared.specialist is not None:
            return f"{SPECIALIST}{self.prepared.specialist}"
        if self.prepared.instead is not None:
            return "none"
        return self.card.name if self.card is not None else BASE

    @property
    def key_name(self) -> str:
        """The API key that asked; empty without one."""
        name = self.caller.name if self.caller is not None else None
        return name.removeprefix(KEY) if name is not None and name.startswith(KEY) else ""

    def measured(self, status: int, prompt_tokens: int, completion_tokens: int) -> Measured:
        """What is to be counted of it, now that it has ended."""
        return Measured(
            self.asked_name, self.version, self.key_name, status, time.perf_counter(), self.timing,
            prompt_tokens, completion_tokens, self.prepared.retrieval_s,
        )  # fmt: skip

    def answer_headers(self, ours_s: float) -> dict[str, str]:
        """What every answer carries; `ours_s` is what we ourselves took, without waiting for the engine."""
        looked_s = self.prepared.retrieval_s
        self.timing.ours_s = ours_s - (looked_s or 0) - self.timing.queued_s
        headers = {
            "x-brogue-response-id": self.response_id,
            "x-brogue-version": self.version,
            "x-brogue-overhead-ms": f"{self.timing.ours_s * 1000:.2f}",
        }
        return headers if looked_s is None else headers | {"x-brogue-retrieval-ms": f"{looked_s * 1000:.2f}"}
