"""A request of `/v1/responses` as the chat that it means.

The conversation's items become messages, the other fields take chat completions' names; those that only vLLM knows pass
through. What OpenAI runs on its own machines (its tools, background work, stored prompts) is refused by name.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serve.openai_errors import ApiError

Body = dict[str, Any]
Item = dict[str, Any]

_RENAMED = {"max_output_tokens": "max_completion_tokens"}
# What is answered by other means than the chat's own fields, or means nothing to it.
_OWN = frozenset({
    "input", "instructions", "previous_response_id", "text", "tools", "tool_choice", "reasoning", "include",
    "truncation", "background", "stream_options", "max_tool_calls", "top_logprobs", "prompt_cache_key",
    "prompt_cache_retention", "service_tier", "messages",
})  # fmt: skip
_REFUSED = {
    "conversation": "send previous_response_id, or the whole conversation as input",
    "prompt": "send instructions",
    "background": "ask without it, and read the stream",
}
_TEXT = frozenset({"input_text", "output_text", "text"})
_ROLES = ("user", "assistant", "system", "developer")


def as_chat(body: Body, items: Sequence[Item]) -> Body:
    """The chat completion to ask for, of all items of the conversation. Raises `ApiError`."""
    for field, instead in _REFUSED.items():
        if body.get(field):
            raise ApiError(400, f"'{field}' is not offered; {instead}", code="not_offered", param=field)
    chat = {_RENAMED.get(key, key): value for key, value in body.items() if key not in _OWN}
    instructions = _text_field(body, "instructions")
    system = [{"role": "system", "content": instructions}] if instructions else []
    chat["messages"] = [*system, *messages_of(items)]
    if body.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat | _tools(body) | _form(body) | _logprobs(body) | _reasoning(body) | _truncation(body)


def input_items(body: Body) -> list[Item]:
    """The input as items, each with an id."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        raise _refused("wanted 'input': a text, or a list of at least one item")
    return [_item(item) for item in given]


def _item(given: Item) -> Item:
    kind = given.get("type") or "message"
    if kind == "message":
        content = given.get("content")
        if given.get("role") not in _ROLES:
            raise _refused(f"a message's role is {given.get('role')!r:.40}; wanted {', '.join(_ROLES)}")
        part = "output_text" if given["role"] == "assistant" else "input_text"
        parts = [{"type": part, "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not all(isinstance(one, dict) for one in parts):
            raise _refused("a message's content wants to be a text, or a list of parts")
        return {"id": _id("msg"), "status": "completed", **given, "type": kind, "content": parts}
    fields = {"function_call": ("call_id", "name", "arguments"), "function_call_output": ("call_id",), "reasoning": ()}
    if not isinstance(kind, str) or kind not in fields:
        raise _refused(f"an input item is of the type {kind!r:.40}; wanted message, {', '.join(fields)}")
    if missing := next((name for name in fields[kind] if not isinstance(given.get(name), str)), None):
        raise _refused(f"a {kind} has no '{missing}'; it wants to be a text")
    return {"id": _id("rs" if kind == "reasoning" else "fc"), "status": "completed", **given}


def messages_of(items: Iterable[Item]) -> list[Item]:
    """Items as a chat's messages. What a model thought before is left out, as chat templates want it."""
    messages: list[Item] = []
    for item in items:
        kind = item["type"]
        if kind == "message":
            messages.append({"role": item["role"], "content": _content(item["content"])})
        elif kind == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _content(output if isinstance(output, list) else [])
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    if not messages:
        raise _refused("'input' asks nothing; wanted at least one message")
    return messages


def _content(parts: Sequence[Any]) -> Any:
    """A text if there is nothing else in it."""
    found = [_part(part) for part in parts]
    return found[0]["text"] if len(found) == 1 and found[0]["type"] == "text" else found


def _part(part: Any) -> Item:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _TEXT and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return {"type": "text", "text": part["refusal"]}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    raise _refused(f"a content part is of the type {kind!r:.40}; wanted input_text with a 'text'")


def _tools(body: Body) -> Body:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(t, dict) and t.get("type") == "function" for t in tools):
        message = "only tools of the type 'function' can be called, which your program runs; leave the others out"
        raise ApiError(400, message, code="not_offered", param="tools")
    if not tools:
        return {}
    functions = [{key: value for key, value in tool.items() if key != "type"} for tool in tools]
    found: Body = {"tools": [{"type": "function", "function": function} for function in functions]}
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
            message = "wanted 'tool_choice': auto, none, required, or {type: function, name}"
            raise ApiError(400, message, param="tool_choice")
        choice = {"type": "function", "function": {"name": choice["name"]}}
    return found if choice is None else found | {"tool_choice": choice}


def _form(body: Body) -> Body:
    text = body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else None
    if form is None or (isinstance(form, Mapping) and form.get("type") == "text"):
        return {}
    if not isinstance(form, Mapping) or form.get("type") not in ("json_schema", "json_object"):
        raise ApiError(400, "wanted 'text.format' of the type text, json_schema or json_object", param="text.format")
    if form["type"] == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = {key: value for key, value in form.items() if key != "type"}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _logprobs(body: Body) -> Body:
    include = body.get("include") or []
    if not isinstance(include, list) or "message.output_text.logprobs" not in include:
        return {}
    return {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}


def _reasoning(body: Body) -> Body:
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else None
    return {} if effort is None else {"reasoning_effort": effort}


def _truncation(body: Body) -> Body:
    return {"truncate_prompt_tokens": -1} if body.get("truncation") == "auto" else {}


def _text_field(body: Body, field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str | None):
        raise ApiError(400, f"'{field}' is no text", param=field)
    return value or ""


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _refused(message: str) -> ApiError:
    return ApiError(400, message, param="input")
