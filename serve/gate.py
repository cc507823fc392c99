"""The door of the gateway, before every route: who asks, and what admins do.

Nothing passes without a credential once there are users or keys, whatever a route itself asks for; what a caller needs
to pass a route (a role) is the route's own matter.
"""

import logging
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.audit import Audit
from data.errors import BrogueError
from data.store import StoreDown
from serve.identity import Access, Caller
from serve.limited import ANSWERS
from serve.openai_errors import ApiError
from serve.request_ids import request_id

_LOG = logging.getLogger("brogue.gate")
PUBLIC = frozenset({"/health", "/ready", "/v1/me", "/v1/sign-in", "/v1/sign-out"})
METRICS = frozenset({"/metrics", "/metrics/engine"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
AUDITED = "audited"  # in the request's state: what a route adds to the audit log, never a secret


class Gate:
    """ASGI middleware. `public`: the paths that want no credential."""

    def __init__(self, app: ASGIApp, access: Access, audit: Audit, public: frozenset[str] = PUBLIC) -> None:
        self._app = app
        self._access = access
        self._audit = audit
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in self._public:
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._access.client(Request(scope))
            if scope["path"] in METRICS and not (caller.is_open or caller.may("admin")):
                raise ApiError(
                    403, f"{scope['path']} needs the role 'admin', or gateway.open_metrics = true", code="role"
                )
        except ApiError as error:
            await error.response()(scope, receive, send)
        except BrogueError as error:
            code = "store_down" if isinstance(error, StoreDown) else None
            await ApiError(503, str(error), code=code, retry_after_s=5).response()(scope, receive, send)
        else:
            acts = scope["method"] not in READING and scope["path"] not in ANSWERS and caller.may("admin")
            await (self._audited(scope, receive, send, caller) if acts else self._app(scope, receive, send))

    async def _audited(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        status = 500  # unless an answer says otherwise

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            self._write(scope, caller, status)

    def _write(self, scope: Scope, caller: Caller, status: int) -> None:
        more: dict[str, Any] = scope.get("state", {}).get(AUDITED, {})
        client = scope.get("client")
        try:
            self._audit.write(
                who=caller.name or "", what=f"{scope['method']} {scope['path']}", result=status,
                request=request_id(), address=client[0] if client else None, **more,
            )  # fmt: skip
        except OSError as error:
            _LOG.error("an admin's action is not in the audit log: %s", error)


def audited(request: Request, **more: Any) -> None:
    """What the audit log is to say of this request besides who and what; never a secret."""
    request.scope.setdefault("state", {})[AUDITED] = more
