"""Connections to the gateway: how long and how large a request's head may be, and how many connections there are.

uvicorn waits for a head as long as it takes and keeps whatever comes; here a client that sends too slowly or too much
is cut off before anything is done for it.
"""

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from data.settings import GatewaySettings
from serve.openai_errors import ApiError

HEAD = 64 * 1024  # bytes of the request's line and its headers, the trailers of a body among them
HEADERS = 200


class Connection(HttpToolsProtocol):
    """One connection. `patience_s`: for a request's head, from its first byte or the connection's start; and for a
    client to take what is written, whenever no more can be."""

    def __init__(self, *args: Any, patience_s: float, most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience_s = patience_s
        self._most = most
        self._is_head_open = False
        self._head = self._number = 0  # bytes and headers of the head so far
        self._pending = 0  # bytes that came while the head was not whole
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._refuse(ApiError(503, "too many connections; try again", code="too_many_connections"), 503)
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:  # closing would wait until all is taken
            self._writing = self.loop.call_later(self._patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_writing()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_head_open:
            self._pending += len(data)
            if self._pending > HEAD:
                self._refuse(_too_large(), 431)
                return
        if self._is_head_open or self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def on_message_begin(self) -> None:
        self._is_head_open = True
        self._head = self._number = self._pending = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._number += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_head_open = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP, or goes beyond a limit here, is answered in OpenAI's shape, and that is all."""
        error = _too_large() if self._is_too_large else ApiError(400, msg, code="invalid_http")
        self._refuse(error, error.status)

    @property
    def _is_too_large(self) -> bool:
        return self._head > HEAD or self._number > HEADERS

    def _count(self, more: int) -> None:
        self._head += more
        if self._is_too_large:
            raise ValueError("the head is too large")  # the parser stops, and send_400_response is called

    def _refuse(self, error: ApiError, status: int) -> None:
        reply = error.response()
        lines = [f"HTTP/1.1 {status} ", *(f"{name}: {value}" for name, value in reply.headers.items())]
        head = "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")
        self.transport.write(head + bytes(reply.body))
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._patience_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _too_large() -> ApiError:
    message = f"the request's line and headers have more than {HEAD // 1024} KiB or {HEADERS} headers; send less"
    return ApiError(431, message, code="headers_too_large")


def connection(settings: GatewaySettings) -> Any:
    """What uvicorn is to make for each connection, as its option `http`."""
    return partial(Connection, patience_s=settings.slow_client_s, most=settings.max_connections)
