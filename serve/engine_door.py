"""Inside the engine's own server: nothing but /health answers without the engine's key.

vLLM asks for its key below /v1 and a few other prefixes only; /invocations, for one, would write answers for every
process of this machine. vLLM loads this class by its option `--middleware`.
"""

import os
import secrets

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/health"})


class EngineDoor:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what bears the key; 401 for all else."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        found = Headers(scope=scope).get("authorization", "").encode()
        if secrets.compare_digest(found, self._wanted):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await JSONResponse({"error": {"message": "the engine answers the gateway alone"}}, 401)(
                scope, receive, send
            )
        else:
            await send({"type": "websocket.close", "code": 1008})
