"""What of a request the engine must not see: what could harm it, and what its base model has no senses for."""

from collections.abc import Iterator, Mapping
from typing import Any

from serve.openai_errors import ApiError
from serve.soft_prompt import PART, refuse_own

_TEXT = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})  # kinds of content parts
_WORDS = _TEXT | {"type", "id", "annotations", "logprobs", "cache_control", "closed"}  # keys of such parts


def vet(body: Mapping[str, Any], has_eyes: bool) -> None:
    """Raises `ApiError` with what to leave out. `body` is a chat, or a text to be continued."""
    if body.get(PART) is not None:  # tensors that the engine would unpack
        raise ApiError(400, f"'{PART}' is not taken; send text or token ids as 'prompt'", param=PART)
    if not isinstance(body.get("stream"), bool | None):
        raise ApiError(400, f"'stream' is {body['stream']!r:.80}; wanted true or false", param="stream")
    if "messages" not in body:
        return
    refuse_own(body)
    for part in _parts_beside_text(body["messages"]):
        if not has_eyes:
            message = f"a content part is {_kind(part)}, and the base model reads text only; send text"
            raise ApiError(400, message, code="text_only", param="messages")
        if any(not address.startswith("data:") for address in _addresses(part)):
            message = f"a content part is {_kind(part)} by its address, which is not fetched; send it as a data: URL"
            raise ApiError(400, message, code="not_fetched", param="messages")


def _parts_beside_text(messages: list[Any]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict) and not _is_text(part))


def _is_text(part: Mapping[str, Any]) -> bool:
    """Also a part that does not name its kind, and holds nothing but text; the engine guesses it by the keys."""
    kind = part.get("type")
    return _WORDS.issuperset(part) if kind is None else isinstance(kind, str) and kind in _TEXT


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("type") or next(iter(set(part) - _WORDS), "nothing")
    return f"of the kind '{kind}'"[:60]


def _addresses(part: Mapping[str, Any]) -> Iterator[str]:
    for held in part.values():
        inner = held.get("url") if isinstance(held, dict) else held
        if isinstance(inner, str) and ":" in inner[:10]:
            yield inner
