"""A fake engine at a port of its own, which wants a key: what a router can be put before."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send

from serve.engine import engine_client, free_port
from serve.engine_api import EngineLink
from tests.fakes import FakeEngine

KEY = "the engines' key"


class _Server(uvicorn.Server):
    """One that leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ServedEngine(FakeEngine):
    """`start` and `stop` it in the event loop of the test. Stopped, its connections break and it has forgotten all."""

    def __init__(self, words: int = 6, pause_s: float = 0.001) -> None:
        super().__init__(words, pause_s)
        self.is_elsewhere = True
        self.url = f"http://127.0.0.1:{free_port()}"
        self.refused = 0  # requests without the key
        self._serving: tuple[_Server, asyncio.Task[None]] | None = None

    def link(self, name: str) -> EngineLink:
        return EngineLink(name, engine_client(self.url, KEY), is_elsewhere=True)

    async def start(self) -> None:
        self.state = "ready"
        port = int(self.url.rpartition(":")[2])
        config = uvicorn.Config(self, port=port, log_config=None, access_log=False, lifespan="off", ws="none")
        server = _Server(config)
        self._serving = server, asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.kill()
        if self._serving is not None:
            (server, task), self._serving = self._serving, None
            server.should_exit = server.force_exit = True
            await task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The fake engine as an ASGI application."""
        headers, content, more = dict(scope["headers"]), b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        request = httpx.Request(scope["method"], self.url + scope["path"], content=content)
        if scope["path"].startswith("/v1") and headers.get(b"authorization") != f"Bearer {KEY}".encode():
            self.refused += 1
            reply = httpx.Response(401, json={"error": "Unauthorized"})
        else:
            reply = await self.handle_async_request(request)
        await send({"type": "http.response.start", "status": reply.status_code, "headers": reply.headers.raw})
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        async for block in reply.stream:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body"})
