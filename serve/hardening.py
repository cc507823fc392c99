"""What holds for every request, whoever sends it: an id, no key in the URL, and a client that takes its answer."""

import asyncio
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.keys import PREFIX
from serve.openai_errors import ApiError
from serve.request_ids import HEADER, begin_request

SECRETS = frozenset({"api_key", "apikey", "api-key", "key", "token", "access_token", "auth", "authorization",
                     "password", "secret", "bearer", "admin_key", "x-api-key"})  # fmt: skip
FIELDS = 200  # of a query that are looked at; more are refused


class Hardening:
    """ASGI middleware, outside of all others. A client has `patience_s` to take each piece of an answer."""

    def __init__(self, app: ASGIApp, patience_s: float) -> None:
        self._app = app
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = begin_request(Headers(scope=scope).get(HEADER))
        scope.setdefault("state", {})["request_id"] = id  # for what answers outside of all middleware

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = id
            try:
                async with asyncio.timeout(self._patience_s):
                    await send(message)
            except TimeoutError as error:
                raise ClientTooSlow from error

        try:
            _refuse_secrets(scope.get("query_string", b""))
            await self._app(scope, receive, send_in_time)
        except ApiError as error:
            await error.response()(scope, receive, send_in_time)
        except ClientTooSlow:
            pass  # nobody takes an explanation either; the server closes the connection


class ClientTooSlow(Exception):
    """A client does not take its answer."""


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
