"""A stream of server-sent events on its way: under whose name it goes, whether it is complete, what was said in it.

Events pass through as the bytes that the engine wrote. They are gathered on the way and parsed once the stream has
ended, for our own books; only an answer that gets something of ours at its end is looked into before.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

Extension = Callable[[str], dict[str, Any]]  # of the finished text: what the answer has as `brogue`

DONE = b"data: [DONE]\n\n"
# In JSON without blanks; quotes inside strings are escaped, so no answer's text can match.
_FINISH, _NO_CHOICE, _USAGE, _ERROR = b'"finish_reason":"', b'"choices":[]', b'"usage":{', b'data: {"error"'


def renamed(content: bytes, engine_name: str, asked_name: str) -> bytes:
    """The value of JSON's "model" field replaced. Quotes inside strings are escaped, so no answer's text can match."""
    if engine_name == asked_name:
        return content
    return content.replace(b'"model":' + orjson.dumps(engine_name), b'"model":' + orjson.dumps(asked_name))


def compact(content: Mapping[str, Any]) -> bytes:
    """JSON as the engine writes it, without blanks: `renamed` looks for names in it."""
    return orjson.dumps(content)


def said(choice: Mapping[str, Any]) -> str:
    """The text of a choice: of a chat or of a completion, whole or a stream's piece. A call of a tool has none."""
    message = choice.get("message") or choice.get("delta") or choice
    text = message.get("content", message.get("text")) if isinstance(message, dict) else None
    return text if isinstance(text, str) else ""


class StreamReader:
    """Feed it the engine's bytes; it gives those that the client is to see."""

    def __init__(
        self, engine_name: str, asked_name: str, wants_usage: bool, extension: Extension | None = None
    ) -> None:
        self.finished = False  # the closing event has come
        self.failed = False  # the engine itself sent an error
        self._names = engine_name, asked_name
        self._wants_usage = wants_usage
        self._extension = extension
        self._rest = b""
        self._gathered: list[bytes] = []
        self._held: list[bytes] = []  # choices' last events, until the engine's last one has come

    def feed(self, block: bytes) -> bytes:
        """The events that are complete by now, ours to pass on."""
        complete, separator, self._rest = (self._rest + block).rpartition(b"\n\n")
        events = complete + separator
        self._gathered.append(events)
        if events.endswith(DONE):
            self.finished = True
        if _ERROR in events:
            self.failed = True
        if self._extension is not None and _FINISH in events:
            events = b"".join(map(self._extended, _split(events)))
        if not self._wants_usage and (self._held or _FINISH in events or _NO_CHOICE in events):
            events = b"".join(map(self._without_usage, _split(events)))
        return renamed(events, *self._names)

    def may_extend(self, block: bytes) -> bool:
        """Whether to feed this block in a thread, since the finished answer is likely to be checked."""
        return self._extension is not None and _FINISH in block

    @property
    def text(self) -> str:
        """What the first choice has said so far."""
        return "".join(said(c) for content in self._parsed() for c in content["choices"] if c.get("index", 0) == 0)

    @property
    def tokens(self) -> tuple[int, int]:
        """Of prompt and answer, as the engine counted; of a stream that broke off, one for each event, at least."""
        for content in reversed(list(self._parsed(_USAGE))):
            usage = content["usage"]
            return usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return 0, sum(events.count(b"data: {") for events in self._gathered)

    def _parsed(self, marker: bytes = b"") -> Iterator[dict[str, Any]]:
        for event in _split(b"".join(self._gathered)):
            if marker in event and event.startswith(b'data: {"') and not event.startswith(_ERROR):
                content = orjson.loads(event[6:])
                if isinstance(content.get("choices"), list):
                    yield content

    def _extended(self, event: bytes) -> bytes:
        """The first choice's last event, with what we have to say of the finished text."""
        if self._extension is None or _FINISH not in event:
            return event
        content = orjson.loads(event[6:])
        if not any(c.get("index", 0) == 0 and c.get("finish_reason") for c in content["choices"]):
            return event
        return b"data: " + compact(content | {"brogue": self._extension(self.text)}) + b"\n\n"

    def _without_usage(self, event: bytes) -> bytes:
        """All but the token counts, which the client did not ask for.

        Where they were not asked for, vLLM puts its fingerprint into each choice's last event, so that is done here.
        """
        if _FINISH in event:
            self._held.append(event)
            return b""
        counts = _NO_CHOICE in event and _USAGE in event
        if not counts and event != DONE:
            return event
        ends, self._held = self._held, []
        mark = orjson.loads(event[6:]).get("system_fingerprint") if counts else None
        if mark is not None:
            signed = b',"system_fingerprint":' + orjson.dumps(mark) + b"}\n\n"
            ends = [end.removesuffix(b"}\n\n") + signed for end in ends]
        return b"".join(ends) + (b"" if counts else event)


def _split(events: bytes) -> list[bytes]:
    """One by one, each with the blank line that ends it."""
    return [event + b"\n\n" for event in events.split(b"\n\n") if event]


def with_usage(body: dict[str, Any]) -> dict[str, Any]:
    """A stream's body that asks for the token counts, for our own books."""
    options = body.get("stream_options") or {}
    if not body.get("stream") or not isinstance(options, dict) or wants_usage(body):
        return body
    # Without the client's other options: they mean something to vLLM only together with this one.
    return body | {"stream_options": {"include_usage": True}}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the client itself asked for the token counts of a stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))
