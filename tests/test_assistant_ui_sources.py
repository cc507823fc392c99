"""Sources under an answer and the tab Knowledge: with a browser against a scripted gateway, and as plain functions."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from assistant.ui_answers import conversation
from assistant.ui_knowledge import found_html, nothing
from assistant.ui_passages import passage_html, place, taken_from
from assistant.ui_sources import sources_html, verdict
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, served, wait_until

PHONE = {"width": 390, "height": 844}
RETURNS = (
    "- If the item is faulty, or if we sent the wrong one, the label is free.\n"
    "- In every other case the label costs £3.50, which we take from the refund.\n"
    "- One label covers one parcel of up to 10 kg, with any number of items."
)
LIMITS = "| Item | Time limit |\n| --- | --- |\n| Hand tools | **60 days** |\n| Seed packets | 30 days |\n\nSee below."


def passage(number: int, text: str, section: str, **more: Any) -> dict[str, Any]:
    where = {"source": "shop/returns.md", "title": "Returns and refunds", "section": section, "page": None}
    return {"number": number, "id": f"id-{number}", "start": 0, "end": len(text), "text": text, "score": 0.5,
            **where, **more}  # fmt: skip


def sentence(answer: str, text: str, support: str, passage: int | None = None, **more: Any) -> dict[str, Any]:
    start = answer.index(text)
    return {"start": start, "end": start + len(text), "support": support, "passage": passage,
            "missing": [], "wrong": [], "unknown": [], **more}  # fmt: skip


PASSAGES = [
    passage(1, RETURNS, "Returns and refunds > Who pays for postage"),
    passage(2, LIMITS, "Returns and refunds", page=3),
    passage(3, "<b>Cake</b> is vegetarian.", "", title="Workshops", source="shop/workshops.md"),
]
ANSWER = (
    "Good question! The label costs £3.50, which we take from the refund [1]. You have **60 days** for hand tools.\n\n"
    "1. Take it to any *post office* in Wales [2].\n2. Keep the receipt."
)
SENTENCES = [
    sentence(ANSWER, "Good question!", "no claim"),
    sentence(ANSWER, "The label costs £3.50, which we take from the refund [1].", "cited", 1),
    sentence(ANSWER, "You have **60 days** for hand tools.", "attributed", 2),
    sentence(ANSWER, "1. Take it to any *post office* in Wales [2].", "unsupported", missing=["Wales"], wrong=[2]),
    sentence(ANSWER, "2. Keep the receipt.", "unsupported"),
]
CHECKED = {
    "passages": PASSAGES, "declined": False, "confidence": 0.6, "groundedness": 0.5, "sentences": SENTENCES,
}  # fmt: skip
DECLINED = {"passages": [], "declined": True, "confidence": 0.1, "groundedness": None, "sentences": []}


@pytest.fixture(scope="module")
def gateway_and_page() -> Iterator[tuple[ScriptedGateway, str]]:
    from assistant.ui import build_app
    from assistant.ui_people import People

    gateway = ScriptedGateway()
    with (
        served(gateway.build_app()) as gateway_url,
        served(build_app(People(gateway_url, ADMIN_KEY))) as url,
    ):
        yield gateway, url


@pytest.fixture
def gateway(gateway_and_page: tuple[ScriptedGateway, str]) -> ScriptedGateway:
    gateway = gateway_and_page[0]
    gateway.reset()
    gateway.text, gateway.checked = ANSWER, CHECKED
    return gateway


@pytest.fixture
def url(gateway: ScriptedGateway, gateway_and_page: tuple[ScriptedGateway, str]) -> str:
    assert gateway.adapters, "it was reset"
    return gateway_and_page[1]


def ask(page: Page, url: str, question: str = "Who pays?") -> Any:
    """Ask in a new page; gives the sources that will stand under the answer."""
    page.goto(url)
    page.locator("#chat .example").first.wait_for()
    return ask_again(page, question)


def was_rated(gateway: ScriptedGateway, times: int) -> bool:
    return len(gateway.ratings) == times


def ask_again(page: Page, question: str) -> Any:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send", exact=True).wait_for()
    return page.locator("#chat .sources").last


# --- under an answer ---


@pytest.mark.browser
def test_a_card_opens_at_the_passage_with_what_was_taken_from_it_marked(page: Page, url: str) -> None:
    sources = ask(page, url)
    expect(sources.locator(".verdict")).to_contain_text("Partly from the documents. 2 of 4 sentences")
    card = sources.locator("details.card").filter(has_text="Who pays for postage")
    expect(card.locator(".passage")).to_be_hidden()
    card.locator("summary").click()
    expect(card.locator("mark")).to_have_text(
        "• In every other case the label costs £3.50, which we take from the refund."
    )
    expect(card).to_contain_text("The answer names this source")
    table = sources.locator("details.card").filter(has_text="page 3")
    table.locator("summary").click()
    expect(table.locator("tr.hit")).to_have_text(re.compile("Hand tools.*60 days"))
    expect(table).to_contain_text("The answer does not name this source. Comparing the texts, it was found here.")


@pytest.mark.browser
def test_sentences_without_support_are_underlined_and_said_to_screen_readers(page: Page, url: str) -> None:
    ask(page, url)
    answer = page.locator("#chat [data-testid=bot]").first
    marked = answer.locator(".unsupported")
    expect(marked).to_have_count(4)  # the first sentence is in three pieces of Markdown
    expect(marked.first).to_have_text("Take it to any ")
    assert "not found in the documents: Wales" in marked.nth(2).inner_text()
    expect(marked.last).to_contain_text("Keep the receipt (not found in the documents)")
    expect(answer.get_by_text("Good question!")).not_to_have_class("unsupported")


@pytest.mark.browser
def test_citations_in_the_answer_open_their_cards_and_wrong_ones_are_struck_through(page: Page, url: str) -> None:
    sources = ask(page, url)
    page.get_by_role("button", name="Cited: source 1").click()
    first = sources.locator("[data-n='1'] summary")
    expect(first).to_be_focused()
    expect(sources.locator("[data-n='1'] .passage")).to_be_visible()
    page.get_by_role("button", name="Matched afterwards: source 2").click()
    expect(sources.locator("[data-n='2'] .passage")).to_be_visible()
    expect(page.get_by_role("button", name="Cited, but it does not say this: source 2")).to_have_text("[2]")


@pytest.mark.browser
def test_the_conversation_that_is_sent_and_the_copy_are_the_answer_as_it_was_written(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    sources = ask(page, url)
    assert sources.locator("button.copy").get_attribute("data-text").strip() == ANSWER
    ask_again(page, "And then?")
    expect(page.locator("#chat .sources")).to_have_count(2)
    roles = [(m["role"], m["content"].strip()) for m in gateway.bodies[-1]["messages"]]
    assert roles == [("user", "Who pays?"), ("assistant", ANSWER), ("user", "And then?")]
    expect(page.locator("#chat .unsupported")).to_have_count(8)


@pytest.mark.browser
def test_a_conversation_that_is_come_back_to_has_its_sources_and_its_blame(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    expect(ask(page, url)).to_be_visible()
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.get_by_role("radio", name="Shop · Fern").check(force=True)
    expect(page.get_by_text("fern greets")).to_be_visible()
    expect(page.get_by_role("button", name="Not helpful")).to_be_hidden()
    page.get_by_role("radio", name="Shop · Reed").check(force=True)
    expect(page.locator("#chat .sources .verdict")).to_contain_text("Partly from the documents")
    expect(page.locator("#chat .unsupported")).to_have_count(4)
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_role("checkbox", name="Wrong source").check(force=True)
    expect(page.get_by_text("Thank you.")).to_be_visible()
    wait_until(lambda: len(gateway.ratings) == 2, "the reason")
    page.get_by_role("radio", name="Shop · Fern").check(force=True)
    expect(page.get_by_text("Thank you.")).to_be_hidden()
    page.get_by_role("radio", name="Shop · Reed").check(force=True)
    expect(page.get_by_role("checkbox", name="Wrong source")).to_be_checked()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Thank you.")).to_be_hidden()
    expect(page.locator("#chat .unsupported")).to_have_count(4)
    assert [m["role"] for m in gateway.bodies[-1]["messages"]] == ["user"]


@pytest.mark.browser
def test_the_wrong_source_or_the_right_one_with_a_wrong_answer_is_said_and_taken_back(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    ask(page, url)
    page.get_by_role("button", name="Not helpful").click()
    wrong = page.get_by_role("checkbox", name="Wrong source")
    other = page.get_by_role("checkbox", name="Right source, wrong answer")
    for number, box in enumerate((wrong, other, wrong), 2):
        box.click(force=True)
        wait_until(partial(was_rated, gateway, number), "the reasons")
    expect(wrong).not_to_be_checked()
    said = [(r["rating"], r["reasons"]) for r in gateway.ratings]
    one, both = ["wrong-source"], ["wrong-source", "right-source-wrong-answer"]
    assert said == [(-1, []), (-1, one), (-1, both), (-1, both[1:])]


@pytest.mark.browser
def test_where_the_documents_are_silent_the_page_says_so_and_no_model_is_named(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.text, gateway.checked, gateway.version = "My documents do not say.", DECLINED, "none"
    sources = ask(page, url)
    expect(sources).to_contain_text("Not found in the documents. So no answer was made up.")
    expect(page.get_by_text("No model was asked.")).to_be_visible()
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_role("checkbox", name="Wrong", exact=True)).to_be_visible()
    expect(page.get_by_role("checkbox", name="Wrong source")).to_have_count(0)


@pytest.mark.browser
def test_an_answer_without_documents_has_no_sources_and_nothing_to_blame(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.text = gateway.checked = None
    ask(page, url, "hello")
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_role("checkbox", name="Wrong", exact=True)).to_be_visible()
    expect(page.get_by_role("checkbox", name="Wrong source")).to_have_count(0)
    expect(page.locator(".sources")).to_have_count(0)


@pytest.mark.browser
def test_a_comparison_shows_the_sources_of_both_answers(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=compare")
    page.locator("#left .mark").wait_for()
    page.get_by_label("Your question").fill("Who pays?")
    page.keyboard.press("Enter")
    for side in ("left", "right"):
        expect(page.locator(f"#{side} .sources .verdict")).to_contain_text("Partly from the documents")
        expect(page.locator(f"#{side} .answer .unsupported")).to_have_count(4)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_sources_and_documents_without_scrolling_sideways(
    browser: Browser, gateway: ScriptedGateway, url: str, scheme: Any
) -> None:
    long = "w" * 300
    wide = passage(1, f"| {long} | {long} |\n| --- | --- |\n| a | b |\n\n{long}", long, source=long)
    gateway.checked = CHECKED | {"passages": [wide, *PASSAGES[1:]]}
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    sources = ask(page, url)
    sources.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.goto(f"{url}/?tab=knowledge")
    page.locator("#knowledge table").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


# --- the tab Knowledge ---


@pytest.mark.browser
def test_the_documents_are_listed_and_a_search_shows_what_would_be_answered_from(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=knowledge")
    expect(page.locator("#knowledge")).to_contain_text("2 documents, 2 passages")
    expect(page.locator("#knowledge tbody tr").first).to_contain_text("shop/returns.md")
    page.get_by_label("A question to try").fill("When is my refund there?")
    page.keyboard.press("Enter")
    expect(page.locator("#found .verdict")).to_contain_text("The assistant would answer from these passages")
    expect(page.locator("#found .hit")).to_have_count(2)
    expect(page.locator("#found .hit").first).to_contain_text("Returns › Plants")


@pytest.mark.browser
def test_without_documents_the_tab_says_how_to_add_some(page: Page, gateway: ScriptedGateway, url: str) -> None:
    gateway.has_documents = False
    page.goto(f"{url}/?tab=knowledge")
    expect(page.locator("#knowledge")).to_contain_text("brogue knowledge add ASSISTANT FOLDER")
    expect(page.get_by_label("A question to try")).to_be_hidden()


# --- plain functions ---


def test_what_documents_say_cannot_become_markup() -> None:
    html = sources_html(CHECKED, ANSWER)
    assert "&lt;b&gt;Cake" in html
    assert "<b>" not in html
    hostile = passage(1, "x", "<script>", title="<img src=x>", source="'\"><script>")
    html = sources_html(CHECKED | {"passages": [hostile, *PASSAGES[1:]]}, ANSWER)
    assert "<script" not in html
    assert "<img" not in html
    found = {"hits": [{**hostile, "cosine": None, "bm25": None, "same": ["<i>"]}], "ms": {}, "declined": True,
             "confidence": 0.1, "decline_by": "cosine", "decline_below": 0.3, "question": "<u>"}  # fmt: skip
    assert not re.search("<(script|img|i|u)\\b", found_html(found))
    assert "brogue knowledge add" in nothing()


def test_only_passages_that_support_a_sentence_stand_in_front() -> None:
    front, others = sources_html(CHECKED, ANSWER).split('class="others"')
    assert re.findall('data-n="(.)"', front) == ["1", "2"]
    assert re.findall('data-n="(.)"', others) == ["3"]
    assert sources_html(DECLINED | {"declined": False}, "Hello!") == "", "a greeting has no sources"


@pytest.mark.parametrize(
    ("supports", "words"),
    [
        (["cited", "attributed", "no claim"], "From the documents"),
        (["cited", "unsupported", "no claim"], "1 of 2 sentences, underlined with dots, was not found"),
        (["unsupported", "no claim"], "Not found in the documents. Check the answer"),
        (["no claim"], "Nothing to check"),
        ([], "Not checked"),
    ],
)
def test_the_verdict_says_how_much_of_the_answer_the_documents_say(supports: list[str], words: str) -> None:
    found = [{"support": support} for support in supports]
    assert words in re.sub("<.*?>", "", verdict({"declined": False, "sentences": found}))


def test_the_place_of_a_passage_names_title_headings_and_page_once() -> None:
    assert place(PASSAGES[0]) == "Returns and refunds › Who pays for postage"
    assert place(PASSAGES[1]) == "Returns and refunds, page 3"
    assert place(PASSAGES[2]) == "Workshops"


def test_a_passage_shows_tables_lists_and_headings_and_marks_what_was_taken() -> None:
    text = "## Limits\n\n" + LIMITS + "\n\n- one\n  more of one\n- two"
    html = passage_html(text, taken_from(text, ["Hand tools: within 60 days."]))
    assert '<p class="heading">Limits</p>' in html
    assert '<tr class="hit"><td>Hand tools</td><td>60 days</td></tr>' in html
    assert "---" not in html
    assert html.count("hit") == 1
    assert '<p class="item">• one more of one</p>' in re.sub(" +", " ", html)
    assert taken_from(text, ["Nothing of the kind exists."]) == []


def test_components_are_no_part_of_the_conversation() -> None:
    content = [{"type": "text", "text": ANSWER}, {"type": "component", "component": "html", "value": "<p>x</p>"}]
    assert conversation([{"role": "assistant", "content": content}]) == [{"role": "assistant", "content": ANSWER}]
