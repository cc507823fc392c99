"""Clients that go away in the middle of a request are no bugs of the gateway's."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from data.home import Home
from serve.hangups import HangUps
from tests.fakes import FakeGateway

UVLOOP = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


async def nothing() -> Message:
    return {"type": "http.disconnect"}


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize(("said", "passes"), [(UVLOOP, True), ("Response content longer than Content-Length", False)])
def test_what_is_sent_over_a_closed_connection_is_dropped_and_other_errors_are_told(said: str, passes: bool) -> None:
    async def send(_message: Message) -> None:
        raise RuntimeError(said)

    def ask() -> None:
        asyncio.run(HangUps(answer)({"type": "http"}, nothing, send))

    if passes:
        ask()
        return
    with pytest.raises(RuntimeError, match="longer"):
        ask()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
def test_a_client_that_leaves_before_its_body_has_come_is_no_incident(
    home: Home, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"99"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    with caplog.at_level(logging.ERROR):
        asyncio.run(FakeGateway(home).app(scope, nothing, send))
    assert not caplog.records
    assert all(message.get("status", 499) in (400, 499) for message in sent), sent
