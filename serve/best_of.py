"""OpenAI's `best_of` of completions, which vLLM does not have: more texts are written than are given, the likeliest.

Likeliest by the mean log probability of a text's tokens, as OpenAI says it of theirs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
from starlette.responses import Response

from serve.exchange import Exchange
from serve.openai_errors import ApiError
from serve.stream import compact

_MOST = 20  # as at OpenAI
Choice = dict[str, Any]


async def best_of(exchange: Exchange, send: Callable[[Exchange], Awaitable[Response]]) -> Response:
    """The answer to a completion, of which `best_of` may want only the best. Raises `ApiError`."""
    body = exchange.prepared.body
    count, wanted = body.get("best_of"), body.get("n") or 1
    if count is None or count == wanted:
        return await send(exchange)
    _check(body, count, wanted)
    asked = body | {"n": count, "logprobs": body.get("logprobs") or 0}
    exchange.prepared = replace(exchange.prepared, body=asked)
    reply = await send(exchange)
    if reply.status_code != 200:
        return reply
    answer = orjson.loads(bytes(reply.body))
    answer["choices"] = _best(answer["choices"], count, wanted, with_logprobs=body.get("logprobs") is not None)
    headers = {key: value for key, value in reply.headers.items() if key != "content-length"}
    return Response(compact(answer), 200, headers)


def _check(body: dict[str, Any], count: Any, wanted: Any) -> None:
    if type(count) is not int or type(wanted) is not int or not wanted <= count <= _MOST:
        message = f"'best_of' is {count!r:.40}; wanted a number from n = {wanted!r:.40} to {_MOST}"
        raise ApiError(400, message, param="best_of")
    if body.get("stream"):
        message = f"the best of {count} is known when all are written, so it cannot be streamed; leave one of them out"
        raise ApiError(400, message, param="best_of")


def _best(choices: list[Choice], count: int, wanted: int, with_logprobs: bool) -> list[Choice]:
    """Of each prompt's `count` choices the `wanted` likeliest, numbered anew."""
    by_number = sorted(choices, key=lambda choice: choice["index"])
    kept: list[Choice] = []
    for first in range(0, len(by_number), count):
        kept += sorted(by_number[first : first + count], key=_likelihood, reverse=True)[:wanted]
    extra = {} if with_logprobs else {"logprobs": None}
    return [choice | extra | {"index": index} for index, choice in enumerate(kept)]


def _likelihood(choice: Choice) -> float:
    found = [p for p in choice["logprobs"]["token_logprobs"] if p is not None]
    return sum(found) / len(found) if found else float("-inf")
