"""httpx's way to the engine on aiohttp's connections: a stream costs the processor about a quarter of what it costs on
httpx's own, and the gateway shares the processor with the engine.

Errors are httpx's, so that nobody else needs to know.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from yarl import URL

_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # httpx has set what is to be sent


class EngineTransport(httpx.AsyncBaseTransport):
    """Any number of connections, kept open for `keep_alive_s` between requests. For one event loop at a time."""

    def __init__(self, keep_alive_s: float) -> None:
        self._keep_alive_s = keep_alive_s
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        waits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(None, sock_connect=waits.get("connect"), sock_read=waits.get("read"))
        content = await request.aread()
        with _told_in_httpx(request):
            reply = await self._open().request(
                request.method, URL(str(request.url), encoded=True), data=content, timeout=timeout,
                headers=request.headers.multi_items(), skip_auto_headers=_OURS, allow_redirects=False,
            )  # fmt: skip
        return httpx.Response(reply.status, headers=reply.raw_headers, stream=_Reply(request, reply))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            connections = aiohttp.TCPConnector(limit=0, keepalive_timeout=self._keep_alive_s)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(connector=connections, cookie_jar=jar, auto_decompress=False)
            self._loop = loop
        return self._session


class _Reply(httpx.AsyncByteStream):
    """The reply's bytes as they come. Closed before its end, it takes the connection along, and the engine notices."""

    def __init__(self, request: httpx.Request, reply: aiohttp.ClientResponse) -> None:
        self._request = request
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told_in_httpx(self._request):
            async for piece in self._reply.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        if self._reply.content.at_eof():
            self._reply.release()
        else:
            self._reply.close()


@contextmanager
def _told_in_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error), request=request) from error
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(str(error), request=request) from error
