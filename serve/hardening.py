"""What holds for every request, whoever sends it: an id, and no key in the URL."""

import re
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.keys import PREFIX
from serve.openai_errors import ApiError
from serve.request_ids import HEADER, begin_request

SECRETS = frozenset({"api_key", "apikey", "api-key", "key", "token", "access_token", "auth", "authorization",
                     "password", "secret", "bearer", "admin_key", "x-api-key"})  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FIELDS = 200  # of a query that are looked at; more are refused


class Hardening:
    """ASGI middleware, outside of all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = begin_request(Headers(scope=scope).get(HEADER))
        scope.setdefault("state", {})["request_id"] = id  # for what answers outside of all middleware

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = id
            await send(message)

        try:
            _refuse_controls(scope)
            _refuse_secrets(scope.get("query_string", b""))
            await self._app(scope, receive, send_with_id)
        except ApiError as error:
            await error.response()(scope, receive, send_with_id)


def _refuse_controls(scope: Scope) -> None:
    if _CONTROL.search(scope["path"]) or b"%00" in scope.get("query_string", b""):
        raise ApiError(400, "the URL holds a control character, which no name has", code="invalid_url")


def _refuse_secrets(query: bytes) -> None:
    if not query:
        return
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise ApiError(400, f"the URL has more than {FIELDS} fields", code="invalid_url") from error
    for name, value in fields:
        if name.lower() in SECRETS or value.startswith(PREFIX):
            message = (
                f"'{name[:40]}' in the URL: a key there ends up in logs and histories; send 'Authorization: Bearer "
                "KEY', and if it was a real one, have it revoked: brogue keys revoke NAME"
            )
            raise ApiError(400, message, code="key_in_url")
