"""What can be told of one text: its language, secrets and personal data in it, foul words, an end that was cut off."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from data.errors import one_line
from data.personal import find_personal

UNDETERMINED = "undetermined"
MIN_CONFIDENCE = 0.5  # below, a language is not named: "refund" alone would be Swahili
MIN_LETTERS = 10
LANGUAGE_CHARACTERS = 250  # more of a text does not change its language
EXCERPT = 100  # characters

# Nothing that data/personal.py or detect-secrets knows is without a digit, an "@", or twenty characters in a row: most
# texts of people are, and cost nothing then.
_WORTH_A_LOOK = re.compile(r"[\d@]|[\[(]\s?at\s?[\])]|\S{20}|PRIVATE KEY|://|_authToken", re.IGNORECASE)
# These of detect-secrets' patterns speak of something else, or of ordinary words.
_NOT_USED = ("Public IP (ipv4)", "Artifactory Credentials")
_FOUL_TOKEN = re.compile(r"[\w$@*-]+")
_LIST_ITEM = re.compile(r"\s*(?:[-*•#>|]|\d+[.)])")
_SENTENCE_END = re.compile(r"[.!?…。！？]")
_NO_ANSWER = re.compile(r"\W*(?:n/?a|none|null|nan|todo|tbd|xxx+|\.\.\.)?\W*", re.IGNORECASE)


class Sensitive(NamedTuple):
    """text[start:end] is of this kind: SECRET, EMAIL, PHONE, …"""

    kind: str
    start: int
    end: int


def language(text: str) -> str:
    """The ISO 639 code of the language of `text`, or UNDETERMINED where it is too short or too unclear."""
    text = text[:LANGUAGE_CHARACTERS]
    # A Chinese or Japanese sign says as much as three letters.
    if sum((3 if c >= "\u3040" else 1) for c in text if c.isalpha()) < MIN_LETTERS:
        return UNDETERMINED
    code, confidence = _identifier().classify(text)
    # zxx is what the model calls text without a language.
    return str(code) if confidence >= MIN_CONFIDENCE and code != "zxx" else UNDETERMINED


def sensitive(text: str) -> list[Sensitive]:
    """Secrets and personal data in `text`, in its order, without overlaps."""
    if not _WORTH_A_LOOK.search(text):
        return []
    found = [Sensitive(*span) for span in find_personal(text)]
    keys = [Sensitive("SECRET", *match.span()) for pattern in _key_patterns() for match in pattern.finditer(text)]
    done: list[Sensitive] = []
    for span in sorted([*keys, *found], key=lambda s: (s.start, -s.end)):
        if not done or span.start >= done[-1].end:
            done.append(span)
    return done


def masked(text: str, spans: list[Sensitive]) -> str:
    """`text` without what is sensitive in it: [EMAIL], and of a secret its first four characters."""
    parts, end = [], 0
    for span in spans:
        hint = f" {text[span.start : span.start + 4]}…" if span.kind == "SECRET" and span.end - span.start > 12 else ""
        parts += [text[end : span.start], f"[{span.kind}{hint}]"]
        end = span.end
    return "".join(parts) + text[end:]


def excerpt(text: str, around: int = 0) -> str:
    """The beginning of `text` (or what is around a position) as one short line that may stand in a report."""
    start = max(0, around - EXCERPT // 2)
    spans = sensitive(text)
    if spans and start:
        start = min([start, *(s.start for s in spans if s.start <= start < s.end)])  # never half a secret
    shown = masked(text[start:], [Sensitive(s.kind, s.start - start, s.end - start) for s in spans if s.start >= start])
    return one_line(("…" if start else "") + shown, EXCERPT)


def foul_words(text: str) -> list[str]:
    """Words of better-profanity's list (English) that `text` holds; phrases of up to three words too."""
    tokens = _FOUL_TOKEN.findall(text.casefold())
    listed, beginnings = _foul_list()
    return [
        phrase
        for place in range(len(tokens))
        if tokens[place] in beginnings
        for phrase in _phrases(tokens, place)
        if phrase in listed
    ]


def is_no_answer(text: str) -> bool:
    """Whether an answer says nothing: signs only, "n/a", "None", "todo"."""
    return len(text) < 40 and _NO_ANSWER.fullmatch(text) is not None and not re.search(r"\d", text)


def surely_cut(answer: str) -> bool:
    """Whether an answer breaks off: at a comma, a dash or an opened bracket, or inside a block of code."""
    end = answer.rstrip()
    return len(end.split()) >= 20 and (end[-1] in ",;(-–—" or end.count("```") % 2 == 1)


def maybe_cut(answer: str) -> bool:
    """Whether a text of whole sentences ends inside one: no closing sign, and its last line is neither short (a name
    under a letter) nor an item of a list."""
    end = answer.rstrip()
    last = end.rsplit("\n", 1)[-1]
    return (
        end[-1:].isalpha()
        and end[-1] < "\u3040"  # Chinese and Japanese often end without a sign
        and len(end.split()) >= 40
        and len(last.split()) >= 8
        and not _LIST_ITEM.match(last)
        and "://" not in last.rsplit(" ", 1)[-1]
        and len(_SENTENCE_END.findall(end)) >= 3
    )


def _phrases(tokens: list[str], place: int) -> Iterator[str]:
    return (" ".join(tokens[place : place + size]) for size in range(1, min(3, len(tokens) - place) + 1))


@cache
def _foul_list() -> tuple[frozenset[str], frozenset[str]]:
    """The words and phrases of the list, and their first words."""
    # Only the list: the package's own search takes a tenth of a second for an answer.
    from importlib.resources import files

    listed = (files("better_profanity") / "profanity_wordlist.txt").read_text(encoding="utf-8")
    words = frozenset(word.strip().casefold() for word in listed.splitlines() if word.strip())
    return words, frozenset(word.split()[0] for word in words)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _key_patterns() -> tuple["re.Pattern[str]", ...]:
    """detect-secrets' patterns of keys and tokens. Its guesses by entropy are left out: in prose they are words."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    plugins: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return tuple(
        pattern
        for name, plugin in sorted(plugins.items())
        if name not in _NOT_USED and issubclass(plugin, RegexBasedDetector)
        for pattern in plugin().denylist
    )
