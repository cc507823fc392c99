"""The way to the engine: httpx's behaviour and errors, on other connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from serve.transport import EngineTransport

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@asynccontextmanager
async def engine(handle: Handler) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that does `handle` with each connection, after it has read the request's head."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = EngineTransport(2)
    async with server, httpx.AsyncClient(transport=transport, base_url=url, timeout=httpx.Timeout(5)) as client:
        yield client


async def whole(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"x-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    await writer.drain()


def test_a_stream_comes_in_pieces_and_whole() -> None:
    async def ask() -> None:
        async with engine(whole) as client:
            request = client.build_request("POST", "/v1/x", content=b"{}", headers={"content-type": "application/json"})
            reply = await client.send(request, stream=True)
            assert (reply.status_code, reply.headers.get_list("x-a")) == (200, ["1", "2"])
            assert b"".join([piece async for piece in reply.aiter_raw()]) == b"abcdefg"
            await reply.aclose()
            assert (await client.get("/")).text == "abcdefg"

    asyncio.run(ask())


async def breaks(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await writer.drain()


async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def sleeps(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("handle", "error"), [(breaks, httpx.ReadError), (hangs_up, httpx.ReadError), (sleeps, httpx.ReadTimeout)]
)
def test_what_goes_wrong_is_httpxs_error(handle: Handler, error: type[Exception]) -> None:
    async def ask() -> None:
        async with engine(handle) as client:
            with pytest.raises(error):
                await client.post("/", content=b"{}", timeout=0.2)

    asyncio.run(ask())


def test_nobody_there_is_a_connect_error() -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(transport=EngineTransport(2), base_url="http://127.0.0.1:9") as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/")

    asyncio.run(ask())


@pytest.mark.parametrize("begun", [False, True])
def test_who_gives_up_takes_the_connection_along(begun: bool) -> None:
    async def ask() -> None:
        gone = asyncio.Event()

        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if begun:
                await breaks(reader, writer)
            await reader.read()  # until the other side closes
            gone.set()

        async with engine(waits) as client:
            request = client.build_request("GET", "/")
            if begun:
                reply = await client.send(request, stream=True)
                await anext(reply.aiter_raw())
                await reply.aclose()
            else:
                task = asyncio.create_task(client.send(request, stream=True))
                await asyncio.sleep(0.1)
                task.cancel()
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(ask())
