"""Reading along with a stream of server-sent events: whose name it bears, how many tokens, whether it is complete."""

import json
from typing import Any


def renamed(content: bytes, engine_name: str, asked_name: str) -> bytes:
    """The value of JSON's "model" field replaced. Quotes inside strings are escaped, so no answer's text can match."""
    ours, theirs = json.dumps(engine_name).encode(), json.dumps(asked_name).encode()
    return content.replace(b'"model":' + ours, b'"model":' + theirs)


class StreamReader:
    """Feed it the engine's bytes; it gives the whole events that the client is to see."""

    def __init__(self, engine_name: str, asked_name: str, wants_usage: bool) -> None:
        self.finished = False  # the closing event has come
        self.failed = False  # the engine itself sent an error
        self.prompt_tokens = self.completion_tokens = 0
        self.text = ""  # of the first choice
        self._names = engine_name, asked_name
        self._wants_usage = wants_usage
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

    def _read(self, event: bytes) -> bytes:
        try:
            content: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
            first = (c for c in content["choices"] if c.get("index", 0) == 0)  # with n > 1 each has its own events
            self.text += "".join(c["delta"].get("content") or "" for c in first)
        except (ValueError, KeyError, TypeError):
            return event + b"\n\n"  # the closing event, an error, a comment
        if content["choices"] or not isinstance(content.get("usage"), dict):
            return event + b"\n\n"
        self.prompt_tokens = content["usage"].get("prompt_tokens") or 0
        self.completion_tokens = content["usage"].get("completion_tokens") or 0
        return event + b"\n\n" if self._wants_usage else b""
