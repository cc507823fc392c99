"""A load on one endpoint, as cheap as Python allows, so that what is measured is not the client.

    python -m benchmarks.gateway_load JSON      with the fields of `Order`

Each of `streams` clients holds one connection and asks again as soon as it has its answer, until the time is up.
Prints a JSON object: seconds to the first event and to the last byte of each answer that began when all clients had
begun, how many answers there were in all, and how many failed.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

LONGEST_S = 120  # an answer that takes longer has failed


@dataclass(frozen=True)
class Order:
    """What to send, and for how long."""

    url: str
    model: str
    key: str
    streams: int  # clients at once
    seconds: float
    stream: bool = True
    max_tokens: int = 64
    ramp_s: float = 0.0  # the clients begin evenly spread over this time
    extra: dict[str, object] = field(default_factory=dict)

    def request(self) -> bytes:
        """The bytes of one request."""
        parts = urlsplit(self.url)
        asked = [{"role": "user", "content": "When does the shop open on Saturday, and do you sell seeds?"}]
        body = {"model": self.model, "messages": asked, "max_tokens": self.max_tokens, "stream": self.stream}
        content = json.dumps(body | self.extra).encode()
        head = (
            f"POST {parts.path}/v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json"
            f"\r\nAuthorization: Bearer {self.key}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


class _Client(asyncio.Protocol):
    """One connection: notes when an answer's head, first event and last byte came."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[bool] | None = None
        self.first = 0.0
        self._head: bytearray | None = None
        self._tail = b""
        self._status_ok = False
        self._chunked = False
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes) -> "asyncio.Future[bool]":
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._head, self._tail, self.first = bytearray(), b"", 0.0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._read_head(bytes(head))
            self._head, data = None, bytes(rest)
        if data and not self.first:
            self.first = time.perf_counter()
        if self._chunked:
            self._tail = (self._tail + data)[-5:]
            if self._tail == b"0\r\n\r\n":  # an event's own chunk never ends so
                self._end(self._status_ok)
        else:
            self._left -= len(data)
            if self._left <= 0:
                self._end(self._status_ok)

    def _read_head(self, head: bytes) -> None:
        lower = head.lower()
        self._status_ok = b" 200 " in head[:16]
        self._chunked = b"transfer-encoding: chunked" in lower
        if not self._chunked:
            self._left = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._end(False)

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end(self, good: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(good)


async def run(order: Order) -> dict[str, object]:
    """Send the load."""
    request, parts = order.request(), urlsplit(order.url)
    first: list[float] = []
    whole: list[float] = []
    failed = done = 0
    began = time.perf_counter()
    stop = began + order.ramp_s + order.seconds

    async def one(number: int) -> None:
        nonlocal failed, done
        loop = asyncio.get_running_loop()
        await asyncio.sleep(order.ramp_s * number / order.streams)
        client: _Client | None = None
        while time.perf_counter() < stop:
            if client is None or not client.is_open:
                _, client = await loop.create_connection(_Client, parts.hostname, parts.port)
            asked = time.perf_counter()
            try:
                good = await asyncio.wait_for(client.ask(request), LONGEST_S)
            except TimeoutError:
                good = False
                client.close()
            done += good
            if not good:
                failed += 1
                await asyncio.sleep(0.05)
            elif asked >= began + order.ramp_s:
                first.append(client.first - asked)
                whole.append(time.perf_counter() - asked)
        if client is not None:
            client.close()

    await asyncio.gather(*(one(number) for number in range(order.streams)))
    elapsed = time.perf_counter() - began - order.ramp_s
    return {"first_s": first, "whole_s": whole, "done": done, "failed": failed, "elapsed_s": elapsed}


def main() -> None:
    """Run the order given as JSON."""
    order = Order(**json.loads(sys.argv[1]))
    print(json.dumps(uvloop.run(run(order))))


if __name__ == "__main__":
    main()
