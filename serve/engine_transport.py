"""How requests travel to an engine: httpx's client on aiohttp's connections.

httpx's own transport looks through all connections for each request, and takes a stream apart in Python: at 200 streams
it was most of what the gateway cost (docs/gateway-speed.md). Whoever uses the client sees nothing but httpx.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from yarl import URL


class EngineTransport(httpx.AsyncBaseTransport):
    """As many connections as there are requests; an idle one is kept for `keep_alive_s`. For one event loop at a time.

    The connections are made with the first request, and end with `aclose`.
    """

    def __init__(self, keep_alive_s: float) -> None:
        self._keep_alive_s = keep_alive_s
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session, patience = self._opened(), request.extensions.get("timeout", {})
        content = await request.aread()
        with _as_httpx(request):
            reply = await session.request(
                request.method, URL(str(request.url), encoded=True), data=content or None,
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=patience.get("connect"), sock_read=patience.get("read")
                ),
                allow_redirects=False,
            )  # fmt: skip
        return httpx.Response(reply.status, headers=list(reply.raw_headers), stream=_Pieces(request, reply))

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._keep_alive_s),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
            )  # fmt: skip
        return self._session


class _Pieces(httpx.AsyncByteStream):
    """The body as it comes. Closed before its end it closes the connection, so that the engine stops writing."""

    def __init__(self, request: httpx.Request, reply: aiohttp.ClientResponse) -> None:
        self._request = request
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx(self._request):
            async for piece in self._reply.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        self._reply.close() if not self._reply.content.is_eof() else self._reply.release()


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """aiohttp's errors as httpx's. What the engine cannot have seen is a ConnectError: it may be sent again."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.ClientConnectionResetError) as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientOSError as error:
        unsent = isinstance(error.__cause__, aiohttp.ClientConnectionResetError)  # an idle connection had been closed
        raise (httpx.ConnectError if unsent else httpx.ReadError)(str(error), request=request) from error
    except aiohttp.ClientConnectionError as error:
        raise httpx.ReadError(str(error), request=request) from error
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
