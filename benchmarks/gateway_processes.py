"""What benchmarks/gateway.py starts, each a process of its own:

python -m benchmarks.gateway_processes engine PORT          a scripted engine in vLLM's HTTP shape
python -m benchmarks.gateway_processes proxy PORT ENGINE    a plain reverse proxy in a few lines
python -m benchmarks.gateway_processes gateway PORT ENGINE  our gateway as `brogue up` serves it, without the engine
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from data.home import Home
from data.settings import GatewaySettings
from serve.credentials import FRESH_S
from serve.engine import Engine
from serve.reconciler import PERIOD_S
from serve.serving import serve
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version

KEY = "the engine's key"
MODEL = "base"
ASSISTANT = "bench"
PERSONA = "You are the help desk of a shop for garden tools. Answer in two short, friendly sentences."


class ScriptedEngine:
    """Answers at a set pace, with as little work as Python allows; `POST /pace` sets it (seconds, tokens)."""

    def __init__(self) -> None:
        self.first_s, self.token_s, self.tokens = 0.0, 0.0, 64
        self.loaded = [MODEL]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = json.loads(await _whole_body(receive) or b"{}")
        path = scope["path"]
        if path in ("/v1/chat/completions", "/v1/completions"):
            await (self._stream if body.get("stream") else self._whole)(body, send)
            return
        if path == "/pace":
            self.first_s, self.token_s, self.tokens = body["first_s"], body["token_s"], body["tokens"]
        elif path == "/v1/load_lora_adapter":
            self.loaded.append(body["lora_name"])
        elif path == "/v1/unload_lora_adapter":
            self.loaded.remove(body["lora_name"])
        elif path not in ("/health", "/v1/models"):
            await _answer(send, b"{}", 404)
            return
        listed = [{"id": name, "object": "model", "parent": None if name == MODEL else MODEL} for name in self.loaded]
        await _answer(send, _json({"object": "list", "data": listed}))

    async def _stream(self, body: dict[str, Any], send: Send) -> None:
        tokens = min(body.get("max_tokens") or self.tokens, self.tokens)
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

        def event(delta: dict[str, str], reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return b"data: " + _json(head | {"choices": [choice]}) + b"\n\n"

        word = event({"content": " word"})
        await asyncio.sleep(self.first_s)
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _part(send, event({"role": "assistant", "content": ""}))
        for _ in range(tokens):
            if self.token_s:
                await asyncio.sleep(self.token_s)
            await _part(send, word)
        await _part(send, event({"content": ""}, "stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            await _part(send, b"data: " + _json(head | {"choices": [], "usage": _usage(tokens)}) + b"\n\n")
        await _part(send, b"data: [DONE]\n\n", more=False)

    async def _whole(self, body: dict[str, Any], send: Send) -> None:
        tokens = min(body.get("max_tokens") or self.tokens, self.tokens)
        await asyncio.sleep(self.first_s + tokens * self.token_s)
        message = {"role": "assistant", "content": " word" * tokens}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        await _answer(send, _json(head | {"choices": [choice], "usage": _usage(tokens)}))


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 40, "completion_tokens": tokens, "total_tokens": 40 + tokens}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def _whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _part(send: Send, content: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def _answer(send: Send, content: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _part(send, content, more=False)


def plain_proxy(engine: str) -> ASGIApp:
    """A reverse proxy as one writes it with Starlette and httpx: bytes in, bytes out, nothing looked at."""
    client = httpx.AsyncClient(base_url=engine, timeout=600, limits=httpx.Limits(max_connections=None))

    async def forward(request: Request) -> StreamingResponse:
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        asked = client.build_request(request.method, request.url.path, headers=headers, content=await request.body())
        reply = await client.send(asked, stream=True)
        kept = {name: reply.headers[name] for name in ("content-type", "content-length") if name in reply.headers}
        return StreamingResponse(reply.aiter_raw(), reply.status_code, kept, background=BackgroundTask(reply.aclose))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])], lifespan=lifespan)


class _EngineBehind(FakeEngine):
    """An engine in another process, met with the client that `brogue up` uses."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._engine = Engine([], {"VLLM_API_KEY": KEY}, Path(), int(url.rpartition(":")[2]))

    def client(self) -> httpx.AsyncClient:
        return self._engine.client()


def our_gateway(engine: str, home: Home) -> ASGIApp:
    """The whole gateway: store, records of every answer, an assistant with a persona and one with an adapter."""
    add_assistant(home, ASSISTANT, f"system_prompt: {PERSONA}\nsampling: {{temperature: 0.3}}\n")
    if not (home.adapters / "bench-voice").exists():
        add_version(home, "bench-voice")
    return FakeGateway(home, _EngineBehind(engine), fresh_s=FRESH_S, period_s=PERIOD_S).app


def main() -> None:
    """Serve one of them until SIGTERM."""
    what, port, *rest = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it once more; a profile must be written
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app: ASGIApp
    if what == "engine":
        app = ScriptedEngine()
    elif what == "proxy":
        app = plain_proxy(rest[0])
    else:
        app = our_gateway(rest[0], Home.from_environment())
    if what == "gateway":
        serve(app, GatewaySettings(port=int(port)))
    else:
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
