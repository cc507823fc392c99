"""Requests to the engine and its answers back: which version, under whose name, complete or with an error.

Each answer comes from one version, leased until its last byte, and says which. A stream that the engine does not end
properly ends in an error event.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from data.errors import one_line
from serve import own_answer
from serve.canary import CONVERSATION_HEADER, picks_canary, sticky_key
from serve.engine_api import Refused, Unavailable
from serve.exchange import BASE, Exchange
from serve.identity import Caller
from serve.openai_errors import ApiError, engine_down
from serve.pool import AdapterPool
from serve.recorder import Answered, Recorder, conversation_of, subject_of, topic_of
from serve.shadow import Shadow
from serve.soft_prompt import refuse_own
from serve.stream import StreamReader, compact, renamed, wants_usage, with_usage
from serve.tracing import note_answer

CLIENT_GONE = 499  # the status in the metrics of a stream that nobody read to its end; nginx's number


class Relay:
    """Sends prepared requests to the engine."""

    def __init__(self, pool: AdapterPool, shadow: Shadow, recorder: Recorder) -> None:
        self._pool = pool
        self._shadow = shadow
        self._recorder = recorder

    async def send(self, exchange: Exchange) -> Response:
        """The engine's answer, with the asked name in the place of the engine's own."""
        if exchange.caller is not None:
            exchange.caller.require_model(exchange.asked_name)
        if exchange.prepared.instead is not None:
            return self._answer_ourselves(exchange, exchange.prepared.instead)
        self._choose_version(exchange)
        try:
            refuse_own(exchange.prepared.body)
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
        answer = _parsed(content)
        text = self._count_whole(exchange, reply.status_code, answer)
        if text is not None and exchange.prepared.extension is not None:
            checked = await asyncio.to_thread(exchange.prepared.extension, text)
            content = compact(answer | {"brogue": checked})
        content = renamed(content, name, exchange.asked_name)
        return Response(content, reply.status_code, headers, reply.headers.get("content-type"))

    async def blocks(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """The events of an answer that the gateway itself asks for; counted and kept like those to clients."""
        reply = await self.send(exchange)
        if isinstance(reply, _Stream):
            async with reply.held, aclosing(reply.events) as events:
                async for block in events:
                    yield block
        elif reply.status_code == 200:
            yield bytes(reply.body)
        else:
            raise ApiError(reply.status_code, f"the engine refused it: {one_line(bytes(reply.body).decode())}")

    def _answer_ourselves(self, exchange: Exchange, text: str) -> Response:
        """An answer that needs no engine, such as that the documents are silent."""
        self._measure(exchange, 200)
        self._keep(exchange, text, 0, 0)
        headers = exchange.answer_headers(time.perf_counter() - exchange.began)
        if exchange.asked.get("stream"):
            content = b"".join(own_answer.events(exchange, text))
            return Response(content, 200, headers, "text/event-stream")
        return Response(compact(own_answer.whole(exchange, text)), 200, headers, "application/json")

    def _choose_version(self, exchange: Exchange) -> None:
        """The one moment at which an alias is looked up."""
        prepared, live = exchange.prepared, self._pool.live
        if exchange.examined is not None:
            exchange.card = None if exchange.examined == BASE else live.resolve(exchange.examined)
            return
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
                    asked = time.perf_counter()
                    lease = await stack.enter_async_context(self._pool.lease(exchange.card, deadline))
                    began = time.perf_counter()
                    exchange.timing.waited_s += began - asked
                    request = lease.client.build_request("POST", exchange.path, json=lease.body(body))
                    headers = exchange.answer_headers(ours + time.perf_counter() - began)
                    reply = await lease.client.send(request, stream=True)
                    stack.push_async_callback(reply.aclose)
                    if exchange.card is None or reply.status_code != 404 or not may_reload:
                        return lease.name, reply, stack.pop_all(), headers
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
        reader = StreamReader(name, exchange.asked_name, wants_usage(exchange.asked), exchange.prepared.extension)
        status = CLIENT_GONE
        try:
            try:
                async for block in reply.aiter_bytes():
                    slow = reader.may_extend(block)
                    if events := (await asyncio.to_thread(reader.feed, block) if slow else reader.feed(block)):
                        exchange.timing.piece()
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

    def _count_whole(self, exchange: Exchange, status: int, answer: dict[str, Any]) -> str | None:
        """Count a whole answer and keep it; its text, if it is one."""
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        self._count(exchange, status, *tokens)
        if status != 200 or not answer.get("choices"):
            return None
        text = answer["choices"][0]["message"].get("content") or ""
        self._keep(exchange, text, *tokens)
        return str(text)

    def _count(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        self._measure(exchange, status, prompt_tokens, completion_tokens)
        # What the client did wrong, or did not wait for, says nothing about the version.
        if status == 200 or status >= 500:
            self._blame(exchange, error=status != 200)

    def _measure(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        if exchange.caller is not None:
            exchange.caller.spent(prompt_tokens + completion_tokens)
        self._pool.metrics.answered(exchange.measured(status, prompt_tokens, completion_tokens))
        note_answer(exchange.asked_name, exchange.version, prompt_tokens, completion_tokens)

    def _blame(self, exchange: Exchange, error: bool) -> None:
        if exchange.card is not None and exchange.examined is None:
            adapter, version = exchange.card.adapter, exchange.card.version
            self._pool.trials.answered(adapter, version, error)
            self._pool.trials.remember(exchange.response_id, adapter, version)

    def _keep(self, exchange: Exchange, text: str, prompt_tokens: int, completion_tokens: int) -> None:
        """A whole answer goes into the store, and to the canary's shadow if it takes part in that."""
        asked = exchange.asked
        if exchange.examined is not None:
            return
        self._recorder.record(
            Answered(
                id=exchange.response_id,
                version=exchange.version,
                messages=asked["messages"],
                text=text,
                assistant=exchange.prepared.assistant,
                subject=subject_of(asked) or _named(exchange.caller),
                conversation=conversation_of(asked, exchange.headers.get(CONVERSATION_HEADER)),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                seconds=time.perf_counter() - exchange.began,
                passages=exchange.prepared.passages,
                topic=topic_of(asked),
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
        self.events = events
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.held, aclosing(self.events):
            await super().__call__(scope, receive, send)


def _named(caller: Caller | None) -> str | None:
    """Whose words a request holds that does not say: the person's who is signed in, or its key's."""
    return caller.owner if caller is not None and (caller.key or caller.token) else None


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
