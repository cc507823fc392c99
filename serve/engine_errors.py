"""What the engine says when it refuses a request, as the error that the client gets."""

import logging
import uuid
from typing import Any

import orjson

from data.errors import one_line
from serve.openai_errors import ApiError

_LOG = logging.getLogger("brogue.relay")
_NO_PARSER = "--tool-call-parser"  # stands in vLLM's words when it was started without one
_TOOLS = (
    "the engine was started without a parser of tool calls; leave 'tools' out, or set engine.tool_call_parser in "
    "brogue.toml to the form in which the base model writes them"
)
_CODES = {"maximum context length": "context_length_exceeded", "longer than the maximum": "context_length_exceeded"}


def engine_error(status: int, content: bytes, engine_name: str, asked_name: str) -> ApiError:
    """The engine's error in OpenAI's shape; of its own faults the client is told no more than a number in our log."""
    error = _error(content)
    said = str(error.get("message") or "it gave no reason")
    if status >= 500:
        incident = uuid.uuid4().hex[:8]
        _LOG.error("incident %s: the engine answered %d: %s", incident, status, said)
        return ApiError(status, f"the engine failed with this request; incident {incident} in the gateway's log")
    if _NO_PARSER in said:
        return ApiError(400, _TOOLS, code="no_tool_parser", param="tool_choice")
    code = next((code for words, code in _CODES.items() if words in said), None)
    param = error.get("param")
    return ApiError(
        status,
        one_line(said.replace(engine_name, asked_name), 1000),
        code="model_not_found" if status == 404 else code,
        param=param if isinstance(param, str) else None,
    )


def _error(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except ValueError:
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}
