"""Requests to the engine and its answers back: which version, under whose name, complete or with an error.

Each answer comes from one version, leased until its last byte, and says which. A stream that the engine does not end
properly ends in an error event.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from adapters.registry import AdapterCard
from data.judgements import PassageRef
from serve.canary import CONVERSATION_HEADER, picks_canary, sticky_key
from serve.engine_api import Refused, Unavailable
from serve.openai_errors import ApiError, engine_down
from serve.pool import AdapterPool
from serve.recorder import Answered, Recorder, conversation_of, subject_of
from serve.shadow import Shadow
from serve.stream import StreamReader, renamed

CLIENT_GONE = 499  # the status in the metrics of a stream that nobody read to its end; nginx's number


@dataclass(frozen=True)
class Prepared:
    """What the engine is to see of a request."""

    adapter: str | None  # a reference such as "reed-voice@stable"; none: the base model
    body: dict[str, Any]
    assistant: str | None = None  # whose traffic it is; only assistants' traffic takes part in a canary
    passages: tuple[PassageRef, ...] = ()  # what of the knowledge the messages were given, for the store


@dataclass
class Exchange:
    """One request on its way, and what is counted of it."""

    path: str
    asked: Mapping[str, Any]  # the client's own body
    headers: Mapping[str, str]
    prepared: Prepared
    began: float  # time.perf_counter
    card: AdapterCard | None = None
    shadowed: bool = False  # its answer is to be compared with the canary's
    response_id: str = field(default_factory=lambda: f"resp-{uuid.uuid4().hex}")

    @property
    def asked_name(self) -> str:
        return str(self.asked["model"])

    @property
    def version(self) -> str:
        return self.card.name if self.card is not None else "base"

    def answer_headers(self, ours_s: float) -> dict[str, str]:
        """What every answer carries; `ours_s` is what we ourselves took, without waiting for the engine."""
        return {
            "x-brogue-response-id": self.response_id,
            "x-brogue-version": self.version,
            "x-brogue-overhead-ms": f"{ours_s * 1000:.2f}",
        }


class Relay:
    """Sends prepared requests to the engine."""

    def __init__(self, pool: AdapterPool, shadow: Shadow, recorder: Recorder) -> None:
        self._pool = pool
        self._shadow = shadow
        self._recorder = recorder

    async def send(self, exchange: Exchange) -> Response:
        """The engine's answer, with the asked name in the place of the engine's own."""
        self._choose_version(exchange)
        try:
            name, reply, held, headers = await self._open(exchange)
        except (ApiError, Refused) as error:
            self._measure(exchange, error.status if isinstance(error, ApiError) else 503)
            raise
        if reply.status_code == 200 and exchange.prepared.body.get("stream"):
            return _Stream(self._events(exchange, reply, name), headers, held)
        async with held:
            try:
                content = await reply.aread()
            except httpx.HTTPError as error:
                self._count(exchange, 503)
                raise self._down(error) from error
        self._count_whole(exchange, reply.status_code, content)
        content = renamed(content, name, exchange.asked_name)
        return Response(content, reply.status_code, headers, reply.headers.get("content-type"))

    def _choose_version(self, exchange: Exchange) -> None:
        """The one moment at which an alias is looked up."""
        prepared, live = exchange.prepared, self._pool.live
        if prepared.adapter is None:
            return
        exchange.card = live.resolve(prepared.adapter)
        adapter, _, which = prepared.adapter.partition("@")
        state = live.states.get(adapter)
        if prepared.assistant is None or which not in ("", "stable") or state is None or state.canary is None:
            return
        if state.canary.shadow:
            exchange.shadowed = True
        elif picks_canary(adapter, sticky_key(exchange.headers, exchange.asked), state.canary.share):
            exchange.card = live.card(adapter, state.aliases["canary"])

    async def _open(self, exchange: Exchange) -> tuple[str, httpx.Response, AsyncExitStack, dict[str, str]]:
        """The engine's name for the version, its reply's beginning, and what is held until the reply's end.

        What the engine cannot have begun to answer is sent again when it is back; all else is for the client to decide.
        """
        deadline = time.monotonic() + self._pool.limits.max_wait_s
        body = with_usage(exchange.prepared.body)
        ours, may_reload = time.perf_counter() - exchange.began, exchange.card is not None
        while True:
            try:
                async with AsyncExitStack() as stack:
                    name = await stack.enter_async_context(self._pool.lease(exchange.card, deadline))
                    began = time.perf_counter()
                    request = self._pool.client.build_request("POST", exchange.path, json=body | {"model": name})
                    headers = exchange.answer_headers(ours + time.perf_counter() - began)
                    reply = await self._pool.client.send(request, stream=True)
                    stack.push_async_callback(reply.aclose)
                    if exchange.card is None or reply.status_code != 404 or not may_reload:
                        return name, reply, stack.pop_all(), headers
                    may_reload = False  # the engine says it does not know the version: load it anew, once
                    self._pool.loader.forget(exchange.card)
            except Unavailable as error:
                if error.retry_after_s is None or time.monotonic() >= deadline:
                    raise engine_down(str(error), error.retry_after_s) from error
            except httpx.ConnectError as error:
                if time.monotonic() >= deadline:
                    raise self._down(error) from error
            except httpx.HTTPError as error:
                self._blame(exchange, error=True)
                raise self._down(error) from error
            await asyncio.sleep(0.1)

    async def _events(self, exchange: Exchange, reply: httpx.Response, name: str) -> AsyncGenerator[bytes, None]:
        """The engine's events as they come; a stream that does not end as it should ends in an error event."""
        reader = StreamReader(name, exchange.asked_name, wants_usage(exchange.asked))
        status = CLIENT_GONE
        try:
            try:
                async for block in reply.aiter_bytes():
                    if events := reader.feed(block):
                        yield events
                status = 200 if reader.finished and not reader.failed else 503
                if not reader.finished:
                    yield self._down(None).event()
            except httpx.HTTPError as error:
                status = 503
                yield self._down(error).event()
        finally:
            tokens = reader.prompt_tokens, reader.completion_tokens
            self._count(exchange, status, *tokens)
            if status == 200:
                self._keep(exchange, reader.text, *tokens)

    def _count_whole(self, exchange: Exchange, status: int, content: bytes) -> None:
        answer = _parsed(content)
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        self._count(exchange, status, *tokens)
        if status == 200 and answer.get("choices"):
            self._keep(exchange, answer["choices"][0]["message"].get("content") or "", *tokens)

    def _count(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        self._measure(exchange, status, prompt_tokens, completion_tokens)
        # What the client did wrong, or did not wait for, says nothing about the version.
        if status == 200 or status >= 500:
            self._blame(exchange, error=status != 200)

    def _measure(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        seconds = time.perf_counter() - exchange.began
        tokens = prompt_tokens, completion_tokens
        self._pool.metrics.request(exchange.asked_name, exchange.version, status, seconds, *tokens)

    def _blame(self, exchange: Exchange, error: bool) -> None:
        if exchange.card is not None:
            adapter, version = exchange.card.adapter, exchange.card.version
            self._pool.trials.answered(adapter, version, error)
            self._pool.trials.remember(exchange.response_id, adapter, version)

    def _keep(self, exchange: Exchange, text: str, prompt_tokens: int, completion_tokens: int) -> None:
        """A whole answer goes into the store, and to the canary's shadow if it takes part in that."""
        asked = exchange.asked
        self._recorder.record(
            Answered(
                id=exchange.response_id,
                version=exchange.version,
                messages=asked["messages"],
                text=text,
                assistant=exchange.prepared.assistant,
                subject=subject_of(asked),
                conversation=conversation_of(asked, exchange.headers.get(CONVERSATION_HEADER)),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                seconds=time.perf_counter() - exchange.began,
                passages=exchange.prepared.passages,
            )
        )
        if exchange.shadowed and exchange.card is not None:
            self._shadow.offer(exchange.path, exchange.prepared.body, exchange.card, text, exchange.response_id)

    def _down(self, error: httpx.HTTPError | None) -> ApiError:
        what = f"the connection broke ({type(error).__name__})" if error else "its answer broke off"
        return engine_down(self._pool.why_closed() or f"{what}; try again in a minute")


class _Stream(StreamingResponse):
    """Lets go of what it holds however it ends, also when the client has gone before the first event."""

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str], held: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, aclosing(self._events):
            await super().__call__(scope, receive, send)


def with_usage(body: dict[str, Any]) -> dict[str, Any]:
    """A stream's body that asks for the token counts, for our own books."""
    options = body.get("stream_options") or {}
    if not body.get("stream") or not isinstance(options, dict):
        return body
    return body | {"stream_options": options | {"include_usage": True}}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the client itself asked for the token counts of a stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
