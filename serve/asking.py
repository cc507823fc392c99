"""What the answer routes share: a request's JSON, what becomes of refusals, and of clients that go away."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from data.errors import BrogueError, UnknownName
from serve.openai_errors import ApiError
from serve.relay import CLIENT_GONE

Body = dict[str, Any]


def parsed(raw: bytes) -> Body:
    """The request's JSON, with the field that everything relies on."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        what = "it holds half of a surrogate pair, which is no character" if "surrogate" in str(error) else str(error)
        raise ApiError(400, f"the body is not valid JSON: {what}", code="invalid_json") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise ApiError(400, "wanted 'model': the name of an assistant; see /v1/models", param="model")
    return body


@contextmanager
def told() -> Iterator[None]:
    """A name that is not there is a 404, a version that cannot be served a 503."""
    try:
        yield
    except UnknownName as error:
        raise ApiError(404, str(error), code="model_not_found", param="model") from error
    except BrogueError as error:
        raise ApiError(503, str(error), code="adapter_unavailable", param="model") from error


async def unless_gone(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """The answer; given up, also by the engine, when the client goes before it begins. The body must have been read."""
    work, gone = asyncio.create_task(answer), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        return Response(status_code=CLIENT_GONE)  # which nobody reads
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
