"""What a visitor says of an answer, and who is signed in: in a browser, against a scripted gateway."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from playwright.sync_api import Page, expect

from assistant.client import GatewayError
from assistant.ui_correct import diff_html
from assistant.ui_sign_in import form_html, signed_in_html
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, served, wait_until

SCRIPT = "<script>alert(1)</script>"
JOINED = SCRIPT.replace("<", "<\u2060")  # as the chat holds it: see assistant/ui_answers.py


@pytest.fixture(scope="module")
def gateway_and_page() -> Iterator[tuple[ScriptedGateway, Any, str]]:
    from assistant.ui import build_app
    from assistant.ui_people import People

    gateway = ScriptedGateway()
    with served(gateway.build_app()) as gateway_url:
        people = People(gateway_url, ADMIN_KEY)
        with served(build_app(people)) as url:
            yield gateway, people, url


@pytest.fixture
def gateway(gateway_and_page: tuple[ScriptedGateway, Any, str]) -> ScriptedGateway:
    gateway, people, _ = gateway_and_page
    gateway.reset()
    people.refresh()
    return gateway


@pytest.fixture
def url(gateway: ScriptedGateway, gateway_and_page: tuple[ScriptedGateway, Any, str]) -> str:
    assert gateway.assistants, "it was reset"
    return gateway_and_page[2]


def ask(page: Page, url: str, question: str = "hello") -> None:
    page.goto(url)
    page.get_by_text(re.compile("(reed|fern) greets")).wait_for()
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Not helpful").wait_for()


SLOW = """() => { const now = window.fetch;
  window.fetch = (...asked) => new Promise((done) => setTimeout(done, 1500)).then(() => now(...asked)); }"""


def correct(page: Page) -> Any:
    """Open the editor; gives its text box."""
    page.get_by_role("button", name="Correct this answer").click()
    box = page.get_by_label("The answer as it should be")
    expect(box).to_be_focused()
    return box


def visitor(token: str) -> Any:
    """A request of who holds this token, as far as the page looks at it."""
    return SimpleNamespace(cookies={"brogue-session": token}, username=None)


# --- a thumb, its reasons and words ---


@pytest.mark.browser
def test_a_thumb_takes_reasons_and_words_and_is_taken_back(page: Page, gateway: ScriptedGateway, url: str) -> None:
    ask(page, url)
    page.get_by_role("button", name="Helpful", exact=True).click()
    page.get_by_role("checkbox", name="Right tone").check(force=True)
    wait_until(lambda: len(gateway.ratings) == 2, "the reason")
    page.get_by_label("Anything else about this answer?").fill(f"Lovely {SCRIPT}")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you. Your words are kept.")).to_be_visible()
    assert gateway.ratings[-1] == {
        "response_id": "resp-1", "rating": 1, "reasons": ["right tone"], "comment": f"Lovely {SCRIPT}"
    }  # fmt: skip
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Thank you.")).to_be_hidden()
    assert gateway.taken_back == ["judgement-3"], "the latest is the one that counts"
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_text("Thank you. What was wrong?")).to_be_visible()
    expect(page.get_by_label("Anything else about this answer?")).to_have_value("")


@pytest.mark.browser
def test_the_other_thumb_has_other_reasons(page: Page, gateway: ScriptedGateway, url: str) -> None:
    gateway.seconds_to_rate = 1  # the other thumb overtakes no reason that is still on its way
    ask(page, url)
    page.get_by_role("button", name="Helpful", exact=True).click()
    page.get_by_role("checkbox", name="Right tone").check(force=True)
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_role("checkbox", name="Wrong", exact=True)).not_to_be_checked()
    expect(page.get_by_role("checkbox", name="Right tone")).to_have_count(0)
    wait_until(lambda: len(gateway.ratings) == 3, "both thumbs and the reason")
    assert (gateway.ratings[-1]["rating"], gateway.ratings[-1]["reasons"]) == (-1, [])


# --- a correction ---


@pytest.mark.browser
def test_a_correction_shows_what_changes_is_kept_at_once_and_taken_back(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    ask(page, url)
    box = correct(page)
    expect(box).to_have_value("reed says: hello")
    box.fill(f"reed says: good morning {SCRIPT}")
    diff = page.get_by_role("group", name="Your changes")
    expect(diff.locator("del")).to_have_text("hello")
    expect(diff.locator("ins").first).to_contain_text("good")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Thank you. Your correction is kept.")).to_be_visible()
    said = {"kind": "correction", "response": "resp-1", "text": f"reed says: good morning {SCRIPT}"}
    assert gateway.judgements == [said]
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Your correction is kept.")).to_be_hidden()
    assert gateway.taken_back == ["correction-1"]


@pytest.mark.browser
def test_a_correction_by_keyboard_is_corrected_again_and_left_alone(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    ask(page, url)
    page.get_by_role("button", name="Correct this answer").focus()
    page.keyboard.press("Enter")
    box = page.get_by_label("The answer as it should be")
    expect(box).to_be_focused()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Nothing is changed yet.")).to_be_visible()
    assert not gateway.judgements
    box.fill("one")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Your correction is kept.")).to_be_visible()
    box = correct(page)
    expect(box).to_have_value("one")
    box.fill("two")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Your correction is kept.")).to_be_visible()
    assert [said["text"] for said in gateway.judgements] == ["one", "two"]
    assert gateway.taken_back == ["correction-1"], "only the second one counts"
    correct(page).fill("three")
    page.keyboard.press("Escape")
    expect(page.locator("#correct-chat")).to_be_hidden()
    expect(page.get_by_role("button", name="Correct this answer")).to_be_focused()
    assert len(gateway.judgements) == 2


@pytest.mark.browser
@pytest.mark.parametrize("key", ["Escape", "Control+Enter"])
def test_after_a_correction_the_keyboard_is_where_it_was_however_long_the_server_takes(
    page: Page, url: str, key: str
) -> None:
    ask(page, url)
    correct(page).fill("better")
    page.evaluate(SLOW)
    page.keyboard.press(key)
    expect(page.get_by_label("The answer as it should be")).to_be_visible()
    expect(page.get_by_label("The answer as it should be")).to_be_hidden()
    expect(page.get_by_role("button", name="Correct this answer")).to_be_focused()


@pytest.mark.browser
def test_a_correction_that_cannot_be_kept_stays_in_the_editor(page: Page, gateway: ScriptedGateway, url: str) -> None:
    ask(page, url)
    box = correct(page)
    box.fill("  ")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("An answer cannot be empty.")).to_be_visible()
    gateway.forgotten = True
    box.fill("better")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your correction could not be saved: no such answer")).to_be_visible()
    expect(box).to_have_value("better")


@pytest.mark.browser
def test_where_nothing_is_logged_only_thumbs_and_reasons_are_asked_for(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.logging = "off"
    ask(page, url)
    expect(page.get_by_text("Conversations are not kept, only whether an answer helped.")).to_be_visible()
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_role("checkbox", name="Wrong", exact=True)).to_be_visible()
    expect(page.get_by_label("Anything else about this answer?")).to_be_hidden()
    expect(page.get_by_role("button", name="Correct this answer")).to_be_hidden()


@pytest.mark.browser
def test_tags_in_a_question_and_its_answer_are_shown_and_sent_as_they_were_written(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    question = f"What does {SCRIPT} <b>do</b> in `<i>`?"
    ask(page, url, question)
    expect(page.get_by_test_id("user")).to_have_text(f"What does {JOINED} <\u2060b>do<\u2060/b> in <i>?")
    expect(page.get_by_test_id("bot")).to_contain_text(JOINED)
    expect(correct(page)).to_have_value(f"reed says: {question}")
    ask_again = page.get_by_label("Your message")
    ask_again.fill("and now")
    ask_again.press("Enter")
    wait_until(lambda: len(gateway.bodies) == 2, "the second question")
    sent = [message["content"].strip() for message in gateway.bodies[-1]["messages"]]
    assert sent == [question, f"reed says: {question}", "and now"]


# --- who is signed in ---


def sign_in(page: Page, url: str, name: str, password: str | None = None) -> None:
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password or name)
    page.keyboard.press("Enter")


@pytest.mark.browser
def test_the_form_refuses_a_wrong_password_in_the_gateways_words_and_keeps_the_address(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.users = {"ann": "user"}
    sign_in(page, f"{url}/?tab=compare", "ann", "no")
    expect(page.get_by_role("alert")).to_have_text("wrong name or password")
    expect(page.get_by_label("Name")).to_have_value("ann")
    page.get_by_label("Password").fill("ann")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your question")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("role", "tabs"),
    [
        ("user", ["Chat", "Compare voices"]),
        ("rater", ["Chat", "Compare voices", "Rank"]),
        ("admin", ["Chat", "Compare voices", "Rank", "Adapters", "Knowledge"]),
    ],
)
def test_each_role_sees_its_tabs(page: Page, gateway: ScriptedGateway, url: str, role: str, tabs: list[str]) -> None:
    gateway.users = {"ann": role}
    sign_in(page, url, "ann")
    expect(page.get_by_text("Signed in as ann")).to_be_visible()
    expect(page.locator("#tabs [role=tab]").filter(visible=True)).to_have_text(tabs)


@pytest.mark.browser
def test_what_is_said_and_asked_carries_the_name_until_the_person_signs_out(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.users = {"ann": "user"}
    sign_in(page, url, "ann")
    expect(page.get_by_text("Signed in as ann")).to_be_visible()
    ask(page, url)
    assert gateway.bodies[-1]["user"] == "ann"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(url)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.browser
def test_a_session_that_has_ended_leads_to_the_form(
    page: Page, gateway: ScriptedGateway, url: str, gateway_and_page: tuple[ScriptedGateway, Any, str]
) -> None:
    gateway.users = {"ann": "user", "bob": "user"}
    sign_in(page, f"{url}/?tab=compare", "ann")
    expect(page.get_by_text("Signed in as ann")).to_be_visible()
    del gateway.users["ann"]
    gateway_and_page[1].refresh()
    page.get_by_label("Your question").fill("anybody there")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url.endswith("/sign-in?tab=compare")


def test_nothing_of_the_page_answers_who_has_not_signed_in(
    gateway: ScriptedGateway, url: str, gateway_and_page: tuple[ScriptedGateway, Any, str]
) -> None:
    import httpx

    gateway.users = {"ann": "user"}
    join = {"data": [], "fn_index": 0, "session_hash": "x"}
    for method, path in (("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/info")):
        assert httpx.request(method, url + path, json=join).status_code == 401, path
    for cookies in ({}, {"brogue-session": "made-up"}):
        reply = httpx.get(url, cookies=cookies)
        assert (reply.status_code, reply.headers["location"]) == (303, "/sign-in")
    people = gateway_and_page[1]
    with pytest.raises(GatewayError, match="wanted the admin key"):
        people.admin(None).adapters()  # the page's own key serves nobody in particular only where nobody signs in


# --- without a browser ---


@pytest.mark.parametrize(
    ("cookie", "token"), [("a-B_1", "a-B_1"), ("made up", ""), ("ü", ""), ("a\nb", ""), (None, "")]
)
def test_a_cookie_that_cannot_be_a_token_is_none(cookie: str | None, token: str) -> None:
    from assistant.ui_people import token_of

    assert token_of(SimpleNamespace(cookies={"brogue-session": cookie})) == token


def test_what_is_kept_is_said_for_each_way_of_logging() -> None:
    from assistant.ui_brand import KEPT, hint
    from data.settings import Logging

    assert set(KEPT) == set(get_args(Logging))
    assert all(said in hint(logging) for logging, said in KEPT.items())
    assert hint("") == hint()


def test_script_tags_are_shown_as_text() -> None:
    assert "<script" not in diff_html("hello", SCRIPT) + form_html("", SCRIPT, SCRIPT) + (signed_in_html(SCRIPT))
    assert "&lt;" in diff_html("hello", SCRIPT)
    assert "evil" not in form_html("//evil.example")


def test_a_diff_marks_words_and_very_long_texts_are_compared_by_lines() -> None:
    assert diff_html("a b", "a b ") == ""
    assert "<del>b</del><ins>c</ins> d" in diff_html("a b d", "a c d")
    long = "\n".join(f"line {n} of a long text" for n in range(2000))
    assert diff_html(long, f"{long}\nmore").count("<ins>") == 1


# --- against the real gateway and store ---


@pytest.mark.browser
def test_what_a_person_says_on_the_page_is_in_the_store_under_their_name(page: Page, tmp_path: Path) -> None:
    from assistant.client_feedback import FeedbackClient
    from assistant.ui import build_app
    from assistant.ui_people import People
    from tests.feedback_gateway import feedback_gateway

    with feedback_gateway(tmp_path) as (gateway_url, _, key):
        admin = FeedbackClient.with_key(gateway_url, key)
        admin.add_user("ann", "a long password", "user")
        people = People(gateway_url, key)
        with served(build_app(people)) as url:
            sign_in(page, url, "ann", "a long password")
            expect(page.get_by_text("Signed in as ann")).to_be_visible()
            ask(page, url)
            page.get_by_role("button", name="Not helpful").click()
            page.get_by_role("checkbox", name="Too long").check(force=True)
            page.get_by_label("Anything else about this answer?").fill(SCRIPT)
            page.keyboard.press("Enter")
            expect(page.get_by_text("Your words are kept.")).to_be_visible()
            correct(page).fill("As it should be")
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_text("Your correction is kept.")).to_be_visible()
            said = {one["kind"]: one for one in admin.judgements()}
            token = people.with_token("").sign_in("ann", "a long password")["token"]
            with pytest.raises(GatewayError, match="role 'admin'"):
                people.admin(visitor(token)).adapters()
            admin.change_user("ann", role="admin")
            people.refresh()
            assert people.admin(visitor(token)).adapters(), "the page acts for an admin"
        rating, correction = said["rating"], said["correction"]
        assert (rating["rater"], rating["thumb"], rating["reasons"]) == ("ann", "down", ["too long"])
        assert rating["comment"] == SCRIPT
        assert (correction["rater"], correction["text"]) == ("ann", "As it should be")
        response = admin.response(correction["response"])
        assert response["subject"] == "ann" and response["conversation"].startswith("chat-")
