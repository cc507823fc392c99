"""The beginning of an answer: a version is leased and asked, and asked again as long as that changes no answer."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import NamedTuple

import httpx
import orjson

from serve.asked import Asked
from serve.engine_api import Lease, Unavailable
from serve.exchange import Exchange
from serve.openai_errors import ApiError, engine_down
from serve.pool import AdapterPool
from serve.router import is_passed_whole
from serve.stream import with_usage

JSON = {"content-type": "application/json"}


class Opened(NamedTuple):
    """Who answers, the reply's beginning, what is held until the reply's end, and our own answer's headers."""

    lease: Lease
    reply: httpx.Response
    held: AsyncExitStack
    headers: dict[str, str]


class Opener:
    """Asks engines what requests ask of us."""

    def __init__(self, pool: AdapterPool, asked: Asked) -> None:
        self._pool = pool
        self._asked = asked

    async def open(self, exchange: Exchange) -> Opened:
        """Until an engine has begun to answer.

        What the engine cannot have begun to answer is sent again when it is back. What it may have begun, and said
        nothing of yet, is sent to another engine, once; where there is none that is for the client to decide. What the
        router does not answer well is asked of an engine directly: what that says counts.
        """
        deadline = time.monotonic() + self._pool.limits.max_wait_s
        body = self._asked.capped(exchange.path, with_usage(exchange.prepared.body))
        ours, may_reload = time.perf_counter() - exchange.began, exchange.card is not None
        by_router = self._pool.replicas.router is not None and is_passed_whole(body)
        may_turn, lease = True, None
        while True:
            try:
                async with AsyncExitStack() as stack:
                    asked = time.perf_counter()
                    lease = await stack.enter_async_context(self._pool.lease(exchange.card, deadline, by_router))
                    by_router = by_router and not lease.is_routed
                    began = time.perf_counter()
                    exchange.timing.waited_s += began - asked
                    content = orjson.dumps(lease.body(body))
                    request = lease.client.build_request("POST", exchange.path, content=content, headers=JSON)
                    headers = exchange.answer_headers(ours + time.perf_counter() - began)
                    reply = await lease.client.send(request, stream=True)
                    stack.push_async_callback(reply.aclose)
                    if lease.is_routed and reply.status_code != 200:
                        continue
                    if exchange.card is None or reply.status_code != 404 or not may_reload:
                        return Opened(lease, reply, stack.pop_all(), headers)
                    may_reload = False  # the engine says it does not know the version: load it anew, once
                    self._pool.replicas.forget(exchange.card, lease.client)
            except Unavailable as error:
                if error.retry_after_s is None or time.monotonic() >= deadline:
                    raise engine_down(str(error), error.retry_after_s) from error
            except httpx.ConnectError as error:
                elsewhere = self.lost(lease, error)
                if time.monotonic() >= deadline:
                    raise self.down(error) from error
                if elsewhere:
                    continue
            except httpx.HTTPError as error:
                if not (self.lost(lease, error) and may_turn):
                    blame(self._pool, exchange, error=True)
                    raise self.down(error) from error
                may_turn = False
                continue
            await asyncio.sleep(0.1)

    def lost(self, lease: Lease | None, error: httpx.HTTPError) -> bool:
        """Tell of a connection that broke (not of an engine that is slow); whether another engine can answer."""
        is_broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        return lease is not None and is_broken and self._pool.replicas.lost(lease.client, error)

    def down(self, error: httpx.HTTPError | None) -> ApiError:
        """What the client is told of an answer that broke off."""
        what = f"the connection broke ({type(error).__name__})" if error else "its answer broke off"
        return engine_down(self._pool.why_closed() or f"{what}; try again in a minute")


def blame(pool: AdapterPool, exchange: Exchange, error: bool) -> None:
    """A version has answered, or failed to: that counts for it, except in an exam."""
    if exchange.card is not None and exchange.examined is None:
        adapter, version = exchange.card.adapter, exchange.card.version
        pool.trials.answered(adapter, version, error)
        pool.trials.remember(exchange.response_id, adapter, version)
