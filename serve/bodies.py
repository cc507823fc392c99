"""How much a request may bring, how deep its JSON may nest, and how slowly it may come.

A body is read here, whole, before anything is done for it, and only once it is known who asks; uploads are handed on
as they come.
"""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.settings import GatewaySettings
from serve.openai_errors import ApiError

MIB = 2**20
DEPTH = 64  # of JSON; a tool's schema has some ten
BRACKETS = 500_000  # of one body; to look through more takes longer than any request deserves
UPLOADS = frozenset({"/v1/files"})
OF_ANYBODY = 64 * 1024  # bytes, where no credential is wanted: a name and a password
QUICK = 64 * 1024  # bytes that are looked through between two other things
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: linear, whatever is sent
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Bodies:
    """ASGI middleware, inside of the one that asks who it is. `public`: the paths that want no credential."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, public: frozenset[str]) -> None:
        self._app = app
        self._patience_s = settings.slow_client_s
        self._most = int(settings.max_body_mib * MIB)
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if scope["path"] in UPLOADS and scope["method"] == "POST":
                await self._hand_on(scope, receive, send)
                return
            most = min(OF_ANYBODY, self._most) if scope["path"] in self._public else self._most
            body = await self._body(receive, _promised(headers, most))
            if body is not None:
                await _check_depth(body)
                await self._app(scope, _replayed(body, receive), send)
        except ApiError as error:
            await error.response()(scope, receive, send)

    async def _body(self, receive: Receive, most: int) -> bytes | None:
        """All of it; none if its client has gone before."""
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > most:
                        raise _too_large(most)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError as error:
            raise _too_slow(self._patience_s) from error

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload, as it comes; its route counts it. What that makes of its end before time is not sent, but why."""
        began = whole = False
        refusal: ApiError | None = None

        async def timed() -> Message:
            nonlocal refusal, whole
            try:
                async with asyncio.timeout(None if whole else self._patience_s):
                    message = await receive()
            except TimeoutError as error:
                refusal = _too_slow(self._patience_s)
                raise refusal from error
            whole = not message.get("more_body", False)
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal began
            if refusal is None or began:
                began = True
                await send(message)

        try:
            await self._app(scope, timed, send_unless_refused)
        except ApiError:
            if refusal is None:
                raise
        if refusal is not None and not began:
            await refusal.response()(scope, receive, send)


async def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return
    if await asyncio.to_thread(is_too_deep, body) if len(body) > QUICK else is_too_deep(body):
        message = f"the JSON is nested more than {DEPTH} deep, has too many brackets, or they do not close"
        raise ApiError(400, message, code="invalid_json")


def is_too_deep(body: bytes) -> bool:
    """Whether JSON nests more than `DEPTH` deep; of what is no JSON, whether more brackets than that do not close."""
    left = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if len(left) > BRACKETS:
        return True
    for _ in range(DEPTH):  # each round takes off the innermost pairs, and no more than these
        pairs_gone = left.replace(b"[]", b".").replace(b"{}", b".").translate(None, b".")
        if len(pairs_gone) == len(left):
            return len(left) > DEPTH
        left = pairs_gone
    return bool(left)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what the connection says: that its client has gone."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def _promised(headers: Headers, most: int) -> int:
    """`most`, unless the client itself says that it has more to send."""
    said = headers.get("content-length", "0")
    if said.isdigit() and int(said[:20]) > most:
        raise _too_large(most)
    return most


def _too_large(most: int) -> ApiError:
    size = f"{most / MIB:,.4g} MiB" if most >= MIB else f"{most / 1024:,.4g} KiB"
    return _closing(ApiError(413, f"the request is larger than {size}; send less", code="request_too_large"))


def _too_slow(seconds: float) -> ApiError:
    return _closing(ApiError(408, f"the request's body did not come within {seconds:g} s", code="request_timeout"))


def _closing(error: ApiError) -> ApiError:
    """What else comes on this connection is the rest of that body."""
    error.headers = {"connection": "close"}
    return error
