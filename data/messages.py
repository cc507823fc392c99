"""How a system prompt joins a conversation: one rule, used by training and by serving alike.

If the two differed, an adapter would be trained on another prompt than the one it is asked with.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def with_system(
    messages: Sequence[Mapping[str, Any]], system: str | None, supports_system: bool
) -> list[dict[str, Any]]:
    """`messages` (OpenAI's shape) with `system` in front.

    A system message that the conversation brings along follows ours in the same message, since many chat templates take
    one only. Where the template takes none (`supports_system` false), the text opens the first user message.
    """
    rest = [dict(m) for m in messages]
    parts = [system.strip()] if system and system.strip() else []
    while rest and rest[0].get("role") in ("system", "developer"):
        own = _text(rest.pop(0).get("content"))
        parts += [own] if own else []
    if not parts:
        return rest
    text = "\n\n".join(parts)
    if supports_system:
        return [{"role": "system", "content": text}, *rest]
    for message in rest:
        if message.get("role") == "user":
            message["content"] = _prepend(text, message.get("content"))
            break
    return rest


def _text(content: Any) -> str:
    """The text of a message's content: a string, or OpenAI's list of parts."""
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if isinstance(part, Mapping)).strip()
    return str(content or "").strip()


def _prepend(text: str, content: Any) -> Any:
    if isinstance(content, list):
        return [{"type": "text", "text": text}, *content]
    return f"{text}\n\n{content or ''}"
