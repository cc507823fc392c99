"""One OpenTelemetry trace for each request: gateway, retrieval, engine. Without an endpoint nothing of it is imported.

A client's traceparent is taken up, and the engine gets ours, so that vLLM's own spans belong to the same trace. What
has something to tell calls `span` and `note_answer`; where no trace is on its way these do nothing.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_CURRENT: ContextVar["Tracing | None"] = ContextVar("brogue_tracing", default=None)  # while a trace is on its way
_BASE, _TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SERVICE = "brogue-gateway"
Attributes = Mapping[str, Any]


def traces_endpoint(configured: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Where traces go: what brogue.toml says, else OpenTelemetry's own variables; none: there are none."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if configured is None and (exact := environment.get(_TRACES)):
        return exact
    base = configured or environment.get(_BASE)
    return f"{base.rstrip('/')}/v1/traces" if base else None


def engine_args(endpoint: str | None) -> tuple[str, ...]:
    """What lets vLLM send its spans to the same place; how, stands in its environment (serve/engine.py)."""
    return ("--otlp-traces-endpoint", endpoint) if endpoint else ()


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """A part of the request's trace, if there is one."""
    tracing = _CURRENT.get()
    with nullcontext() if tracing is None else tracing.part(name, attributes):
        yield


def note_answer(asked: str, version: str, prompt_tokens: int, completion_tokens: int) -> None:
    """What became of the request, under OpenTelemetry's names for generative models."""
    tracing = _CURRENT.get()
    if tracing is not None:
        tracing.note({
            "gen_ai.operation.name": "chat", "gen_ai.request.model": asked, "gen_ai.response.model": version,
            "gen_ai.usage.input_tokens": prompt_tokens, "gen_ai.usage.output_tokens": completion_tokens,
        })  # fmt: skip


class Tracing:
    """Makes traces and sends them to `endpoint` in the background. `stop` sends what is left."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE)}
        self._provider = TracerProvider(resource=Resource.create(named))  # sampled as OTEL_TRACES_SAMPLER says
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("brogue")
        self._context = TraceContextTextMapPropagator()

    def stop(self) -> None:
        """Send what is left. May take seconds."""
        self._provider.shutdown()

    @contextmanager
    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator["Span"]:
        """A request's own span, in the client's trace if it came with one."""
        from opentelemetry.trace import SpanKind

        said = {"http.request.method": method, "url.path": path}
        context = self._context.extract(headers)
        token = _CURRENT.set(self)
        try:
            with self._tracer.start_as_current_span(f"{method} {path}", context, SpanKind.SERVER, said) as found:
                yield found
        finally:
            _CURRENT.reset(token)

    def note(self, attributes: Attributes) -> None:
        """Say something of the span that is going on."""
        from opentelemetry import trace

        trace.get_current_span().set_attributes(attributes)

    @contextmanager
    def part(self, name: str, attributes: Attributes) -> Iterator[None]:
        """A span inside the current one."""
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    def engine_span(self, request: httpx.Request) -> "Span":
        """The engine's part of the trace, whose id the request carries from now on. For whoever ends it."""
        from opentelemetry import trace

        said = {"http.request.method": request.method, "url.path": request.url.path}
        begun = self._tracer.start_span("engine", kind=trace.SpanKind.CLIENT, attributes=said)
        carried: dict[str, str] = {}
        self._context.inject(carried, trace.set_span_in_context(begun))
        request.headers.update(carried)
        return begun


class TracedTransport(httpx.AsyncBaseTransport):
    """Requests to an engine as spans, from the first byte sent to the last one read."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        tracing = _CURRENT.get()
        if tracing is None:  # not for a client: a probe, a health check
            return await self._transport.handle_async_request(request)
        begun = tracing.engine_span(request)
        try:
            reply = await self._transport.handle_async_request(request)
        except BaseException as error:
            _failed(begun, type(error).__name__)
            begun.end()
            raise
        begun.set_attribute("http.response.status_code", reply.status_code)
        if reply.status_code >= 500:
            _failed(begun, str(reply.status_code))
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        return httpx.Response(
            reply.status_code, headers=reply.headers, stream=_Traced(reply.stream, begun), extensions=reply.extensions
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Traced(httpx.AsyncByteStream):
    """Ends the span when the reply is done with, and notes when its first piece came."""

    def __init__(self, stream: httpx.AsyncByteStream, begun: "Span") -> None:
        self._stream = stream
        self._begun = begun

    async def __aiter__(self) -> AsyncIterator[bytes]:
        first = True
        try:
            async for piece in self._stream:
                if first:
                    self._begun.add_event("first byte")
                    first = False
                yield piece
        except httpx.HTTPError as error:
            _failed(self._begun, type(error).__name__)
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._begun.end()


def _failed(begun: "Span", reason: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    begun.set_status(Status(StatusCode.ERROR, reason))
