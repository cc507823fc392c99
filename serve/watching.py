"""What watches every request from outside: counts errors, begins its trace and its clock, logs it if that is wanted."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.logs import TRACE
from serve.metrics import Metrics
from serve.timing import timing_of
from serve.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_LOG = logging.getLogger("brogue.requests")
UNTRACED = ("/health", "/ready", "/metrics")  # asked for every few seconds by machines
_TOLD = ("x-brogue-version", "x-brogue-response-id", "x-brogue-overhead-ms")


@dataclass(frozen=True)
class Telemetry:
    """Who is told: none of it by default."""

    tracing: Tracing | None = None
    log_requests: bool = False


class Watching:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics, telemetry: Telemetry) -> None:
        self._app = app
        self._metrics = metrics
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        timing_of(scope)  # its clock begins
        tracing, path = self._telemetry.tracing, scope["path"]
        if tracing is None or path.startswith(UNTRACED):
            await self._watch(scope, receive, send, None)
            return
        with tracing.request(scope["method"], path, Headers(scope=scope)) as span:
            token = TRACE.set(f"{span.get_span_context().trace_id:032x}")
            try:
                await self._watch(scope, receive, send, span)
            finally:
                TRACE.reset(token)

    async def _watch(self, scope: Scope, receive: Receive, send: Send, span: "Span | None") -> None:
        told = {"status": 500}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                if span is not None:
                    _note_answer(span, message)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            status, route = told["status"], getattr(scope.get("route"), "path_format", "")
            if status >= 400:
                self._metrics.error(status, route)
            if span is not None and route:
                span.update_name(f"{scope['method']} {route}")
            if self._telemetry.log_requests:
                _log(scope, status, time.perf_counter() - timing_of(scope).arrived)


def _note_answer(span: "Span", message: Message) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("http.response.status_code", message["status"])
    if message["status"] >= 500:
        span.set_status(Status(StatusCode.ERROR))
    headers = Headers(raw=message["headers"])
    for name in _TOLD:
        if (value := headers.get(name)) is not None:
            said: Any = float(value) if name.endswith("-ms") else value
            span.set_attribute(name.removeprefix("x-").replace("-", ".", 1).replace("-", "_"), said)


def _log(scope: Scope, status: int, seconds: float) -> None:
    said = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(seconds * 1000, 1)}
    _LOG.info("%(method)s %(path)s %(status)s %(ms)s ms", said, extra=said)
