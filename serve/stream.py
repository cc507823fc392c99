"""Reading along with a stream of server-sent events: whose name it bears, how many tokens, whether it is complete."""

import json
from collections.abc import Callable, Mapping
from typing import Any

Extension = Callable[[str], dict[str, Any]]  # of the finished text: what the answer has as `brogue`


def renamed(content: bytes, engine_name: str, asked_name: str) -> bytes:
    """The value of JSON's "model" field replaced. Quotes inside strings are escaped, so no answer's text can match."""
    ours, theirs = json.dumps(engine_name).encode(), json.dumps(asked_name).encode()
    return content.replace(b'"model":' + ours, b'"model":' + theirs)


def compact(content: Mapping[str, Any]) -> bytes:
    """JSON as the engine writes it, without blanks: `renamed` looks for names in it."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class StreamReader:
    """Feed it the engine's bytes; it gives the whole events that the client is to see."""

    def __init__(
        self, engine_name: str, asked_name: str, wants_usage: bool, extension: Extension | None = None
    ) -> None:
        self.finished = False  # the closing event has come
        self.failed = False  # the engine itself sent an error
        self.prompt_tokens = self.completion_tokens = 0
        self.text = ""  # of the first choice
        self._names = engine_name, asked_name
        self._wants_usage = wants_usage
        self._extension = extension
        self._rest = b""

    def feed(self, block: bytes) -> bytes:
        """The events that are complete by now, ours to pass on."""
        complete, separator, self._rest = (self._rest + block).rpartition(b"\n\n")
        events = complete + separator
        if complete == b"data: [DONE]" or complete.endswith(b"\n\ndata: [DONE]"):
            self.finished = True
        if b'data: {"error"' in events:
            self.failed = True
        events = b"".join(self._read(event) for event in events.split(b"\n\n") if event)
        return renamed(events, *self._names)

    def may_extend(self, block: bytes) -> bool:
        """Whether to feed this block in a thread, since the finished answer is likely to be checked."""
        return self._extension is not None and b'"finish_reason":"' in block

    def _read(self, event: bytes) -> bytes:
        try:
            content: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
            first = [c for c in content["choices"] if c.get("index", 0) == 0]  # with n > 1 each has its own events
            self.text += "".join(c["delta"].get("content") or "" for c in first)
        except (ValueError, KeyError, TypeError):
            return event + b"\n\n"  # the closing event, an error, a comment
        if self._extension is not None and any(c.get("finish_reason") for c in first):
            return b"data: " + compact(content | {"brogue": self._extension(self.text)}) + b"\n\n"
        if content["choices"] or not isinstance(content.get("usage"), dict):
            return event + b"\n\n"
        self.prompt_tokens = content["usage"].get("prompt_tokens") or 0
        self.completion_tokens = content["usage"].get("completion_tokens") or 0
        return event + b"\n\n" if self._wants_usage else b""


def with_usage(body: dict[str, Any]) -> dict[str, Any]:
    """A stream's body that asks for the token counts, for our own books."""
    options = body.get("stream_options") or {}
    if not body.get("stream") or not isinstance(options, dict):
        return body
    return body | {"stream_options": options | {"include_usage": True}}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the client itself asked for the token counts of a stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))
