"""Requests to the engine and its answers back: which version, under whose name, complete or with an error.

Each answer comes from one version, leased until its last byte, and says which. A stream that the engine does not end
properly ends in an error event.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serve import own_answer
from serve.asked import Asked
from serve.canary import CONVERSATION_HEADER, picks_canary, sticky_key
from serve.engine_api import Lease, Refused
from serve.engine_errors import engine_error
from serve.exchange import BASE, CHAT, Exchange
from serve.identity import Caller
from serve.openai_errors import ApiError
from serve.opening import JSON, Opener, blame
from serve.pool import AdapterPool
from serve.recorder import Answered, Recorder, conversation_of, subject_of, topic_of
from serve.shadow import Shadow
from serve.stream import StreamReader, compact, renamed, said, wants_usage
from serve.tracing import note_answer
from serve.vetting import vet

CLIENT_GONE = 499  # the status in the metrics of an answer that nobody waited for to its end; nginx's number


class Relay:
    """Sends prepared requests to the engine. `has_eyes`: the base model reads more than text."""

    def __init__(
        self, pool: AdapterPool, shadow: Shadow, recorder: Recorder, asked: Asked, has_eyes: bool = False
    ) -> None:
        self._pool = pool
        self._asked = asked
        self._opener = Opener(pool, asked)
        self._shadow = shadow
        self._recorder = recorder
        self._has_eyes = has_eyes

    async def send(self, exchange: Exchange) -> Response:
        """The engine's answer, with the asked name in the place of the engine's own. Cancelled, the engine ends too."""
        if exchange.caller is not None:
            exchange.caller.require_model(exchange.asked_name)
            self._asked.check(exchange.asked)
        try:
            vet(exchange.prepared.body, self._has_eyes)
            if exchange.prepared.instead is not None:
                return self._answer_ourselves(exchange, exchange.prepared.instead)
            self._choose_version(exchange)
            lease, reply, held, headers = await self._opener.open(exchange)
            if reply.status_code == 200 and reply.headers.get("content-type", "").startswith("text/event-stream"):
                return EventStream(self._events(exchange, reply, lease), headers, held)
            return await self._whole(exchange, reply, lease.name, held, headers)
        except (ApiError, Refused) as error:
            self._measure(exchange, error.status if isinstance(error, ApiError) else 503)
            raise
        except asyncio.CancelledError:
            self._measure(exchange, CLIENT_GONE)
            raise

    async def blocks(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """The events of an answer that the gateway itself asks for; counted and kept like those to clients."""
        reply = await self.send(exchange)
        if isinstance(reply, EventStream):
            async with reply.held, aclosing(reply.events) as events:
                async for block in events:
                    yield block
        elif reply.status_code == 200:
            yield bytes(reply.body)
        else:
            raise ApiError(
                reply.status_code, f"the engine refused it: {_parsed(bytes(reply.body))['error']['message']}"
            )

    async def _whole(
        self, exchange: Exchange, reply: httpx.Response, name: str, held: AsyncExitStack, headers: dict[str, str]
    ) -> Response:
        async with held:
            try:
                content = await reply.aread()
            except httpx.HTTPError as error:
                blame(self._pool, exchange, error=True)
                raise self._opener.down(error) from error
        if reply.status_code != 200:
            self._count(exchange, reply.status_code)
            refused = engine_error(reply.status_code, content, name, exchange.asked_name).response()
            refused.headers.update(headers)
            return refused
        answer = _parsed(content)
        text = self._count_whole(exchange, answer)
        if exchange.prepared.extension is not None:
            checked = await asyncio.to_thread(exchange.prepared.extension, text)
            content = compact(answer | {"brogue": checked})
        return Response(renamed(content, name, exchange.asked_name), 200, headers | JSON)

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

    async def _events(self, exchange: Exchange, reply: httpx.Response, lease: Lease) -> AsyncGenerator[bytes, None]:
        """The engine's events as they come; a stream that does not end as it should ends in an error event."""
        reader = StreamReader(lease.name, exchange.asked_name, wants_usage(exchange.asked), exchange.prepared.extension)
        status, pieces = CLIENT_GONE, reply.stream
        assert isinstance(pieces, httpx.AsyncByteStream)
        try:
            try:
                async for block in pieces:  # not by way of reply.aiter_raw, which would cost a tenth more
                    slow = reader.may_extend(block)
                    if events := (await asyncio.to_thread(reader.feed, block) if slow else reader.feed(block)):
                        exchange.timing.piece()
                        yield events
                status = 200 if reader.finished and not reader.failed else 503
                if not reader.finished:
                    yield self._opener.down(None).event()
            except httpx.HTTPError as error:
                status = 503
                self._opener.lost(lease, error)
                yield self._opener.down(error).event()
        finally:
            tokens = reader.tokens
            self._count(exchange, status, *tokens)
            if status == 200:
                self._keep(exchange, reader.text, *tokens)

    def _count_whole(self, exchange: Exchange, answer: dict[str, Any]) -> str:
        """Count a whole answer and keep it; its text, or that of its first choice."""
        usage, choices = answer.get("usage") or {}, answer.get("choices") or []
        tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        self._count(exchange, 200, *tokens)
        text = said(choices[0]) if choices else ""
        if choices:
            self._keep(exchange, text, *tokens)
        return text

    def _count(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        self._measure(exchange, status, prompt_tokens, completion_tokens)
        # What the client did wrong, or did not wait for, says nothing about the version.
        if status == 200 or status >= 500:
            blame(self._pool, exchange, error=status != 200)

    def _measure(self, exchange: Exchange, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        if exchange.caller is not None:
            exchange.caller.spent(prompt_tokens + completion_tokens)
        self._pool.metrics.answered(exchange.measured(status, prompt_tokens, completion_tokens))
        note_answer(exchange.asked_name, exchange.version, prompt_tokens, completion_tokens)

    def _keep(self, exchange: Exchange, text: str, prompt_tokens: int, completion_tokens: int) -> None:
        """A whole answer goes into the store, and to the canary's shadow if it takes part in that."""
        asked = exchange.asked
        if exchange.examined is not None:
            return
        words = exchange.keeps_words
        self._recorder.record(
            Answered(
                id=exchange.response_id,
                version=exchange.version,
                messages=exchange.messages if words else [],
                text=text if words else "",
                private=not words,
                assistant=exchange.prepared.assistant,
                subject=subject_of(asked) or _named(exchange.caller),
                conversation=conversation_of(asked, exchange.headers.get(CONVERSATION_HEADER)),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                seconds=time.perf_counter() - exchange.began,
                passages=exchange.prepared.passages if words else (),
                topic=topic_of(asked),
            )
        )
        if exchange.shadowed and exchange.card is not None and exchange.path == CHAT and words:
            self._shadow.offer(exchange.path, exchange.prepared.body, exchange.card, text, exchange.response_id)


class EventStream(StreamingResponse):
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
        answer = orjson.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
