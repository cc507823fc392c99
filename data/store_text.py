"""The one place through which people's words pass on their way into the store: kept, redacted, or left out."""

from collections.abc import Callable, Iterator
from typing import Any

# All texts of one record at once, so that a placeholder such as [EMAIL_1] means the same in all of them.
Redactor = Callable[[list[str]], list[str]]

_NOT_WORDS = frozenset(
    {"role", "type", "id", "call_id", "tool_call_id", "status", "source", "reasons"}
)  # whose values are ours or the format's


def storable(text: str) -> str:
    """`text` as both databases take it: no NUL (PostgreSQL refuses it), no half of a surrogate pair (not UTF-8)."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def written(record: dict[str, Any], redact: Redactor | None) -> dict[str, Any]:
    """`record` (JSON) with all its texts made storable, and redacted if a redactor is given."""
    texts = [storable(text) for text in _texts(record)]
    if redact is not None and texts:
        texts = [storable(text) for text in redact(texts)]
    replaced: dict[str, Any] = _replaced(record, iter(texts))
    return replaced


def _texts(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str) and key not in _NOT_WORDS:
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)


def _replaced(value: Any, texts: Iterator[str], key: str = "") -> Any:
    if isinstance(value, str):
        return storable(value) if key in _NOT_WORDS else next(texts)
    if isinstance(value, dict):
        return {storable(name): _replaced(inner, texts, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, texts, key) for inner in value]
    return value
