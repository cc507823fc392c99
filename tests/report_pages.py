"""What the tests of pages on disk share: what a page is made of, and how it opens in a browser."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Request

_SCREENS: tuple[tuple[int, Any], ...] = ((1280, "light"), (390, "dark"))


class Tags(HTMLParser):
    """What a page is made of, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        places = [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        self.fetched += [place for place in places if not place.startswith("#")]


def text_of(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>", " ", html)).split())


def opened_offline(browser: Browser, path: Path, folded: str) -> list[str]:
    """What a page does without a network, wide and narrow, once something `folded` (a selector) is unfolded: what it
    asks for (itself, twice), what the console says, where it is wider than the screen."""
    seen: list[str] = []

    def asks(request: Request) -> None:
        seen.append(request.url)

    def complains(message: ConsoleMessage) -> None:
        seen.append(message.text)

    for width, scheme in _SCREENS:
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("request", asks)
        page.on("console", complains)
        page.goto(f"file://{path}")
        page.locator(folded).first.click()
        if (found := page.evaluate("document.documentElement.scrollWidth")) > width:
            seen.append(f"{found} pixels wide on a screen of {width}")
        context.close()
    return seen
