"""The events of `/v1/responses`, made of a chat completion's chunks as they come.

The order is OpenAI's: created, in_progress; for each item output_item.added, its parts' deltas and their done events,
output_item.done; then completed, incomplete or failed. Every event is numbered.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import orjson

from serve.responses_answer import CUT, Answer, call_item, message_item, reasoning_item, text_part
from serve.stream import compact

Body = dict[str, Any]
Event = tuple[str, Body]


class _Item:
    """The item of the output that is being written."""

    def __init__(self, kind: str, id: str, index: int, call: Body | None = None) -> None:
        self.kind, self.id, self.index = kind, id, index  # msg, fc or rs
        self.call = call or {}
        self.text = ""  # or a call's arguments
        self.logprobs: list[Body] = []

    def object(self, status: str) -> Body:
        if self.kind == "msg":
            return message_item(self.id, self.text, status, self.logprobs)
        if self.kind == "rs":
            return reasoning_item(self.id, self.text, status)
        return call_item(self.id, self.call["id"], {"name": self.call["name"], "arguments": self.text}, status)

    def part(self, text: str, logprobs: list[Body]) -> Body:
        return text_part(text, logprobs) if self.kind == "msg" else {"type": "reasoning_text", "text": text}

    @property
    def at(self) -> Body:
        return {"item_id": self.id, "output_index": self.index}

    def begin(self) -> Iterator[Event]:
        yield "output_item.added", {"output_index": self.index, "item": self.object("in_progress")}
        if self.kind != "fc":
            yield "content_part.added", self.at | {"content_index": 0, "part": self.part("", [])}

    def add(self, text: str, logprobs: list[Body]) -> Event:
        self.text += text
        self.logprobs += logprobs
        if self.kind == "msg":
            return "output_text.delta", self.at | {"content_index": 0, "delta": text, "logprobs": logprobs}
        if self.kind == "rs":
            return "reasoning_text.delta", self.at | {"content_index": 0, "delta": text}
        return "function_call_arguments.delta", self.at | {"delta": text}

    def end(self, status: str) -> Iterator[Event]:
        if self.kind == "msg":
            said = {"text": self.text, "logprobs": self.logprobs}
            yield "output_text.done", self.at | {"content_index": 0} | said
        elif self.kind == "rs":
            yield "reasoning_text.done", self.at | {"content_index": 0, "text": self.text}
        if self.kind != "fc":
            yield "content_part.done", self.at | {"content_index": 0, "part": self.part(self.text, self.logprobs)}
        else:
            yield "function_call_arguments.done", self.at | {"name": self.call["name"], "arguments": self.text}
        yield "output_item.done", {"output_index": self.index, "item": self.object(status)}


class Translator:
    """Feed it chat chunks; it gives this API's events."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._output: list[Body] = []
        self._item: _Item | None = None
        self._calls: dict[int, _Item] = {}  # a tool call's index in the chat → its item
        self._finish: str | None = None
        self._usage: Body | None = None
        self._more: Body = {}
        self._ending: list[Event] = []
        self._number = 0

    def begin(self) -> bytes:
        """Before the first chunk."""
        began = {"response": self._answer.object("in_progress", [])}
        return self._written([("created", began), ("in_progress", began)])

    def feed(self, chunk: Body) -> bytes:
        """One chunk of the chat."""
        if "brogue" in chunk:
            self._more = {"brogue": chunk["brogue"]}
        self._usage = chunk.get("usage") or self._usage
        events: list[Event] = []
        for choice in chunk.get("choices") or ():
            events += self._said(choice)
        return self._written(events)

    def end(self) -> Body:
        """The chat has ended well: the response."""
        if self._item is None and not self._output:  # nothing was said at all
            self._ending += self._turn_to("msg")
        self._ending += self._close("incomplete" if self._finish == CUT else "completed")
        return self._answer.ended(self._finish, self._output, self._usage, **self._more)

    def closing(self, result: Body) -> bytes:
        """The last events, with the response as it was stored."""
        return self._written([*self._ending, (result["status"], {"response": result})])

    def failed(self, error: Body) -> bytes:
        """The last events of an answer that broke off."""
        events = list(self._close("incomplete"))
        return self._written([*events, ("failed", {"response": self._answer.failed(error, self._output)})])

    def _said(self, choice: Body) -> Iterator[Event]:
        delta = choice.get("delta") or {}
        if thought := delta.get("reasoning"):
            yield from self._turn_to("rs")
            yield self._current.add(thought, [])
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        if text := delta.get("content"):
            yield from self._turn_to("msg")
            yield self._current.add(text, logprobs)
        for call in delta.get("tool_calls") or ():
            yield from self._called(call)
        self._finish = choice.get("finish_reason") or self._finish

    def _called(self, call: Body) -> Iterator[Event]:
        function = call.get("function") or {}
        index = call.get("index") or 0
        if index not in self._calls:
            yield from self._turn_to("fc", {"id": call.get("id") or "", "name": function.get("name") or ""})
            self._calls[index] = self._current
        if arguments := function.get("arguments"):
            yield self._calls[index].add(arguments, [])

    @property
    def _current(self) -> _Item:
        assert self._item is not None
        return self._item

    def _turn_to(self, kind: str, call: Body | None = None) -> Iterator[Event]:
        """Make an item of this kind the current one."""
        if self._item is not None and self._item.kind == kind and call is None:
            return
        yield from self._close("completed")
        index = len(self._output)
        self._item = _Item(kind, self._answer.item_id(kind, index), index, call)
        yield from self._item.begin()

    def _close(self, status: str) -> Iterator[Event]:
        if self._item is not None:
            yield from self._item.end(status)
            self._output.append(self._item.object(status))
            self._item = None

    def _written(self, events: list[Event]) -> bytes:
        return b"".join(self._event(kind, content) for kind, content in events)

    def _event(self, kind: str, content: Body) -> bytes:
        name = f"response.{kind}"
        data = compact({"type": name, "sequence_number": self._number, **content})
        self._number += 1
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


async def translated(
    blocks: AsyncGenerator[bytes, None], answer: Answer, keep: Callable[[Body], Awaitable[Body]]
) -> AsyncGenerator[bytes, None]:
    """The events of a chat's stream; `keep` stores the response before its last event goes out, and gives it back."""
    to = Translator(answer)
    yield to.begin()
    async with aclosing(blocks):
        async for block in blocks:
            for event in block.split(b"\n\n"):
                if not event.startswith(b"data: {"):
                    continue
                chunk = orjson.loads(event[6:])
                if "error" in chunk:
                    yield to.failed(chunk["error"])
                    return
                if written := to.feed(chunk):
                    yield written
    yield to.closing(await keep(to.end()))
