"""The OpenAI-compatible door: assistants, adapters and the base model by name, in front of one vLLM engine.

`build_app(pool, catalogue, …)` gets everything handed in. The gateway knows nothing of personas: the catalogue turns
the name that a client asks for, and its messages, into what the engine is to see.
"""

import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from data.errors import BrogueError, UnknownName
from serve.openai_errors import ApiError, engine_down
from serve.pool import AdapterPool

_LOG = logging.getLogger("brogue.gateway")
ENGINE_TIMEOUT = httpx.Timeout(600, connect=5)  # seconds; a long queue before the first token is not a failure


@dataclass(frozen=True)
class Prepared:
    """What the engine is to see of a request."""

    adapter: str | None  # a reference such as "reed-voice@stable"; none: the base model
    body: dict[str, Any]


class Catalogue(Protocol):
    """What clients may name as `model`, and what that means."""

    def models(self) -> list[dict[str, Any]]:
        """OpenAI model objects, in the order to be listed."""

    def prepare(self, body: dict[str, Any]) -> Prepared:
        """The request as the engine is to see it. Raises `UnknownName` for a model that is not there."""


def build_app(pool: AdapterPool, catalogue: Catalogue, why_down: Callable[[], str | None]) -> FastAPI:
    """The gateway as an ASGI application. `why_down` gives the reason when the engine is known to be down."""
    # Interactive docs would load scripts from a CDN; the schema itself stays at /openapi.json.
    app = FastAPI(title="Brogue gateway", docs_url=None, redoc_url=None)
    relay = _Relay(pool, why_down)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The gateway itself is alive."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """The engine answers."""
        reason = await relay.reason_not_ready()
        return JSONResponse({"status": "ready"}) if reason is None else engine_down(reason).response()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Assistants, then adapters by alias and version, then the base model."""
        return {"object": "list", "data": catalogue.models()}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model of the list."""
        for entry in catalogue.models():
            if entry["id"] == name:
                return entry
        raise ApiError(404, f"no model '{name}'; see /v1/models", code="model_not_found", param="model")

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        """OpenAI's chat completions, plain and streaming; what vLLM understands passes through."""
        began = time.perf_counter()
        body = _parse(await request.body())
        try:
            prepared = catalogue.prepare(body)
            return await relay.send("/v1/chat/completions", prepared, str(body["model"]), began)
        except UnknownName as error:
            raise ApiError(404, str(error), code="model_not_found", param="model") from error
        except BrogueError as error:
            raise ApiError(503, str(error), code="adapter_unavailable", param="model") from error

    _answer_errors_in_openai_shape(app)
    return app


def _parse(raw: bytes) -> dict[str, Any]:
    """The request's JSON, with the two fields that everything below relies on."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise ApiError(400, "wanted 'model': the name of an assistant; see /v1/models", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ApiError(400, "wanted 'messages': a list of at least one {role, content} object", param="messages")
    return body


class _Relay:
    """Sends prepared requests to the engine and its answers back."""

    def __init__(self, pool: AdapterPool, why_down: Callable[[], str | None]) -> None:
        self._pool = pool
        self._why_down = why_down

    async def reason_not_ready(self) -> str | None:
        """Why the engine cannot answer, or none if it can."""
        if (reason := self._why_down()) is not None:
            return reason
        try:
            reply = await self._pool.client.get("/health", timeout=5)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if reply.status_code == 200 else f"its health check says {reply.status_code}"

    async def send(self, path: str, prepared: Prepared, asked_name: str, began: float) -> Response:
        """The engine's answer, with the asked name put in the place of the engine's own."""
        version, engine_name = "base", self._pool.base_name
        try:
            if prepared.adapter is not None:
                card = self._pool.registry.resolve(prepared.adapter)
                version, engine_name = card.name, await self._pool.engine_name(card)
            headers = {"x-brogue-response-id": f"resp-{uuid.uuid4().hex}", "x-brogue-version": version}
            request = self._pool.client.build_request("POST", path, json=prepared.body | {"model": engine_name})
            headers["x-brogue-overhead-ms"] = f"{(time.perf_counter() - began) * 1000:.2f}"
            reply = await self._pool.client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._down(error) from error
        rename = _renamer(engine_name, asked_name)
        if reply.status_code == 200 and prepared.body.get("stream"):
            events = self._events(reply, rename)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        try:
            content = rename(await reply.aread())
        except httpx.HTTPError as error:
            raise self._down(error) from error
        finally:
            await reply.aclose()
        return Response(content, reply.status_code, headers, reply.headers.get("content-type"))

    async def _events(self, reply: httpx.Response, rename: Callable[[bytes], bytes]) -> AsyncIterator[bytes]:
        """The engine's events as they come; a broken connection ends in an error event, never in silence."""
        try:
            rest = b""
            async for block in reply.aiter_bytes():
                complete, separator, rest = (rest + block).rpartition(b"\n\n")
                if separator:
                    yield rename(complete + separator)
            if rest:
                yield rename(rest)
        except httpx.HTTPError as error:
            yield self._down(error).event()
        finally:
            await reply.aclose()  # also when the client has gone: the engine then stops generating

    def _down(self, error: httpx.HTTPError) -> ApiError:
        return engine_down(self._why_down() or f"the connection broke ({type(error).__name__}); try again in a minute")


def _renamer(engine_name: str, asked_name: str) -> Callable[[bytes], bytes]:
    """Replaces the value of JSON's "model" field. Quotes inside strings are escaped, so no answer's text can match."""
    ours, theirs = json.dumps(engine_name).encode(), json.dumps(asked_name).encode()
    return lambda content: content.replace(b'"model":' + ours, b'"model":' + theirs)


def _answer_errors_in_openai_shape(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response()

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> JSONResponse:
        incident = uuid.uuid4().hex[:8]  # the server logs the traceback, the client gets an id to quote
        _LOG.error("incident %s", incident)
        return ApiError(500, f"something broke in the gateway; incident {incident} in its log").response()
