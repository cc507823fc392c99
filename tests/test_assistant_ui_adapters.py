"""The tab Adapters and the line under the chat: with a browser against a scripted gateway, and as plain functions."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from assistant.client import Source
from assistant.ui_versions import Plan, adapters_html
from tests.scripted_gateway import ScriptedGateway, adapter, served, served_page

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def gateway_and_page() -> Iterator[tuple[ScriptedGateway, str]]:
    with served_page() as both:
        yield both


@pytest.fixture
def gateway(gateway_and_page: tuple[ScriptedGateway, str]) -> ScriptedGateway:
    gateway_and_page[0].reset()
    return gateway_and_page[0]


@pytest.fixture
def url(gateway: ScriptedGateway, gateway_and_page: tuple[ScriptedGateway, str]) -> str:
    assert gateway.adapters, "it was reset"
    return gateway_and_page[1]


def open_adapters(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=adapters")
    page.get_by_role("heading", name="reed-voice", exact=True).wait_for()


def open_chat(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("reed greets").wait_for()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


# --- the tab ---


@pytest.mark.browser
def test_promoting_asks_first_naming_both_versions(page: Page, gateway: ScriptedGateway, url: str) -> None:
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 3 of reed-voice").click()
    question = page.get_by_role("alertdialog", name="Promote version 3 in place of version 2?")
    expect(question).to_be_visible()
    assert not gateway.admin_requests, "nothing is moved before the confirmation"
    question.get_by_role("button", name="Promote version 3").click()
    expect(page.get_by_text("reed-voice: version 3 is stable now.")).to_be_visible()
    expect(page.locator("#adapters li").filter(has_text="Version 3").locator(".tag")).to_have_text("stable")
    assert gateway.admin_requests == [
        ("PUT", "reed-voice/aliases/stable", {"version": 3, "who": "page", "why": "promoted"})
    ]


@pytest.mark.browser
def test_promoting_what_failed_its_exam_says_so_and_takes_another_word(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    rule = {"rule": "safety.* not_worse", "result": "fail", "because": "safety.rude is 0.400 against 0.010"}
    gateway.adapters["reed-voice"]["versions"][2]["verdict"] = {"result": "fail", "rules": [rule]}
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 3 of reed-voice").click()
    expect(page.get_by_text("It failed its exam: safety.rude is 0.400 against 0.010.")).to_be_visible()
    page.get_by_role("button", name="Promote version 3 all the same").click()
    expect(page.get_by_text("reed-voice: version 3 is stable now.")).to_be_visible()
    body = {"version": 3, "who": "page", "why": "promoted", "force": True}
    assert gateway.admin_requests == [("PUT", "reed-voice/aliases/stable", body)]


@pytest.mark.browser
def test_rolling_back_asks_first_and_can_be_left_alone(page: Page, gateway: ScriptedGateway, url: str) -> None:
    open_adapters(page, url)
    page.get_by_role("button", name="Roll back to version 1 of reed-voice").click()
    page.get_by_role("button", name="Keep version 2").click()
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    assert not gateway.admin_requests
    page.get_by_role("button", name="Roll back to version 1 of reed-voice").click()
    question = page.get_by_role("alertdialog", name="Roll back to version 1 in place of version 2?")
    question.get_by_role("button", name="Roll back to version 1").click()
    expect(page.get_by_text("reed-voice: version 1 is stable now.")).to_be_visible()
    assert gateway.admin_requests == [("POST", "reed-voice/rollback", {"who": "page", "why": "rolled back"})]


@pytest.mark.browser
def test_the_question_takes_the_keyboard(page: Page, url: str) -> None:
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 1 of reed-voice").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Promote version 1", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("reed-voice: version 1 is stable now.")).to_be_visible()


@pytest.mark.browser
def test_a_double_click_on_the_answer_moves_once_and_alarms_nobody(page: Page, url: str) -> None:
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 1 of reed-voice").click()
    page.get_by_role("button", name="Promote version 1", exact=True).dblclick()
    expect(page.get_by_text("reed-voice: version 1 is stable now.")).to_be_visible()
    page.wait_for_timeout(1000)  # for what a second click could still say
    expect(page.get_by_text("reed-voice: version 1 is stable now.")).to_be_visible()


@pytest.mark.browser
def test_a_version_that_the_gateway_refuses_is_told_and_the_old_one_stays(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.adapters["reed-voice"]["versions"][3]["status"] = "idle"  # nobody has tried it yet
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 4 of reed-voice").click()
    page.get_by_role("button", name="Promote version 4", exact=True).click()
    said = "Version 4 of reed-voice was not made stable: reed-voice@4: rank 64. Version 2 goes on answering."
    expect(page.get_by_text(said)).to_be_visible()


@pytest.mark.browser
def test_a_change_by_somebody_else_meanwhile_is_not_overwritten(page: Page, gateway: ScriptedGateway, url: str) -> None:
    open_adapters(page, url)
    page.get_by_role("button", name="Promote version 1 of reed-voice").click()
    gateway.adapters["reed-voice"]["aliases"] = {"stable": 3}
    page.get_by_role("button", name="Promote version 1", exact=True).click()
    expect(page.get_by_text("reed-voice was changed by somebody else meanwhile.")).to_be_visible()
    assert not gateway.admin_requests


@pytest.mark.browser
def test_refresh_shows_what_has_changed(page: Page, gateway: ScriptedGateway, url: str) -> None:
    open_adapters(page, url)
    gateway.adapters["reed-voice"]["versions"][2] |= {"answers": 10, "errors": 3}
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("10 answers · 3 failed")).to_be_visible()


@pytest.mark.browser
def test_without_an_admin_key_there_is_no_such_tab(page: Page, gateway: ScriptedGateway) -> None:
    from assistant.ui import build_app
    from assistant.ui_people import People

    with served(gateway.build_app()) as gateway_url, served(build_app(People(gateway_url))) as url:
        page.goto(f"{url}/?tab=adapters")
        expect(page.get_by_text("reed greets")).to_be_visible()
        expect(page.get_by_role("tab", name="Adapters")).to_have_count(0)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_tab_without_scrolling_sideways(
    browser: Browser, gateway: ScriptedGateway, url: str, scheme: Any
) -> None:
    gateway.adapters["reed-voice"]["versions"][3]["detail"] = "w" * 300
    gateway.adapters["reed-voice"]["history"][0]["why"] = "w" * 300
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    open_adapters(page, url)
    page.get_by_text("Latest changes").click()
    page.get_by_role("button", name="Promote version 3 of reed-voice").click()
    expect(page.get_by_role("alertdialog")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


# --- the line under the chat ---


@pytest.mark.browser
def test_the_chat_says_which_version_answers_and_takes_a_rating(page: Page, gateway: ScriptedGateway, url: str) -> None:
    open_chat(page, url)
    ask(page, "hello")
    expect(page.get_by_text("Answered by reed-voice, version 2.")).to_be_visible()
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_text("Thank you. What was wrong?")).to_be_visible()
    assert gateway.ratings == [{"response_id": "resp-1", "rating": -1, "reasons": [], "comment": ""}]
    gateway.version = "reed-voice@3"
    ask(page, "and now")
    expect(page.get_by_text("Answered by reed-voice, version 3.")).to_be_visible()
    page.get_by_role("button", name="Helpful", exact=True).click()
    expect(page.get_by_text("Thank you. What was good?")).to_be_visible()
    assert gateway.ratings[1] == {"response_id": "resp-2", "rating": 1, "reasons": [], "comment": ""}


@pytest.mark.browser
def test_the_version_is_said_while_it_still_writes_and_rated_only_when_it_has_ended(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    open_chat(page, url)
    ask(page, "wait for it")
    expect(page.get_by_text("Answered by reed-voice, version 2.")).to_be_visible()
    expect(page.get_by_role("button", name="Not helpful")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Not helpful")).to_be_visible()
    gateway.go_on.set()


@pytest.mark.browser
def test_a_rating_that_cannot_be_saved_is_said(page: Page, gateway: ScriptedGateway, url: str) -> None:
    gateway.forgotten = True
    open_chat(page, url)
    ask(page, "hello")
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_text("Your rating could not be saved: no such answer")).to_be_visible()


@pytest.mark.browser
def test_each_assistant_keeps_the_line_of_its_conversation_and_clear_ends_it(page: Page, url: str) -> None:
    open_chat(page, url)
    ask(page, "hello")
    line = page.get_by_text("Answered by reed-voice, version 2.")
    expect(line).to_be_visible()
    page.get_by_role("radio", name="Shop · Fern").check(force=True)
    expect(line).to_be_hidden()
    page.get_by_role("radio", name="Shop · Reed").check(force=True)
    expect(line).to_be_visible()
    page.get_by_role("button", name="Clear chat").click()
    expect(line).to_be_hidden()


# --- without a browser ---


def text_of(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def test_an_adapter_is_told_in_sentences() -> None:
    html = text_of(adapters_html([adapter()]))
    assert "Version 2 answers. Version 3 is tried on 10% of the conversations." in html
    assert "Version 1 previous 1,200 answers · 2 failed · 310 helpful, 41 not" in html
    assert "Cannot be used: adapter_config.json: rank 64" in html
    assert "2026-11-20 09:30 UTC stable from version 1 to version 2 by page: promoted" in html


def test_a_version_that_learnt_from_what_was_forgotten_says_so() -> None:
    marked = adapter()
    words = "learnt from 3 records that brogue data forget removed on 2026-11-20; train it again <b>"
    marked["versions"][1]["marks"] = [{"words": words}]
    html = adapters_html([marked])
    assert "It learnt from 3 records that brogue data forget removed" in text_of(html) and "<b>" not in html


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"aliases": {"stable": 2}, "canary": None}, "Version 2 answers everybody."),
        ({"canary": {"share": 0, "shadow": True}}, "Version 3 answers along unseen, for comparison."),
        ({"aliases": {}, "canary": None, "previous": None}, "No version is stable yet"),
    ],
)
def test_who_answers_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in text_of(adapters_html([adapter() | changes]))


def test_without_adapters_the_tab_says_what_makes_one() -> None:
    assert "Nothing has been trained yet." in text_of(adapters_html([]))


def test_only_versions_that_could_answer_and_do_not_can_be_promoted() -> None:
    assert re.findall(r"Promote version (\d)", adapters_html([adapter()])) == ["3", "1"]


def test_while_a_question_is_open_its_adapter_has_no_other_buttons() -> None:
    html = adapters_html([adapter()], asked=Plan("promote", "reed-voice", 2, 3))
    assert re.findall('data-act="([a-z]+)"', html) == ["confirm", "cancel"]
    assert "button" not in adapters_html([adapter()], asked=Plan("promote", "reed-voice", 2, 3), running=True)


@pytest.mark.parametrize(
    ("plan", "holds"),
    [
        (Plan("promote", "reed-voice", 2, 3), True),
        (Plan("promote", "reed-voice", 1, 3), False),
        (Plan("rollback", "reed-voice", 2, 1), True),
        (Plan("rollback", "reed-voice", 2, 3), False),
        (Plan("promote", "reed-voice", None, 3), False),
    ],
)
def test_a_confirmed_move_holds_only_while_nobody_else_moved(plan: Plan, holds: bool) -> None:
    assert plan.still_holds(adapter()) is holds


def test_what_others_wrote_into_the_history_cannot_become_markup() -> None:
    bad = adapter('"><script>')
    bad["history"][0] |= {"who": "<b>", "why": "<script>", "alias": "<i>"}
    bad["versions"][3]["detail"] = "<script>"
    html = adapters_html([bad], asked=Plan("promote", bad["id"], 2, 3))
    assert "<script>" not in html and "<b>" not in html and "<i>" not in html


def test_the_source_of_the_last_answer_is_found_behind_the_pages_own_notices() -> None:
    from assistant.ui_credit import credited, source_of, written_by

    source = Source("reed-voice@2", "resp-1")
    question = {"role": "user", "content": "q"}
    answer = credited({"role": "assistant", "content": "a"}, source)
    notice = {"role": "assistant", "content": "it stopped", "metadata": {"id": "notice"}}
    assert source_of([question, answer, notice]) == source
    assert source_of([question, answer, question, notice]) == Source()
    assert written_by(Source("base", "resp-1")) == "<p>Answered by the base model.</p>"
    assert written_by(Source("specialist:intents", "resp-1")) == "<p>Answered by the small model intents.</p>"
