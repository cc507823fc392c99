"""Answers cost: what a key has left of its limits, and whose turn it is at the engine; both until the last byte."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.identity import Access, Caller, Ticket
from serve.limits import Usages
from serve.openai_errors import ApiError
from serve.timing import timing_of
from serve.turns import Turns

ANSWERS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"})


class Limited:
    """ASGI middleware, inside of those that ask who it is and read the body."""

    def __init__(self, app: ASGIApp, access: Access, usages: Usages, turns: Turns) -> None:
        self._app = app
        self._access = access
        self._usages = usages
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on when it is its turn, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in ANSWERS:
            await self._app(scope, receive, send)
            return
        caller = await self._access.client(Request(scope))
        try:
            if caller.key is None:
                await self._in_turn(scope, receive, send, caller.name or "")
            else:
                await self._counted(scope, receive, send, caller)
        except ApiError as error:
            await error.response()(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        assert caller.key is not None
        key, ticket, stream = caller.key, Ticket(), _Stream()
        try:
            await self._usages.begin(key)
        except ApiError as error:
            error.headers = self._usages.headers(key)
            raise
        self._access.remember(scope, replace(caller, ticket=ticket))

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._usages.headers(key))
            stream.look(message)
            await send(message)

        try:
            await self._in_turn(scope, receive, send_with_limits, caller.name or "")
        finally:
            self._usages.end(key, ticket.tokens or stream.events)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send, who: str) -> None:
        async with AsyncExitStack() as held:
            if self._turns.is_free:
                await held.enter_async_context(self._turns.turn(who))
            else:
                receive, began = (kept := _Kept(receive)), time.perf_counter()
                if not await _first(held.enter_async_context(self._turns.turn(who)), kept.gone):
                    return  # the client has gone
                timing_of(scope).queued_s = time.perf_counter() - began
            await self._app(scope, receive, send)


class _Stream:
    """Counts a stream's events: the tokens, nearly, of one that its client left before the engine told them."""

    def __init__(self) -> None:
        self.events = 0
        self._is_stream = False

    def look(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self._is_stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
        elif self._is_stream:
            self.events += message.get("body", b"").count(b"data: ")


class _Kept:
    """A request's messages, of which some were read ahead to see whether its client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: deque[Message] = deque()

    async def __call__(self) -> Message:
        return self._ahead.popleft() if self._ahead else await self._receive()

    async def gone(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = await self._receive()
            self._ahead.append(message)
            if message["type"] == "http.disconnect":
                return


async def _first(wanted: Awaitable[Any], other: Callable[[], Awaitable[None]]) -> bool:
    """Whether `wanted` is done before `other`; the one that is late is cancelled. Raises what `wanted` raises."""
    one, two = asyncio.ensure_future(wanted), asyncio.ensure_future(other())
    try:
        await asyncio.wait({one, two}, return_when=asyncio.FIRST_COMPLETED)
        if one.done():
            one.result()
            return True
        return False
    finally:
        for task in (one, two):
            task.cancel()
        await asyncio.gather(one, two, return_exceptions=True)
