"""A chat completion as OpenAI's response object: its items, its counts, and how it ended."""

import time
from collections.abc import Mapping
from typing import Any

from serve.openai_errors import ApiError

Body = dict[str, Any]
Item = dict[str, Any]

# The request's fields that a response repeats, and what stands there if the client left them out.
_REPEATED: Body = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "model": None,
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": None,
    "truncation": "disabled", "user": None,
}  # fmt: skip
CUT = "length"  # the finish reason of a text that was ended by a limit


class Answer:
    """The response object of one request while it comes about. `id` starts with "resp_"."""

    def __init__(self, id: str, body: Body, store: bool) -> None:
        self.id = id
        self.previous: str | None = body.get("previous_response_id")
        self._suffix = id.removeprefix("resp_")
        self._repeated = {
            key: default if (value := body.get(key)) is None else value for key, default in _REPEATED.items()
        }
        self._store = store
        self._created = int(time.time())

    def item_id(self, kind: str, index: int) -> str:
        """The id of an item: "msg", "fc" or "rs", and its place in the output."""
        return f"{kind}_{self._suffix}{index:02d}"

    def object(self, status: str, output: list[Item], usage: Body | None = None, **more: Any) -> Body:
        """OpenAI's response object."""
        return {
            "id": self.id, "object": "response", "created_at": self._created, "status": status, "background": False,
            "completed_at": int(time.time()) if status == "completed" else None, "error": None,
            "incomplete_details": None, "output": output, "service_tier": "default", "store": self._store,
            "usage": None if usage is None else usage_of(usage), **self._repeated, **more,
        }  # fmt: skip

    def ended(self, finish: str | None, output: list[Item], usage: Body | None, **more: Any) -> Body:
        """The object of an answer that has come to its end."""
        if finish == CUT:
            details = {"reason": "max_output_tokens"}
            return self.object("incomplete", output, usage, incomplete_details=details, **more)
        return self.object("completed", output, usage, **more)

    def failed(self, error: Mapping[str, Any], output: list[Item]) -> Body:
        """The object of an answer that broke off."""
        message = str(error.get("message") or "the answer broke off")
        return self.object("failed", output, error={"code": "server_error", "message": message})

    def whole(self, answer: Body) -> Body:
        """A whole chat completion as a response."""
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        status = "incomplete" if finish == CUT else "completed"
        output: list[Item] = []
        if thought := message.get("reasoning"):
            output.append(reasoning_item(self.item_id("rs", 0), thought, status))
        text, calls = message.get("content"), message.get("tool_calls") or []
        if text or not calls:
            logprobs = (choice.get("logprobs") or {}).get("content")
            output.append(message_item(self.item_id("msg", len(output)), text or "", status, logprobs))
        for call in calls:
            output.append(call_item(self.item_id("fc", len(output)), call["id"], call["function"], status))
        more = {"brogue": answer["brogue"]} if "brogue" in answer else {}
        return self.ended(finish, output, answer.get("usage"), **more)


def message_item(id: str, text: str, status: str, logprobs: Any = None) -> Item:
    """What was said."""
    part = text_part(text, logprobs)
    content = [part] if text or status != "in_progress" else []
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str, logprobs: Any = None) -> Item:
    """The one part of such an item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def call_item(id: str, call_id: str, function: Mapping[str, Any], status: str) -> Item:
    """A function that the client is to call."""
    named = {"call_id": call_id, "name": function.get("name") or "", "arguments": function.get("arguments") or ""}
    return {"id": id, "type": "function_call", "status": status, **named}


def reasoning_item(id: str, text: str, status: str) -> Item:
    """What the model thought before it spoke."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": id, "type": "reasoning", "summary": [], "status": status, "content": content}


def usage_of(usage: Mapping[str, Any]) -> Body:
    """Token counts under this API's names."""
    read, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": read, "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written, "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }  # fmt: skip


def check_one(body: Body) -> None:
    """Raises `ApiError` for a wish of several answers, which a response has no place for."""
    if body.get("n") not in (None, 1):
        raise ApiError(400, "a response is one answer; leave 'n' out, or ask /v1/chat/completions", param="n")
