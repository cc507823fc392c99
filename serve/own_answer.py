"""An answer that the gateway gives by itself, in the shape of the engine's: whole, or as a stream's events."""

import time
from collections.abc import Iterator
from typing import Any

from serve.exchange import Exchange
from serve.stream import compact, wants_usage

_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_MOST = 128  # choices; as many as OpenAI gives


def whole(exchange: Exchange, text: str) -> dict[str, Any]:
    """The chat completion with `text` as each of the choices asked for."""
    message = {"role": "assistant", "content": text}
    choices = [
        {"index": i, "message": message, "logprobs": None, "finish_reason": "stop"} for i in range(_choices(exchange))
    ]
    return _head(exchange, "chat.completion") | {"choices": choices, "usage": _USAGE} | _extended(exchange, text)


def events(exchange: Exchange, text: str) -> Iterator[bytes]:
    """The same as server-sent events."""
    head = _head(exchange, "chat.completion.chunk")
    for i in range(_choices(exchange)):
        delta = {"role": "assistant", "content": text}
        yield _event(head | {"choices": [{"index": i, "delta": delta, "logprobs": None, "finish_reason": None}]})
        end = head | {"choices": [{"index": i, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
        yield _event(end | (_extended(exchange, text) if i == 0 else {}))
    if wants_usage(exchange.asked):
        yield _event(head | {"choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + compact(content) + b"\n\n"


def _head(exchange: Exchange, kind: str) -> dict[str, Any]:
    own_id = exchange.response_id.replace("resp-", "chatcmpl-", 1)
    return {"id": own_id, "object": kind, "created": int(time.time()), "model": exchange.asked_name}


def _extended(exchange: Exchange, text: str) -> dict[str, Any]:
    extension = exchange.prepared.extension
    return {} if extension is None else {"brogue": extension(text)}


def _choices(exchange: Exchange) -> int:
    wanted = exchange.asked.get("n")
    return wanted if isinstance(wanted, int) and 1 <= wanted <= _MOST else 1
