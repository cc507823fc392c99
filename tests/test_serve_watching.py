"""What watches the gateway's requests: errors counted, requests logged, the engine's metrics passed on."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from data.home import Home
from data.log_secrets import NoSecrets
from serve.logs import JsonFormatter
from serve.watching import Telemetry
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version

QUESTION = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def gateway(home: Home) -> FakeGateway:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice")
    return FakeGateway(home, telemetry=Telemetry(log_requests=True), max_wait_s=0.3)


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[TestClient]:
    with TestClient(gateway.app, raise_server_exceptions=False) as client:
        yield client


def errors(client: TestClient) -> dict[tuple[str, str], float]:
    """How often each path answered with each error."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == "brogue_errors_total"]
    return {(s.labels["route"], s.labels["status"]): s.value for s in samples}


def test_errors_are_counted_by_status_and_path_also_those_that_no_model_saw(client: TestClient) -> None:
    client.post("/v1/chat/completions", json={"model": "nobody", "messages": QUESTION})
    client.post("/v1/chat/completions", json={})
    client.get("/v1/models/nobody")
    for name in ("one", "two"):
        client.get(f"/made-up/{name}")
    client.post("/v1/chat/completions", json={"model": "reed", "messages": QUESTION})
    assert errors(client) == {
        ("/v1/chat/completions", "404"): 1,
        ("/v1/chat/completions", "400"): 1,
        ("/v1/models/{name}", "404"): 1,
        ("", "404"): 2,  # a client cannot make up labels
    }


def test_each_request_is_a_line_in_the_log_if_that_is_wanted(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "brogue.requests"):
        client.post("/v1/chat/completions?q=private", json={"model": "reed", "messages": QUESTION})
    told = [r for r in caplog.records if r.name == "brogue.requests"]
    line = json.loads(JsonFormatter(NoSecrets()).format(told[0]))
    assert (len(told), line["method"], line["path"], line["status"]) == (1, "POST", "/v1/chat/completions", 200)
    assert line["ms"] > 0
    assert "private" not in json.dumps(line), "a query may hold anything"


def test_requests_are_not_logged_unless_that_is_wanted(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "brogue.requests"), TestClient(FakeGateway(home).app) as client:
        client.get("/v1/models")
    assert not [r for r in caplog.records if r.name == "brogue.requests"]


def test_a_stream_is_measured_from_the_request_to_its_last_token(client: TestClient) -> None:
    client.post("/v1/chat/completions", json={"model": "reed", "messages": QUESTION, "stream": True})
    text = client.get("/metrics").text
    for name in ("time_to_first_token", "time_per_output_token", "longest_gap", "overhead", "wait"):
        line = f'brogue_{name}_seconds_count{{assistant="reed",key="",version="reed-voice@1"}} 1.0'
        assert line in text, name


def test_how_many_answers_are_being_written_shows_while_they_are(home: Home) -> None:
    async def run() -> str:
        engine, text = FakeEngine(words=1, pause_s=0.01), ""
        async with FakeGateway(home, engine).running() as client:
            body = {"model": "base", "messages": QUESTION}
            await client.post("/v1/chat/completions", json=body)
            engine.pause_s = 60
            asked = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(3)]
            async with asyncio.timeout(50):
                while "brogue_answers_in_flight 3.0" not in text:
                    await asyncio.sleep(0.02)
                    text = (await client.get("/metrics")).text
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            return (await client.get("/metrics")).text

    assert "brogue_answers_in_flight 0.0" in asyncio.run(run())


def test_the_engines_own_metrics_are_read_through_the_gateway(client: TestClient, gateway: FakeGateway) -> None:
    reply = client.get("/metrics/engine")
    assert (reply.status_code, reply.text) == (200, "vllm:num_requests_running 3.0\n")
    gateway.engine.kill()
    reply = client.get("/metrics/engine")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_unavailable")
    assert client.get("/metrics").status_code == 200, "ours can be read while the engine is away"
