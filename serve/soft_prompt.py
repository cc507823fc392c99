"""Soft prompts: versions that are a few vectors before each prompt, answered by the engine of the base model.

PEFT's prompt tuning and p-tuning leave the base model alone and put trained vectors ("virtual tokens") before the
embeddings of the whole prompt. vLLM takes vectors in a chat as a content part of type `prompt_embeds`, at the place
where the chat template writes that part, and tokenizes and embeds all else itself. So such a version's request gets one
message more, and the model's own chat template with a line before it that writes this message first. The rest is the
chat endpoint's: streams, tools, structured outputs, logprobs, counts; the prefix cache tells soft prompts apart.
"""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adapters.registry import AdapterCard, Registry
from data.errors import BrogueError
from serve.engine_api import Lease, probe
from serve.openai_errors import ApiError
from serve.refusals import Refusals
from serve.ways import InFlight

ENGINE_ARGS = ("--enable-prompt-embeds", "--trust-request-chat-template")
WEIGHTS, VECTORS = "adapter_model.safetensors", "prompt_embeddings"  # PEFT's names
PART, ROLE = "prompt_embeds", "soft-prompt"
# The content is a string or a list of parts, as the template wants it; the last expression keeps a line break after it.
FIRST = (
    f"{{% for m in messages if m.role == '{ROLE}' %}}"
    "{{ m.content if m.content is string else m.content[0].text }}{% endfor %}"
    f"{{% set messages = messages | rejectattr('role', 'equalto', '{ROLE}') | list %}}{{{{ '' }}}}"
)
# The stand-ins for the vectors are no tokens: the first three kill the engine, the last cuts the vectors off.
REFUSED = ("prompt_logprobs", "echo", "prompt_logprob_token_ids", "truncate_prompt_tokens")
_TOO_LATE = (
    "is a soft prompt, and the engine was started when there was none and takes no vectors; start it again: "
    "brogue down, then brogue up"
)
Body = dict[str, Any]
Base = Callable[[], AbstractContextManager[Lease]]  # the base model, at one of its engines


def takes_vectors(device: str, registry: Registry) -> bool:
    """Whether the engine is to be started with `ENGINE_ARGS`.

    On a CPU always: it costs nothing. On a GPU vLLM cannot do it with every family of models, and looks tokens up
    outside of its graphs, so only where there is a soft prompt to be served.
    """
    versions = ((adapter, version) for adapter in registry.adapters() for version in registry.versions(adapter))
    return device == "cpu" or any(_is_soft_prompt(registry, *version) for version in versions)


def _is_soft_prompt(registry: Registry, adapter: str, version: int) -> bool:
    try:
        return registry.card(adapter, version).served == "soft-prompt"
    except BrogueError:  # a broken card is told when somebody asks for the version
        return False


class SoftPrompts:
    """A `Way`: each soft prompt is checked and read once, and then written into the requests.

    `templates` are the base model's chat templates by name; none: the engine was started without `ENGINE_ARGS`.
    """

    def __init__(
        self, base: Base, templates: Mapping[str, str], registry: Registry, refusals: Refusals, in_flight: InFlight
    ) -> None:
        self._base = base
        self._templates = {name: FIRST + template for name, template in templates.items()}
        self._registry = registry
        self._refusals = refusals
        self._in_flight = in_flight
        self._encoded: dict[str, str] = {}  # by engine name
        self._proven: set[str] = set()

    def status(self, card: AdapterCard) -> str:
        return "loaded" if card.engine_name in self._encoded else "idle"

    def is_proven(self, card: AdapterCard) -> bool:
        return card.engine_name in self._proven

    @asynccontextmanager
    async def holding(self, card: AdapterCard, deadline: float) -> AsyncIterator[Lease]:  # noqa: ARG002  # a Way
        name = card.engine_name
        if name not in self._encoded:
            await self._refusals.require_fit(card)
            if not self._templates:
                raise self._refusals.refuse(card, BrogueError(f"{card.name} {_TOO_LATE}"))
            path = self._registry.folder(card.adapter, card.version) / WEIGHTS
            self._encoded[name] = await asyncio.to_thread(encoded, path)
        vectors = {"role": ROLE, "content": [{"type": PART, "data": self._encoded[name]}]}
        with self._in_flight.counted(card), self._base() as lease:
            yield replace(lease, dress=partial(self._dressed, vectors))

    async def prove(self, card: AdapterCard) -> dict[str, float]:
        began = time.monotonic()
        await self._refusals.require_fit(card)
        async with self.holding(card, began) as lease:
            read_at = time.monotonic()
            if card.engine_name not in self._proven:
                with self._refusals.blamed(card):
                    await probe(card.name, lease)
                self._proven.add(card.engine_name)
                self._refusals.works(card)
        return {"load": read_at - began, "probe": time.monotonic() - read_at}

    def drop(self, card: AdapterCard) -> None:
        self._encoded.pop(card.engine_name, None)
        self._proven.discard(card.engine_name)
        self._refusals.reasons.pop(card.name, None)

    def _dressed(self, vectors: Body, body: Body) -> Body:
        if "messages" not in body:
            message = "a version that is a soft prompt answers chats only; ask it by /v1/chat/completions"
            raise ApiError(400, message, code="chat_only", param="model")
        given = [field for field in REFUSED if body.get(field) is not None and body[field] is not False]
        if given:
            message = f"a version that is a soft prompt cannot answer with '{given[0]}'; leave it out"
            raise ApiError(400, message, param=given[0])
        # transformers chooses among a model's templates in the same way
        name = "tool_use" if body.get("tools") and "tool_use" in self._templates else "default"
        return body | {"messages": [vectors, *body["messages"]], "chat_template": self._templates[name]}


def encoded(weights: Path) -> str:
    """A soft prompt, (virtual tokens, hidden), as vLLM reads it: base64 of what `torch.save` writes."""
    import torch
    from safetensors.torch import load_file

    buffer = io.BytesIO()
    torch.save(load_file(weights)[VECTORS], buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def refuse_own(body: Mapping[str, Any]) -> None:
    """An engine that takes vectors and templates takes them from the gateway only: they can make it fail for all."""
    nested = body.get("chat_template_kwargs")
    if any(isinstance(held, dict) and held.get("chat_template") is not None for held in (body, nested)):
        message = "a chat template of one's own is not taken; leave 'chat_template' out"
        raise ApiError(400, message, param="chat_template")
    for message in body["messages"]:
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        if any(isinstance(part, dict) and (part.get("type") == PART or PART in part) for part in parts):
            raise ApiError(400, f"content parts of type '{PART}' are not taken; send text", param="messages")
