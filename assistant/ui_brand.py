"""An assistant's brand on the page: its name, colour and greeting as HTML and CSS variables.

Colours come from the assistants' definitions, so they are checked and made readable here: text on the brand colour is
black or white, and the brand colour as text is mixed with either until it stands out from the page.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Any

DEFAULT_COLOUR = "#3f5e8c"
LIGHT_PAGE, DARK_PAGE = "#ffffff", "#1b1c1f"
READABLE = 4.5  # contrast of normal text, WCAG 2.2 AA
HINT = "Answers can be wrong. Check what matters."
KEPT = {  # the gateway's `logging`, for visitors
    "full": "Conversations are kept, so that the answers can get better.",
    "redacted": "Conversations are kept without e-mail addresses, telephone and card numbers.",
    "off": "Conversations are not kept, only whether an answer helped.",
}

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Voice:
    """An assistant as the page presents it."""

    id: str
    title: str
    colour: str = DEFAULT_COLOUR
    description: str = ""
    greeting: str = ""
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Voice":
        """From an entry of the gateway's list; what the brand leaves open gets a default."""
        brand = entry.get("brand") or {}
        colour = str(brand.get("colour") or "")
        return cls(
            id=entry["id"],
            title=str(brand.get("title") or entry["id"]),
            colour=colour if re.fullmatch("#[0-9a-fA-F]{6}", colour) else DEFAULT_COLOUR,
            description=str(entry.get("description") or ""),
            greeting=str(brand.get("greeting") or "Hello. What can I do for you?"),
            examples=tuple(map(str, brand.get("examples") or ())),
        )


def brand_variables(colour: str) -> str:
    """CSS declarations: the brand colour, text on it, and the brand colour as text on a light and a dark page."""
    on_brand = max(("#ffffff", "#16181d"), key=lambda ink: contrast(ink, colour))
    return (
        f"--brand:{colour};--on-brand:{on_brand};"
        f"--accent-light:{_readable(colour, LIGHT_PAGE)};--accent-dark:{_readable(colour, DARK_PAGE)};"
    )


def contrast(one: str, other: str) -> float:
    """How far two colours stand out from each other, 1 to 21, as WCAG 2.2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def page_header(voice: Voice | None) -> str:
    """The chat's header in the assistant's brand, which also gives the whole page its colour."""
    if voice is None:
        return ""
    return (
        # Twice :root, to weigh as much as the style sheet's own defaults, which come earlier.
        f'<style>:root:root{{{brand_variables(voice.colour)}}}</style><header class="badge">{_mark(voice)}'
        f"<div><h1>{escape(voice.title)}</h1><p>{escape(voice.description)}</p></div></header>"
    )


def card_mark(voice: Voice | None) -> str:
    """The mark of one assistant among others, in its own colour."""
    return f'<div style="{brand_variables(voice.colour)}">{_mark(voice)}</div>' if voice else ""


def welcome(voice: Voice | None) -> str:
    """What an empty chat says."""
    return f'<div class="welcome">{escape(voice.greeting)}</div>' if voice else ""


def hint(logging: str = "") -> str:
    """Under the chat: what a visitor should know."""
    return f'<p class="{"not-kept" if logging == "off" else "kept"}">{HINT} {KEPT.get(logging, "")}</p>'


def notice(text: str) -> str:
    """Something that the page itself has to say."""
    return f'<div class="notice" role="status">{escape(text)}</div>'


def asked(question: str) -> str:
    """The question above the answers to it."""
    return f"<p>{escape(question)}</p>"


def waiting() -> str:
    """An answer that has not begun."""
    return '<div class="waiting" role="status" aria-label="The answer is being written"><i></i><i></i><i></i></div>'


def empty_state(problem: str | None) -> str:
    """What stands there instead of the chat when there is nobody to talk to."""
    if problem:
        title, text = "The assistants cannot be reached right now", f"What the page was told: {problem.rstrip('.')}."
        step = "Reload this page in a minute. If it stays like this, tell whoever looks after Brogue what it says here."
    else:
        title, text = "There is no assistant here yet", "Nobody has set one up."
        step = (
            "Whoever looks after Brogue adds one as a file in its <code>assistants</code> folder; "
            "<code>brogue up</code> makes two examples to start from. Then reload this page."
        )
    return (
        f'<div class="nobody" role="status"><h1>{title}</h1><p>{escape(text)}</p><p>{step}</p>'
        '<p><a href="">Reload this page</a></p></div>'
    )


def _mark(voice: Voice) -> str:
    initial = voice.title.split("·")[-1].strip()[:1].upper()
    return f'<span class="mark" aria-hidden="true">{escape(initial)}</span>'


def _rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _readable(colour: str, page: str) -> str:
    """`colour`, mixed with black on a light page and with white on a dark one as far as it takes to be read."""
    target = 0.0 if _luminance(page) > 0.5 else 1.0
    mixed = colour
    for step in range(1, 21):
        if contrast(mixed, page) >= READABLE:
            break
        mixed = "#" + "".join(f"{round((c + (target - c) * step / 20) * 255):02x}" for c in _rgb(colour))
    return mixed
