"""A stand-in for vllm-router, in process: it gives requests to fake engines in turn, and can be told which it has."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx

from serve.engine_api import EngineLink
from tests.fakes import FakeEngine

NONE_LEFT = "No available workers (all circuits open or unhealthy)"


class FakeRouter(httpx.AsyncBaseTransport):
    """vllm-router 0.1.17 as the gateway meets it. `engines` are those that it can reach; it has none of them yet."""

    def __init__(self, engines: Sequence[FakeEngine]) -> None:
        self.reachable = {f"http://engine-{number}": one for number, one in enumerate(engines, 1)}
        self.has: list[str] = []  # addresses
        self.is_there = True
        self.answers: tuple[int, str] | None = None  # to every question, in the place of what an engine says
        self.refuses = False  # to be told of engines
        self.told: list[str] = []  # what it was told of engines, without the addresses' beginning
        self.held: dict[str, set[str]] = {}  # what an engine held when it was added, by address
        self.bodies: list[dict[str, Any]] = []

    def link(self) -> EngineLink:
        return EngineLink("router", httpx.AsyncClient(transport=self, base_url="http://router"), is_elsewhere=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if not self.is_there:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/readiness":
            return httpx.Response(200 if self.has else 503, json={"status": "ready" if self.has else "not_ready"})
        if request.url.path == "/list_workers":
            return httpx.Response(200, json={"urls": self.has})
        if request.url.path in ("/add_worker", "/remove_worker"):
            return self._change(request.url.path, request.url.params["url"])
        return await self._ask(request)

    def _change(self, path: str, address: str) -> httpx.Response:
        if self.refuses:
            return httpx.Response(405, text="not here")
        self.told.append(f"{path.removesuffix('_worker')[1:]} {address.removeprefix('http://')}")
        if path == "/remove_worker":
            self.has = [one for one in self.has if one != address]
        elif address in self.has:
            return httpx.Response(400, text=f"Worker {address} already exists")
        else:
            self.held[address] = set(self.reachable[address].loaded.values())
            self.has.append(address)
        return httpx.Response(200, text="Successfully")

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        if self.answers is not None:
            return httpx.Response(self.answers[0], text=self.answers[1])
        if not self.has:
            return httpx.Response(503, text=NONE_LEFT)
        self.has.append(self.has.pop(0))
        try:
            return await self.reachable[self.has[-1]].handle_async_request(request)
        except httpx.HTTPError:
            return httpx.Response(500, text=f"Request failed: error sending request for url ({self.has[-1]}/)")
