"""A gateway that only this machine reaches, and that may ask nobody who they are, is not to be used by web pages.

A page in a browser here could send requests to 127.0.0.1, or give its own name our address and read the answers. So a
request must name this machine by an address or by 'localhost', and must not come from a page of another site.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.openai_errors import ApiError


class LocalNames:
    """ASGI middleware. `origins`: other sites that may, as the settings name them."""

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it with 403."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, headers: Headers) -> ApiError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not _is_here(f"//{host}"):
            message = (
                f"asked for '{host[:80]}', but only this machine reaches this gateway: as localhost or 127.0.0.1; for "
                "others: brogue up --host 0.0.0.0"
            )
            return ApiError(403, message, code="wrong_host")
        if origin is not None and origin not in self._origins and not _is_here(origin):
            message = f"asked by a page of '{origin[:80]}', which gateway.cors_origins does not name"
            return ApiError(403, message, code="wrong_origin")
        return None


def _is_here(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
