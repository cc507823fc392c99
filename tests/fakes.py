"""Stand-ins for unit tests: an engine that speaks vLLM's HTTP shape in process, and a character tokenizer."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from adapters.registry import CARD, AdapterCard, Registry, file_hashes
from data.home import Home, write_json, write_text


class FakeEngine:
    """Answers with the JSON of what it was sent; remembers loaded adapters. `break_after` cuts a stream off."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.loads = 0
        self.bodies: list[dict[str, Any]] = []
        self.break_after: int | None = None
        self.app = FastAPI()
        self.app.get("/health")(lambda: {})
        self.app.post("/v1/load_lora_adapter")(self._load)
        self.app.post("/v1/chat/completions")(self._chat)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=_StreamingTransport(self), base_url="http://engine")

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        self.loads += 1
        if body["lora_name"] in self.loaded:
            return JSONResponse({"error": {"message": "already been loaded"}}, 400)
        self.loaded[body["lora_name"]] = body["lora_path"]
        return Response("Success")

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if body["model"] != "base" and body["model"] not in self.loaded:
            return JSONResponse({"error": {"message": "unknown to the engine", "code": 404}}, 404)
        text = f"answered by {body['model'].split('-')[0]}"
        if body.get("stream"):
            return StreamingResponse(self._events(body["model"], text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return Response(
            json.dumps({"id": "x", "model": body["model"], "choices": [choice]}, separators=(",", ":")),
            media_type="application/json",
        )

    async def _events(self, model: str, text: str) -> AsyncIterator[bytes]:
        for number, word in enumerate(text.split(" ")):
            if number == self.break_after:
                raise httpx.ReadError("connection lost")
            event = {"id": "x", "model": model, "choices": [{"index": 0, "delta": {"content": word}}]}
            yield b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
            await asyncio.sleep(0)
        yield b"data: [DONE]\n\n"


class _StreamingTransport(httpx.AsyncBaseTransport):
    """In-process transport that lets a stream break half way, which httpx's own ASGI transport cannot do."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._whole = httpx.ASGITransport(engine.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"{}")
        if body.get("stream"):
            self._engine.bodies.append(body)
            events = self._engine._events(body["model"], f"answered by {body['model'].split('-')[0]}")
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Stream(events))
        return await self._whole.handle_async_request(request)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event


class CharTokenizer:
    """One id a character; a template with or without a system turn."""

    eos_token = "$"
    chat_template = "fake"

    def apply_chat_template(
        self, messages: Sequence[dict[str, Any]], tokenize: bool = True, add_generation_prompt: bool = False, **_: Any
    ) -> Any:
        text = "".join(f"<{m['role'][0]}>{m['content'].strip()}$\n" for m in messages)
        text += "<a>" if add_generation_prompt else ""
        return [ord(c) for c in text] if tokenize else text

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}


def add_version(home: Home, adapter: str, base: str = "sha", rank: int = 8, content: str = "weights") -> AdapterCard:
    """A version without weights that could be used, in the registry."""
    with Registry(home).new_version(adapter) as (version, folder):
        (folder / "adapter_model.safetensors").write_text(f"{content} {version}")
        card = AdapterCard(
            adapter=adapter, version=version, base_model="base", base_sha256=base, dataset="d", dataset_digest="0",
            recipe="sft", method="lora", rank=rank, config={}, system_prompt="Trained so.", parent=None, scores={},
            minutes=1, created="2026-11-21", files=file_hashes(folder),
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def add_assistant(home: Home, name: str, text: str) -> Path:
    """An assistant's file."""
    path = home.assistants / f"{name}.yaml"
    write_text(path, f"name: {name}\n{text}")
    return path
