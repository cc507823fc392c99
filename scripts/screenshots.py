"""Pictures of the running page for the documentation: chat, correction, compare, rank; on a wide screen and a phone.

    python -m scripts.screenshots http://127.0.0.1:7860 docs/images

Asks the page's own first example, so it needs the gateway and the engine behind it, and nobody may have to sign in.
The picture of ranking needs a queue (`brogue feedback queue`). Uses the system's Chromium; nothing is rated or kept.
"""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import Page, TimeoutError, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
ANSWER_MS = 180_000  # milliseconds; a busy machine without a GPU takes its time


def main() -> None:
    """Take the pictures and print where they are."""
    parser = argparse.ArgumentParser(description="Take pictures of the running page.")
    parser.add_argument("page_url")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            ask_in_chat(page, options.page_url)
            _save(page, options.out / f"chat-{size}.png")
            begin_to_correct(page)
            _save(page, options.out / f"correct-{size}.png")
            ask_in_compare(page, options.page_url)
            _save(page, options.out / f"compare-{size}.png")
            if open_a_turn(page, options.page_url):
                _save(page, options.out / f"rank-{size}.png")
            page.close()
        browser.close()


def ask_in_chat(page: Page, url: str) -> None:
    """Open the chat, click the first example and wait for the whole answer."""
    page.goto(url)
    page.locator("#chat .example").first.click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Send").wait_for(timeout=ANSWER_MS)


def begin_to_correct(page: Page) -> None:
    """Open the editor for the answer in the chat and change its first word."""
    page.get_by_role("button", name="Correct this answer").click()
    box = page.get_by_label("The answer as it should be")
    box.fill(f"Good to hear from you! {box.input_value().partition(' ')[2]}")
    page.get_by_role("group", name="Your changes").wait_for()


def open_a_turn(page: Page, url: str) -> bool:
    """Open the rater's next turn and wait for its answers; False if there is none."""
    page.goto(f"{url.rstrip('/')}/?tab=rank")
    try:
        page.locator(".rank-card").first.wait_for(timeout=10_000)
    except TimeoutError:
        print("no picture of ranking: make a queue first (brogue feedback queue)", file=sys.stderr)
        return False
    page.locator(".rank-card:not([aria-label*='being written'])").last.wait_for(timeout=ANSWER_MS)
    return True


def ask_in_compare(page: Page, url: str) -> None:
    """Open the comparison, click the first example and wait for both answers."""
    page.goto(f"{url.rstrip('/')}/?tab=compare")
    page.locator("#tab-compare .examples button").first.click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Ask both").wait_for(timeout=ANSWER_MS)


def _save(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)  # no hover effect in the picture
    page.screenshot(path=path, animations="disabled")
    print(path)


if __name__ == "__main__":
    main()
