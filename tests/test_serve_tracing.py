"""Traces as an OpenTelemetry collector receives them: over HTTP, one for each request, with the engine in it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from data.home import Home
from serve.tracing import Tracing, engine_args, span, traces_endpoint
from serve.watching import Telemetry
from tests.conftest import ROOT
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Receives OTLP over HTTP on a port of its own."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                content = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(content))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, sent: ExportTraceServiceRequest) -> None:
        for resource in sent.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [one for scope in resource.scope_spans for one in scope.spans]

    def named(self, name: str) -> Any:
        found = [one for one in self.spans if one.name == name]
        assert len(found) == 1, [one.name for one in self.spans]
        return found[0]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    threading.Thread(target=collector.server.serve_forever, daemon=True).start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


class NotingEngine(FakeEngine):
    """Keeps what questions' headers said of the trace."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.traceparents: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/chat/completions" and b'"Hi"' in request.content:
            self.traceparents.append(request.headers.get("traceparent"))
        return await super().handle_async_request(request)


def ask(home: Home, tracing: Tracing | None, *headers: dict[str, str], **more: Any) -> NotingEngine:
    """One question for each of `headers`, to reed; all is sent to the collector when the gateway has stopped."""
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nexamples: [{user: Ho, assistant: Hum}]")
    engine = NotingEngine()

    async def run() -> None:
        async with FakeGateway(home, engine, telemetry=Telemetry(tracing)).running() as client:
            for one in headers:
                body = {"model": "reed", "messages": QUESTION, **more}
                await client.post("/v1/chat/completions", json=body, headers=one)
            await client.get("/metrics")

    asyncio.run(run())
    return engine


def attributes(one: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in one.attributes}


@pytest.mark.parametrize("stream", [False, True])
def test_a_clients_trace_goes_through_gateway_and_retrieval_to_the_engine(
    home: Home, collector: Collector, stream: bool
) -> None:
    tracing = Tracing(f"{collector.url}/v1/traces")
    engine = ask(home, tracing, {"traceparent": f"00-{TRACE}-{PARENT}-01"}, stream=stream)
    ours, looked, asked = (collector.named(n) for n in ("POST /v1/chat/completions", "retrieval", "engine"))
    assert {one.trace_id.hex() for one in (ours, looked, asked)} == {TRACE}
    assert (ours.parent_span_id.hex(), looked.parent_span_id, asked.parent_span_id) == (
        PARENT, ours.span_id, ours.span_id,
    )  # fmt: skip
    assert engine.traceparents == [f"00-{TRACE}-{asked.span_id.hex()}-01"], "vLLM's spans belong to the engine's"
    said = attributes(ours)
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("reed", "reed-voice@1")
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (7, 2)
    assert (said["http.response.status_code"], said["brogue.version"]) == (200, "reed-voice@1")
    assert said["brogue.overhead_ms"] >= 0
    assert ours.start_time_unix_nano <= looked.start_time_unix_nano <= asked.start_time_unix_nano
    assert asked.end_time_unix_nano <= ours.end_time_unix_nano
    assert collector.services == {"brogue-gateway"}


def test_without_a_clients_trace_each_request_begins_its_own(home: Home, collector: Collector) -> None:
    ask(home, Tracing(f"{collector.url}/v1/traces"), {}, {"traceparent": "nonsense"})
    roots = [one for one in collector.spans if one.name == "POST /v1/chat/completions"]
    assert len({one.trace_id for one in roots}) == 2
    assert not any(one.parent_span_id for one in roots)
    assert not [one for one in collector.spans if "metrics" in one.name], "machines that look in are not traced"


def test_a_trace_that_the_client_does_not_sample_is_passed_on_and_not_sent(home: Home, collector: Collector) -> None:
    engine = ask(home, Tracing(f"{collector.url}/v1/traces"), {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert not collector.spans
    assert (engine.traceparents[0] or "").startswith(f"00-{TRACE}-") and (engine.traceparents[0] or "").endswith("-00")


def test_an_engine_that_breaks_shows_as_an_error_in_the_trace(home: Home, collector: Collector) -> None:
    add_version(home, "reed-voice")
    engine = NotingEngine()

    async def run() -> None:
        tracing = Tracing(f"{collector.url}/v1/traces")
        async with FakeGateway(home, engine, telemetry=Telemetry(tracing)).running() as client:
            await client.post("/v1/chat/completions", json={"model": "base", "messages": QUESTION})
            engine.mute.add("reed-voice@1")
            engine.break_after = 0
            body = {"model": "base", "messages": QUESTION, "stream": True}
            assert "error" in (await client.post("/v1/chat/completions", json=body)).text

    asyncio.run(run())
    codes = sorted(one.status.code for one in collector.spans if one.name == "engine")
    assert codes == [0, 2]


def test_a_collector_that_is_away_costs_nobody_an_answer(home: Home) -> None:
    engine = ask(home, Tracing("http://127.0.0.1:9/v1/traces"), {})
    assert engine.traceparents[0]


def test_without_an_endpoint_nothing_is_traced_and_nothing_imported(home: Home) -> None:
    engine = ask(home, None, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert engine.traceparents == [None]
    with span("anything"):
        pass
    code = (
        "import sys; import serve.gateway, serve.watching; from serve.tracing import span\n"
        "with span('x'): pass\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("configured", "environment", "endpoint"),
    [
        (None, {}, None),
        ("http://a:4318", {}, "http://a:4318/v1/traces"),
        ("http://a:4318/", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"}, "http://a:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"}, "http://b:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/in"}, "http://c/in"),
        ("http://a:4318", {"OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_the_endpoint_is_brogue_tomls_or_opentelemetrys_own_variable(
    configured: str | None, environment: dict[str, str], endpoint: str | None
) -> None:
    assert traces_endpoint(configured, environment) == endpoint


def test_vllm_sends_its_spans_to_the_same_place() -> None:
    assert engine_args("http://a:4318/v1/traces") == ("--otlp-traces-endpoint", "http://a:4318/v1/traces")
    assert engine_args(None) == ()
