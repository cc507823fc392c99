"""Requests to an engine over real connections, as httpx's client sees them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from serve.engine import free_port
from serve.engine_transport import EngineTransport

Handle = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@asynccontextmanager
async def engine(handle: Handle, keep_alive_s: float = 5) -> Any:
    """(client, connections so far): a server on a port of its own that lets `handle` answer each request's bytes."""
    connections: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append("one")
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head.lower())
                body = await reader.readexactly(int(length[1]) if length else 0)
                await handle(head + body, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    headers = {"Authorization": "Bearer key"}
    async with httpx.AsyncClient(base_url=url, transport=EngineTransport(keep_alive_s), headers=headers) as client:
        yield client, connections
    server.close()


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.send(client.build_request("POST", "/v1/chat/completions", json={"a": "ü"}), stream=True)


def test_a_request_arrives_as_it_was_built_and_its_answer_as_it_was_sent() -> None:
    seen = []

    async def handle(request: bytes, _reader: Any, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(b"HTTP/1.1 404 Not Found\r\nx-it: yes\r\ncontent-length: 2\r\n\r\nno")

    async def run() -> httpx.Response:
        async with engine(handle) as (client, _):
            return await client.post("/v1/chat/completions", json={"a": "ü"})

    reply = asyncio.run(run())
    assert (reply.status_code, reply.headers["x-it"], reply.text) == (404, "yes", "no")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"authorization: bearer key" in head.lower()
    assert body == '{"a":"ü"}'.encode()


def test_a_stream_comes_piece_by_piece_while_it_is_written() -> None:
    go_on = asyncio.Event()

    async def handle(_request: bytes, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async def run() -> list[bytes]:
        async with engine(handle) as (client, _):
            reply = await ask(client)
            pieces = []
            async for piece in reply.aiter_raw():
                pieces.append(piece)
                go_on.set()
            await reply.aclose()
            return pieces

    assert asyncio.run(run()) == [b"data: 1\n\n", b"data: 2\n\n"]


def test_connections_are_used_again_and_there_are_as_many_as_answers_at_once() -> None:
    async def handle(_request: bytes, _reader: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(WHOLE)

    async def run() -> tuple[int, int]:
        async with engine(handle) as (client, connections):
            await asyncio.gather(*(client.get("/health") for _ in range(150)))
            at_once = len(connections)
            await asyncio.gather(*(client.get("/health") for _ in range(150)))
            return at_once, len(connections)

    assert asyncio.run(run()) == (150, 150), "aiohttp would hold back all above 100"


def test_an_answer_that_is_not_read_to_its_end_closes_the_connection_so_that_the_engine_stops() -> None:
    gone = asyncio.Event()

    async def handle(_request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"data: 1\n\n"))
        assert await reader.read(1) == b""
        gone.set()

    async def run() -> None:
        async with engine(handle) as (client, _):
            reply = await ask(client)
            async for _piece in reply.aiter_raw():
                break
            await reply.aclose()
            await asyncio.wait_for(gone.wait(), 30)

    asyncio.run(run())


def test_a_cancelled_request_closes_the_connection() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handle(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        assert await reader.read(1) == b""
        gone.set()

    async def run() -> None:
        async with engine(handle) as (client, _):
            asked = asyncio.create_task(ask(client))
            await asyncio.wait_for(arrived.wait(), 30)
            asked.cancel()
            await asyncio.wait_for(gone.wait(), 30)

    asyncio.run(run())


def test_an_engine_that_is_not_there_is_a_connect_error() -> None:
    async def run() -> None:
        async with httpx.AsyncClient(transport=EngineTransport(1)) as client:
            await client.get(f"http://127.0.0.1:{free_port()}/health")

    with pytest.raises(httpx.ConnectError):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (b"", httpx.ReadError),  # it died before it answered
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (HEAD + chunk(b"data: 1\n\n"), httpx.RemoteProtocolError),  # it died in the middle
    ],
)
def test_an_engine_that_breaks_off_is_one_of_httpxs_errors(written: bytes, error: type[Exception]) -> None:
    async def handle(_request: bytes, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(written)
        raise ConnectionError

    async def run() -> None:
        async with engine(handle) as (client, _):
            reply = await ask(client)
            await reply.aread()

    with pytest.raises(error):
        asyncio.run(run())


def test_an_engine_that_says_nothing_for_too_long_is_a_read_timeout() -> None:
    async def handle(_request: bytes, _reader: Any, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        async with engine(handle) as (client, _):
            await client.get("/health", timeout=0.1)

    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(run())


def test_the_same_client_works_in_one_event_loop_after_another() -> None:
    async def handle(_request: bytes, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)

    transport = EngineTransport(5)

    async def run() -> str:
        async with engine(handle) as (client, _):
            request = client.build_request("GET", "/health")
            reply = await transport.handle_async_request(request)
            text = (await reply.aread()).decode()
            await transport.aclose()
            return text

    assert [asyncio.run(run()), asyncio.run(run())] == ["hi", "hi"]
