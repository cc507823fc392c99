"""What a prompt needs to know of the base model: how long a text is in its tokens, and how much it reads at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.passage_prompt import Count, budget

_ANSWER = 512  # tokens kept for the answer where nobody says how long it may be
_PER_MESSAGE = 8  # tokens of the chat template around a message, a cautious guess
_OWN_SYSTEM = 32  # tokens of a chat template's own system message, which stands there where we give none


@dataclass(frozen=True)
class BaseFacts:
    """What the prompt needs to know of the base model."""

    count: Count
    context_length: int  # tokens, of the engine
    template_tokens: tuple[str, ...] = ()

    def taken(self, texts: Iterable[str]) -> int:
        """The tokens of messages with these texts, with what the chat template puts around each."""
        return sum(self.count(text) + _PER_MESSAGE for text in texts)

    def room(self, system: str | None, texts: Iterable[str], body: Mapping[str, Any]) -> int:
        """The tokens that are free beside a system message, messages with these texts, and the answer to `body`."""
        prompt = self.taken([system or "", *texts]) + (0 if system else _OWN_SYSTEM)
        return budget(self.context_length, prompt, _answer_tokens(body, self.context_length))


def _answer_tokens(body: Mapping[str, Any], context_length: int) -> int:
    """The tokens that the answer may have."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return asked if isinstance(asked, int) and asked > 0 else min(_ANSWER, context_length // 4)
