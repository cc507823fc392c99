"""Where the gateway's answers differ from bare vLLM's: the calls that are compared, and the differences that are meant.

`DIFFERENCES` is the whole list: what is not in it is equal, field by field. docs/openai-api.md has it as a table.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import openai

QUESTION: list[Any] = [{"role": "user", "content": "Name three herbs that grow on a windowsill."}]
FUNCTION = {
    "name": "water", "strict": True, "description": "Water a plant.",
    "parameters": {
        "type": "object", "properties": {"plant": {"type": "string", "enum": ["basil", "mint"]}},
        "required": ["plant"], "additionalProperties": False,
    },
}  # fmt: skip
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "water"}}
SCHEMA = {
    "name": "herb", "strict": True, "schema": {
        "type": "object", "properties": {"herb": {"type": "string", "enum": ["basil", "mint"]}}, "required": ["herb"],
        "additionalProperties": False,
    },
}  # fmt: skip
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
Ask = Callable[[openai.OpenAI, str], Any]

# Ids and times, which no two answers share.
VARIES = re.compile(
    r"(^|\.)(id|created|created_at|completed_at|item_id|call_id|first_id|last_id|response_id)$|tool_calls\.id$"
)


def chat(**more: Any) -> Ask:
    """A chat completion, as the JSON that came."""
    asked = {"messages": QUESTION, **GREEDY, **more}
    return lambda client, model: _whole(client.chat.completions.with_raw_response.create(model=model, **asked))


def complete(**more: Any) -> Ask:
    """A completion."""
    asked = {"prompt": "Basil is a herb that", **GREEDY, **more}
    return lambda client, model: _whole(client.completions.with_raw_response.create(model=model, **asked))


def respond(**more: Any) -> Ask:
    """A response."""
    asked = {"input": QUESTION[0]["content"], "temperature": 0, "max_output_tokens": 12, **more}
    return lambda client, model: _whole(client.responses.with_raw_response.create(model=model, **asked))


def _whole(raw: Any) -> Any:
    raw.parse()  # as the client's own types
    return json.loads(raw.http_response.content)


def streamed(ask: str, **asked: Any) -> Callable[[openai.OpenAI, str], bytes]:
    """The bytes of a stream, with the one id and the one time of its events made equal."""

    def bytes_of(client: openai.OpenAI, model: str) -> bytes:
        resource = client.chat.completions if ask == "chat" else client.completions
        with resource.with_streaming_response.create(model=model, stream=True, **asked) as reply:  # type: ignore[attr-defined]
            whole = b"".join(reply.iter_bytes())
        return re.sub(rb'"id":"[a-z]+-[^"]+"|"created":\d+', b"_", whole)

    return bytes_of


def events(client: openai.OpenAI, model: str) -> list[Any]:
    """The events of a response's stream, as the JSON that came."""
    asked: dict[str, Any] = {"input": QUESTION[0]["content"], "temperature": 0, "max_output_tokens": 12}
    with client.responses.with_streaming_response.create(model=model, stream=True, **asked) as reply:
        return [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]


def refused(ask: Ask) -> Ask:
    """The status and error of a call that fails."""

    def error_of(client: openai.OpenAI, model: str) -> Any:
        try:
            return {"answered": ask(client, model)}
        except openai.APIStatusError as error:
            return {"status": error.status_code, "error": error.body}

    return error_of


def listed(client: openai.OpenAI, model: str) -> Any:
    """The model's entry in the list."""
    return next(entry for entry in _whole(client.models.with_raw_response.list())["data"] if entry["id"] == model)


def embedded(client: openai.OpenAI, _model: str) -> Any:
    """A vector."""
    return _whole(client.embeddings.with_raw_response.create(model="all-minilm-l6-v2", input="x"))


CASES: dict[str, Ask] = {
    "models": listed,
    "chat": chat(),
    "chat, n": chat(n=2, temperature=1, seed=7),
    "chat, logprobs": chat(logprobs=True, top_logprobs=3),
    "chat, stop": chat(stop=["e"]),
    "chat, seed": chat(temperature=1, seed=11),
    "chat, named tool": chat(tools=[TOOL], tool_choice=NAMED, max_tokens=40),
    "chat, required tool": chat(tools=[TOOL], tool_choice="required", max_tokens=40),
    "chat, free tool": chat(tools=[TOOL], tool_choice="auto"),
    "chat, json_schema": chat(response_format={"type": "json_schema", "json_schema": SCHEMA}, max_tokens=30),
    "chat, vLLM's own": chat(
        user="u", max_completion_tokens=5, extra_body={"top_k": 5, "min_p": 0.1, "return_token_ids": True}
    ),
    "completions": complete(),
    "completions, several": complete(prompt=["Basil", "Mint"], n=2, temperature=1, seed=3),
    "completions, echo": complete(echo=True, logprobs=2, max_tokens=4),
    "completions, token ids": complete(prompt=[504, 905, 260], stop="\n"),
    "responses": respond(),
    "responses, instructions": respond(instructions="Answer in one word.", input=QUESTION),
    "error: unknown model": refused(lambda client, _: chat()(client, "no-such-model")),
    "error: bad parameter": refused(chat(temperature=9)),
    "error: bad type": refused(chat(n="many")),
    "error: no messages": refused(chat(messages=[])),
    "error: too long": refused(chat(messages=[{"role": "user", "content": "basil " * 9000}])),
    "error: no prompt": refused(complete(prompt=None)),
    "embeddings": refused(lambda client, model: {"vectors": len(embedded(client, model)["data"])}),
}  # fmt: skip
STREAMS: dict[str, Callable[[openai.OpenAI, str], bytes]] = {
    "chat": streamed("chat", messages=QUESTION, **GREEDY),
    "chat, usage": streamed("chat", messages=QUESTION, stream_options={"include_usage": True}, **GREEDY),
    "chat, continuous usage": streamed(
        "chat", messages=QUESTION, stream_options={"include_usage": True, "continuous_usage_stats": True}, **GREEDY
    ),
    "chat, required tool": streamed(
        "chat", messages=QUESTION, tools=[TOOL], tool_choice="required", temperature=0, max_tokens=40
    ),
    "completions": streamed("completions", prompt="Basil is a herb that", **GREEDY),
    "completions, echo": streamed("completions", prompt="Basil is", echo=True, **GREEDY),
}


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Paths at which two JSON values differ; the places in a list count as one."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            inner = f"{path}.{key}".lstrip(".")
            if key not in ours or key not in theirs:
                yield f"{'+' if key in ours else '-'}{inner}"
            else:
                yield from differences(ours[key], theirs[key], inner)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield path
        for one, other in zip(ours, theirs, strict=False):
            yield from differences(one, other, path)
    elif isinstance(ours, float) and isinstance(theirs, float):
        if abs(ours - theirs) > 0.05:  # log probabilities depend a little on what else is computed with them
            yield path
    elif ours != theirs and not VARIES.search(path):
        yield path


# --- what is meant to differ: the path (+ ours alone, - the engine's alone) and why ---

_LIST = "the list is the gateway's own, and tells nothing of the machine's paths"
_ERROR = "OpenAI's names of errors, where vLLM has its own"
_FIRST = "the gateway looks before the engine does"
_UNKNOWN = "the gateway knows which models there are"
_LINE = "an error is one line"
_TOO_LONG = "OpenAI's code, which clients look for"
_NO_VECTORS = "a model that writes has no vectors; the gateway has one for them"
_OPENAI_HAS = "OpenAI has it, vLLM not"
_VLLM_HAS = "vLLM's own field, which OpenAI does not have"
_ASKED = "OpenAI's default, where vLLM fills in its own"
_CUT = "what a limit cut is incomplete, as at OpenAI"
_PHASE = "an empty field of OpenAI's types"

_ERRORS = {"error.type": _ERROR, "error.code": _ERROR}
RESPONSE = {
    "+completed_at": _OPENAI_HAS, "+error": _OPENAI_HAS, "+store": _OPENAI_HAS, "+prompt_cache_key": _OPENAI_HAS,
    "+safety_identifier": _OPENAI_HAS,
    "-prompt": _VLLM_HAS, "-presence_penalty": _VLLM_HAS, "-frequency_penalty": _VLLM_HAS,
    "-kv_transfer_params": _VLLM_HAS, "-ec_transfer_params": _VLLM_HAS, "-input_messages": _VLLM_HAS,
    "-output_messages": _VLLM_HAS, "-usage.input_tokens_details.input_tokens_per_turn": _VLLM_HAS,
    "-usage.input_tokens_details.cached_tokens_per_turn": _VLLM_HAS,
    "-usage.output_tokens_details.output_tokens_per_turn": _VLLM_HAS,
    "-usage.output_tokens_details.tool_output_tokens_per_turn": _VLLM_HAS,
    "-usage.output_tokens_details.tool_output_tokens": _VLLM_HAS,
    "metadata": _ASKED, "reasoning": _ASKED, "service_tier": _ASKED, "text": _ASKED, "top_logprobs": _ASKED,
    "tool_choice": _ASKED, "top_p": _ASKED, "output.status": _CUT, "output.content.logprobs": _ASKED,
    "-output.phase": _PHASE,
}  # fmt: skip
DIFFERENCES: dict[str, dict[str, str]] = {
    "models": {"+kind": _LIST, "owned_by": _LIST, "-root": _LIST, "-parent": _LIST, "-permission": _LIST},
    "responses": RESPONSE,
    "responses, instructions": RESPONSE,
    "error: unknown model": {"error.message": _UNKNOWN, **_ERRORS},
    "error: bad parameter": _ERRORS,
    "error: bad type": {"error.message": _LINE, **_ERRORS},
    "error: no messages": {"error.message": _FIRST, "error.param": _FIRST, **_ERRORS},
    "error: too long": {"error.type": _ERROR, "error.code": _TOO_LONG},
    "error: no prompt": {"error.message": _FIRST, **_ERRORS},
    "embeddings": {"+answered": _NO_VECTORS, "-status": _NO_VECTORS, "-error": _NO_VECTORS},
}  # fmt: skip
EVENT_DIFFERENCES: dict[str, str] = {
    **{re.sub(r"^([+-]?)", r"\1response.", path): why for path, why in RESPONSE.items()},
    "type": _CUT, "-item.phase": _PHASE, "item.status": _CUT, "item.content.logprobs": _ASKED, "part.logprobs": _ASKED,
}  # fmt: skip
