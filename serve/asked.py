"""How much one request may ask for, as the settings say: text to read, tokens to write, choices."""

from collections.abc import Iterator, Mapping
from typing import Any

from data.settings import GatewaySettings
from serve.openai_errors import ApiError

_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # what OpenAI's endpoints call it
_CHOICES = ("n", "best_of")
_TEXTS = ("messages", "prompt", "input", "instructions")
_DEFAULTS = "/v1/completions"  # has a default of its own, of a few tokens


class Asked:
    """The settings' limits of one request."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._chars = settings.max_prompt_chars
        self._tokens = settings.max_output_tokens
        self._choices = settings.max_choices

    def check(self, body: Mapping[str, Any]) -> None:
        """Raises 400 for a body that asks for more."""
        for name, most in (*((name, self._tokens) for name in _TOKENS), *((name, self._choices) for name in _CHOICES)):
            wanted = body.get(name)
            if most is not None and isinstance(wanted, int) and wanted > most:
                raise _refused(f"'{name}' is {wanted:,}; this gateway gives at most {most:,}", name)
        if self._chars is None:
            return
        for name in _TEXTS:
            found = sum(len(text) for text in _texts(body.get(name)))
            if found > self._chars:
                raise _refused(f"'{name}' has {found:,} characters; this gateway reads at most {self._chars:,}", name)

    def capped(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the engine is asked: with the most tokens where nobody named any, or an assistant named more."""
        if self._tokens is None:
            return body
        named = [name for name in _TOKENS if isinstance(body.get(name), int)]
        if not named:
            return body if path == _DEFAULTS else body | {"max_tokens": self._tokens}
        return body | {name: min(body[name], self._tokens) for name in named}


def _texts(value: Any) -> Iterator[str]:
    """All texts in a list of messages, of parts, or of prompts; what is no text is the engine's to judge."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one.get("content", one.get("text")) if isinstance(one, dict) else one)


def _refused(message: str, param: str) -> ApiError:
    return ApiError(400, message, code="too_much_asked", param=param)
