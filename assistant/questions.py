"""What a conversation asks: its last question, one that stands alone, and what is small talk and no question at all."""

from collections.abc import Mapping, Sequence
from typing import Any

from assistant.claims import words

Messages = Sequence[Mapping[str, Any]]

SHORT = 3  # words; what has fewer and finds nothing is small talk
_FOLLOW_UP = 5  # words; what has fewer leans on what was said before
# Words that point at something said before; English and German.
_POINTING_WORDS = """it its they them their theirs he him his she her hers this that these those one ones there same
such also else er sie es ihn ihm ihr ihnen dies diese dieser dieses das davon dafür damit darüber dort auch sonst"""
# A text that has only such words asks nothing that documents could answer; English and German.
_SMALL_TALK_WORDS = """a am and are be bye can cheers could day do evening fine for goodbye good great have hello help
helped hey hi how i i'm im is just me morning my name nice night no ok okay please so sure thank thanks that
that's the there to today very welcome well what what's who with yes you your you're
bin bist danke dank dein du dir gut guten tag hallo helfen heißt ich ja kannst mir morgen abend moin nein tschüss
servus schön schönen vielen was wer wie geht's"""
_POINTING, _SMALL_TALK = frozenset(words(_POINTING_WORDS)), frozenset(words(_SMALL_TALK_WORDS))


def last_question(messages: Messages) -> str:
    """The text of the last user message; empty if there is none."""
    return next((text_of(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")


def stand_alone(messages: Messages) -> str:
    """The last question; where it leans on the one before, both, the earlier one first.

    It leans if it is short or points at something ("it", "those"). No model takes part.
    """
    asked = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    if len(asked) < 2:
        return last_question(messages)
    found = words(asked[-1])
    leans = len(found) < _FOLLOW_UP or not _POINTING.isdisjoint(found)
    return f"{asked[-2]}\n{asked[-1]}" if leans else asked[-1]


def is_small_talk(text: str) -> bool:
    """Whether a text greets, thanks, or asks the assistant about itself."""
    return _SMALL_TALK.issuperset(words(text))


def is_short(text: str) -> bool:
    """Whether a text has fewer words than a question needs."""
    return len(words(text)) < SHORT


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or OpenAI's list of parts."""
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str)).strip()
    return content.strip() if isinstance(content, str) else ""
