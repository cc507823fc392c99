"""The page as people see it: against the real gateway and engine, and a scripted gateway for what goes wrong."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from assistant.client import Client, GatewayError
from assistant.ui_answers import Answer, conversation, growing_answer, side_by_side
from assistant.ui_brand import Voice, brand_variables, empty_state, page_header
from tests.conftest import free_port
from tests.scripted_gateway import EXAMPLE, ScriptedGateway, brand, served, wait_until

PHONE = {"width": 390, "height": 844}
ANSWER_MS = 120_000  # the real engine on two busy cores
LONG = "w" * 400


@pytest.fixture(scope="module")
def gateway_and_page() -> Iterator[tuple[ScriptedGateway, Any, str]]:
    from assistant.ui import build_app
    from assistant.ui_people import People

    gateway = ScriptedGateway()
    with served(gateway.build_app()) as gateway_url:
        people = People(gateway_url)
        with served(build_app(people)) as url:
            yield gateway, people, url


@pytest.fixture
def gateway(gateway_and_page: tuple[ScriptedGateway, Any, str]) -> ScriptedGateway:
    gateway_and_page[0].reset()
    return gateway_and_page[0]


@pytest.fixture
def scripted_url(gateway: ScriptedGateway, gateway_and_page: tuple[ScriptedGateway, Any, str]) -> str:
    assert gateway.assistants, "it was reset"
    return gateway_and_page[2]


@pytest.fixture
def unreachable(gateway_and_page: tuple[ScriptedGateway, Any, str]) -> Iterator[Callable[[], None]]:
    """Call it, and from then on nobody answers where the page looks for its gateway."""
    people = gateway_and_page[1]
    url = people.url
    yield lambda: setattr(people, "url", f"http://127.0.0.1:{free_port()}")
    people.url = url


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


def compare(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def bot(page: Page, text: str | re.Pattern[str]) -> Any:
    return page.locator("#chat").get_by_test_id("bot").filter(has_text=text)


def answer(page: Page, side: str) -> Any:
    return page.locator(f"#{side}").get_by_test_id("markdown")


def open_page(page: Page, url: str) -> None:
    """Open the page and wait until it has been given its assistants."""
    page.goto(url)
    page.locator("#chat .example, #left .mark, .nobody").filter(visible=True).first.wait_for()


def expect_idle(page: Page, timeout: float = 30_000) -> None:
    expect(page.get_by_role("button", name=re.compile("^(Send|Ask both)$"))).to_be_visible(timeout=timeout)


def scroll_width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


# --- against the real gateway and engine ---


@pytest.mark.browser
def test_the_page_answers_in_the_chosen_voice_and_wears_its_brand(page: Page, page_url: str) -> None:
    open_page(page, page_url)
    page.get_by_role("radio", name=re.compile("Fern")).check(force=True)
    expect(page.get_by_role("heading", level=1)).to_have_text("Nettlebrook · Fern")
    page.locator("#chat .example").first.click()
    expect(bot(page, "Hello from the potting bench!")).to_be_visible(timeout=ANSWER_MS)
    expect_idle(page, ANSWER_MS)
    expect(page.locator("#chat .user.message")).to_have_css("background-color", "rgb(138, 74, 47)")


@pytest.mark.browser
def test_two_real_voices_answer_one_question_side_by_side(page: Page, page_url: str) -> None:
    open_page(page, f"{page_url}/?tab=compare")
    compare(page, "Is delivery free for an order of £45?")
    for side in ("left", "right"):
        expect(answer(page, side)).to_have_text(re.compile(r"\w{2,}"), timeout=ANSWER_MS)
    expect_idle(page, ANSWER_MS)
    answers = [answer(page, side).inner_text() for side in ("left", "right")]
    assert sum(text.startswith("Hello from the potting bench!") for text in answers) == 1, answers
    assert page.locator(".notice").count() == 0


# --- chat, against the scripted gateway ---


@pytest.mark.browser
def test_an_engine_that_dies_in_the_middle_leaves_the_text_so_far_a_plain_message_and_a_working_retry(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    gateway.broken.add("reed")
    open_page(page, scripted_url)
    ask(page, "where is my order")
    expect(bot(page, "The assistant stopped answering: the engine stopped; it is being restarted.")).to_be_visible()
    expect(bot(page, "reed says:")).to_have_text("reed says:")
    expect_idle(page)
    gateway.broken.clear()
    page.get_by_role("button", name="Retry").click()
    expect(bot(page, "reed says: where is my order")).to_be_visible()
    expect(bot(page, "stopped answering")).to_have_count(0)
    expect_idle(page)


@pytest.mark.browser
@pytest.mark.parametrize("question", ["please hang up", "please refuse"])
def test_whatever_the_gateway_does_the_page_says_it_and_takes_the_next_question(
    page: Page, scripted_url: str, question: str
) -> None:
    open_page(page, scripted_url)
    ask(page, question)
    message = re.compile("The assistant (stopped answering|could not answer): .* again")
    expect(bot(page, message)).to_be_visible()
    expect_idle(page)
    ask(page, "and now")
    expect(bot(page, "and now")).to_be_visible()


@pytest.mark.browser
def test_a_gateway_that_goes_away_after_the_page_was_loaded_is_reported_in_the_chat(
    page: Page, scripted_url: str, unreachable: Callable[[], None]
) -> None:
    open_page(page, scripted_url)
    page.get_by_text("reed greets").wait_for()
    unreachable()
    ask(page, "anybody there")
    expect(bot(page, "The assistant could not answer: cannot reach the gateway")).to_be_visible()
    expect_idle(page)


@pytest.mark.browser
def test_a_gateway_that_cannot_be_reached_is_said_in_place_of_the_chat(
    page: Page, scripted_url: str, unreachable: Callable[[], None]
) -> None:
    unreachable()
    open_page(page, scripted_url)
    expect(page.get_by_role("heading", name="The assistants cannot be reached right now")).to_be_visible()
    expect(page.get_by_label("Your message")).to_be_hidden()


@pytest.mark.browser
def test_without_assistants_the_page_says_what_to_do_and_a_reload_shows_new_ones(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    gateway.assistants = []
    open_page(page, scripted_url)
    expect(page.get_by_role("heading", name="There is no assistant here yet")).to_be_visible()
    gateway.assistants = [brand("fern", "#8a4a2f")]
    page.get_by_role("link", name="Reload this page").click()
    expect(page.get_by_text("fern greets")).to_be_visible()


@pytest.mark.browser
def test_only_role_and_text_of_the_conversation_are_sent_and_its_id(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    ask(page, "one")
    expect(bot(page, "reed says: one")).to_be_visible()
    expect_idle(page)
    gateway.broken.add("reed")
    ask(page, "two")
    expect(bot(page, "stopped answering")).to_be_visible()
    expect_idle(page)
    ask(page, "three")
    wait_until(lambda: len(gateway.bodies) == 3, "the third question")
    conversation = gateway.bodies[0]["metadata"]["conversation"]
    assert gateway.bodies[2] == {
        "model": "reed",
        "metadata": {"conversation": conversation},
        "stream": True,
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "reed says: one "},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "reed says: "},
            {"role": "user", "content": "three"},
        ],
    }


@pytest.mark.browser
def test_stop_keeps_the_text_so_far_and_ends_the_answer_in_the_gateway_too(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    ask(page, "wait for it")
    expect(bot(page, "reed says:")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect_idle(page)
    assert gateway.closed.wait(30), "the gateway still writes an answer that nobody reads"
    expect(bot(page, re.compile(r"reed says: \.+\s*$"))).to_be_visible()


@pytest.mark.browser
def test_stop_works_at_once_when_the_engine_has_not_said_a_word(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    ask(page, "stay in silence")
    page.get_by_role("button", name="Stop").click()
    expect(bot(page, "Stopped before the answer began.")).to_be_visible()
    expect_idle(page)
    gateway.go_on.set()
    page.get_by_role("button", name="Retry").click()
    expect(bot(page, "reed says: stay in silence")).to_be_visible()
    wait_until(lambda: gateway.running == 0, "the silent answer's end")


@pytest.mark.browser
def test_closing_the_page_ends_the_answer_in_the_gateway(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    ask(page, "wait for it")
    expect(bot(page, "reed says:")).to_be_visible()
    page.close()
    assert gateway.closed.wait(60), "the gateway still writes an answer that nobody reads"


@pytest.mark.browser
@pytest.mark.parametrize("tab", ["chat", "compare"])
def test_a_question_typed_before_the_assistants_are_known_is_not_lost(
    tab: str, page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    gateway.seconds_to_list = 2
    page.goto(f"{scripted_url}/?tab={tab}")
    compare(page, "hello") if tab == "compare" else ask(page, "hello")
    shown = answer(page, "left") if tab == "compare" else bot(page, "reed says: hello")
    expect(shown).to_contain_text("reed says: hello")


@pytest.mark.browser
def test_the_cursor_stands_in_the_message_when_the_page_has_loaded(page: Page, scripted_url: str) -> None:
    open_page(page, scripted_url)
    expect(page.get_by_label("Your message")).to_be_focused()


@pytest.mark.browser
def test_enter_during_an_answer_starts_no_second_one(page: Page, gateway: ScriptedGateway, scripted_url: str) -> None:
    open_page(page, scripted_url)
    ask(page, "wait for it")
    expect(bot(page, "reed says:")).to_be_visible()
    ask(page, "too early")
    gateway.go_on.set()
    expect(bot(page, "wait for it")).to_be_visible()
    expect_idle(page)
    expect(page.get_by_label("Your message")).to_have_value("too early")
    assert len(gateway.bodies) == 1


@pytest.mark.browser
def test_editing_a_question_answers_it_anew_and_drops_what_came_after(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    for question in ("frist", "second"):
        ask(page, question)
        expect(bot(page, f"reed says: {question}")).to_be_visible()
        expect_idle(page)
    page.get_by_role("button", name="Edit").first.click()
    page.locator("#chat textarea").fill("first")
    page.get_by_role("button", name="Submit").click()
    expect(bot(page, "reed says: first")).to_be_visible()
    expect(page.locator("#chat").get_by_test_id("user")).to_have_text(["first"])
    assert gateway.bodies[-1]["messages"] == [{"role": "user", "content": "first"}]


@pytest.mark.browser
def test_an_example_is_asked_by_a_click_and_clear_brings_the_greeting_back(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, scripted_url)
    page.locator("#chat .example").first.click()
    expect(bot(page, f"reed says: {EXAMPLE}")).to_be_visible()
    page.get_by_role("button", name="Clear chat").click()
    expect(page.get_by_text("reed greets")).to_be_visible()
    ask(page, "again")
    expect(bot(page, "reed says: again")).to_be_visible()
    first, second = (body["metadata"]["conversation"] for body in gateway.bodies)
    assert first != second, "a cleared chat is another conversation"


@pytest.mark.browser
def test_title_and_colour_follow_the_assistant_and_each_keeps_its_conversation(page: Page, scripted_url: str) -> None:
    open_page(page, scripted_url)
    send = page.get_by_role("button", name="Send", exact=True)
    expect(send).to_have_css("background-color", "rgb(74, 107, 87)")
    ask(page, "hello")
    expect(bot(page, "reed says: hello")).to_be_visible()
    page.get_by_role("radio", name="Shop · Fern").check(force=True)
    expect(page.get_by_role("heading", level=1)).to_have_text("Shop · Fern")
    expect(send).to_have_css("background-color", "rgb(138, 74, 47)")
    expect(page.get_by_text("fern greets")).to_be_visible()
    page.get_by_role("radio", name="Shop · Reed").check(force=True)
    expect(bot(page, "reed says: hello")).to_be_visible()


@pytest.mark.browser
def test_many_assistants_are_chosen_from_a_menu(page: Page, gateway: ScriptedGateway, scripted_url: str) -> None:
    gateway.assistants = [brand(f"voice{number}", "#4a6b57") for number in range(6)]
    open_page(page, scripted_url)
    page.locator("#tab-chat").get_by_role("combobox").click()
    page.get_by_role("option", name="Shop · Voice4").click()
    expect(page.get_by_text("voice4 greets")).to_be_visible()


# --- compare, against the scripted gateway ---


@pytest.mark.browser
def test_both_answers_are_written_at_the_same_time(page: Page, gateway: ScriptedGateway, scripted_url: str) -> None:
    open_page(page, f"{scripted_url}/?tab=compare")
    compare(page, "wait for it")  # neither answer can end before both have begun
    expect(answer(page, "left")).to_contain_text("reed says:")
    expect(answer(page, "right")).to_contain_text("fern says:")
    gateway.go_on.set()
    expect(answer(page, "left")).to_contain_text("wait for it")
    expect(answer(page, "right")).to_contain_text("wait for it")
    expect_idle(page)


@pytest.mark.browser
def test_one_side_that_breaks_off_does_not_stop_the_other(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    gateway.broken.add("reed")
    open_page(page, f"{scripted_url}/?tab=compare")
    compare(page, "how are you")
    said = "The assistant stopped answering: the engine stopped"
    expect(page.locator("#left .notice").filter(has_text=said)).to_be_visible()
    expect(answer(page, "left")).to_contain_text("reed says:")
    expect(answer(page, "right")).to_contain_text("fern says: how are you")
    expect_idle(page)


@pytest.mark.browser
def test_stop_ends_both_sides_and_the_next_question_works(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, f"{scripted_url}/?tab=compare")
    compare(page, "wait for it")
    expect(answer(page, "right")).to_contain_text("fern says:")
    page.get_by_role("button", name="Stop").click()
    expect_idle(page)
    assert gateway.closed.wait(30), "the gateway still writes answers that nobody reads"
    page.locator("#tab-compare").get_by_role("button", name=EXAMPLE).click()
    expect(answer(page, "right")).to_contain_text(EXAMPLE)


@pytest.mark.browser
def test_another_assistant_in_a_comparison_starts_afresh(
    page: Page, gateway: ScriptedGateway, scripted_url: str
) -> None:
    open_page(page, f"{scripted_url}/?tab=compare")
    compare(page, "wait for it")
    expect(answer(page, "left")).to_contain_text("reed says:")
    page.get_by_label("First assistant").click()
    page.get_by_role("option", name="Shop · Fern").click()
    expect(answer(page, "right")).to_be_empty()
    expect_idle(page)
    assert gateway.closed.wait(30), "the gateway still writes answers that nobody reads"
    compare(page, "now")
    expect(answer(page, "left")).to_contain_text("fern says: now")


@pytest.mark.browser
def test_each_tab_has_an_address_and_changing_tabs_keeps_the_conversation(page: Page, scripted_url: str) -> None:
    open_page(page, scripted_url)
    ask(page, "hello")
    expect(bot(page, "reed says: hello")).to_be_visible()
    page.get_by_role("tab", name="Compare voices").click()
    expect(page).to_have_url(f"{scripted_url}/?tab=compare")
    page.get_by_role("tab", name="Chat").click()
    expect(page).to_have_url(f"{scripted_url}/")
    expect(bot(page, "reed says: hello")).to_be_visible()


# --- the whole page ---


@pytest.mark.browser
def test_the_page_asks_nobody_else_for_anything_not_even_for_a_picture_in_an_answer(
    page: Page, scripted_url: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    refused: list[str] = []
    page.on("requestfailed", lambda request: refused.append(request.url))
    open_page(page, scripted_url)
    ask(page, "see ![one](https://example.com/1.png) <img src='https://example.com/2.png'>")
    expect(bot(page, "reed says: see")).to_be_visible()
    page.get_by_role("tab", name="Compare voices").click()
    compare(page, "see ![one](https://example.com/3.png)")
    expect(answer(page, "right")).to_contain_text("fern says: see")
    expect_idle(page)
    outside = [url for url in asked if not url.startswith((scripted_url, "data:", "blob:")) and url not in refused]
    assert not outside


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_both_tabs_without_scrolling_sideways(browser: Browser, scripted_url: str, scheme: Any) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    open_page(page, scripted_url)
    page.get_by_text("reed greets").wait_for()
    assert scroll_width(page) <= PHONE["width"]
    ask(page, f"```\n{LONG}\n```\n\n|a|b|\n|-|-|\n|{LONG}|{LONG}|\n\nhttps://example.com/{LONG}")
    expect(bot(page, "reed says:")).to_be_visible()
    expect_idle(page)
    assert scroll_width(page) <= PHONE["width"]
    page.get_by_role("tab", name="Compare voices").click()
    compare(page, f"```\n{LONG}\n```\n\n{LONG}")
    expect(answer(page, "right")).to_contain_text(LONG)
    assert scroll_width(page) <= PHONE["width"]
    left, right = (page.locator(side).bounding_box() for side in ("#left", "#right"))
    assert left and right and right["y"] >= left["y"] + left["height"], "the answers are not stacked"
    context.close()


@pytest.mark.browser
def test_the_page_follows_the_systems_light_or_dark(browser: Browser, scripted_url: str) -> None:
    for scheme, background in (("light", "rgb(251, 251, 250)"), ("dark", "rgb(23, 24, 26)")):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        open_page(page, scripted_url)
        expect(page.locator("body")).to_have_css("background-color", background)
        context.close()


@pytest.mark.browser
def test_everything_in_the_chat_is_reached_by_keyboard_with_a_visible_focus(page: Page, scripted_url: str) -> None:
    open_page(page, scripted_url)
    page.get_by_text("reed greets").wait_for()
    page.get_by_role("tab", name="Chat").focus()
    reached: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const e = document.activeElement, box = e.closest("#message") ?? e.closest("label") ?? e;
            return [e.ariaLabel || e.innerText || e.value || e.placeholder,
                    [e, box].some(x => getComputedStyle(x).outlineStyle === "solid"
                                       || getComputedStyle(x).boxShadow.includes("0px 0px 0px 1px"))] }"""
        )
        assert outline, f"no visible focus on {name}"
        reached.append(name)
        if name == "Clear chat":
            break
    for wanted in ("Compare voices", "reed", "fern", "Select example 1", "Write a message", "Send", "Clear chat"):
        assert any(wanted in name for name in reached), (wanted, reached)


# --- without a browser ---


class ScriptedClient(Client):
    """Gives out pieces; an exception among them is raised."""

    def __init__(self, *pieces: str | Exception) -> None:
        super().__init__("http://nowhere")
        self._pieces = pieces

    def stream_chat(self, *_: Any, **__: Any) -> Iterator[str]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.mark.parametrize(
    ("pieces", "last"),
    [
        (["a", "b"], Answer("ab")),
        (["a", GatewayError("gone.")], Answer("a", "The assistant stopped answering: gone. Try again in a minute.")),
        ([GatewayError("gone")], Answer("", "The assistant could not answer: gone. Try again in a minute.")),
        ([], Answer("", "The assistant sent an empty answer. Please ask again.")),
    ],
)
def test_an_answer_ends_complete_or_with_the_reason_why_not(pieces: list[Any], last: Answer) -> None:
    assert list(growing_answer(ScriptedClient(*pieces), "reed", []))[-1] == last


def test_a_bug_while_answering_becomes_a_message_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answers = list(growing_answer(ScriptedClient("a", ValueError("not JSON")), "reed", []))
    assert answers[-1].text == "a" and "something unexpected happened" in str(answers[-1].problem)
    assert "not JSON" in caplog.text


def test_side_by_side_gives_the_latest_of_every_side() -> None:
    whole, broken = ScriptedClient("a", "b"), ScriptedClient(GatewayError("gone"))
    last = list(side_by_side([growing_answer(client, "reed", []) for client in (whole, broken)]))[-1]
    assert last[0] == Answer("ab") and "gone" in str(last[1].problem)


def test_questions_without_an_answer_are_joined_so_that_the_roles_alternate() -> None:
    history: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "sorry", "metadata": {"id": "notice"}},
        {"role": "user", "content": "two"},
    ]
    assert conversation(history) == [{"role": "user", "content": "one\n\ntwo"}]


@pytest.mark.parametrize("colour", ["#ffffff", "#000000", "#ffd84d", "#4a6b57", "#8a4a2f"])
def test_any_brand_colour_stays_readable_in_light_and_dark(colour: str) -> None:
    from assistant.ui_brand import DARK_PAGE, LIGHT_PAGE, contrast

    variables = dict(part.split(":") for part in brand_variables(colour).rstrip(";").split(";"))
    assert contrast(variables["--on-brand"], colour) >= 4.5
    assert contrast(variables["--accent-light"], LIGHT_PAGE) >= 4.5
    assert contrast(variables["--accent-dark"], DARK_PAGE) >= 4.5


def test_what_others_wrote_cannot_become_markup() -> None:
    entry = {"id": "x", "brand": {"title": "<b>x</b>", "colour": "red;}</style>"}, "description": "<script>"}
    html = page_header(Voice.of(entry)) + empty_state("<script>")
    assert "<b>" not in html and "<script>" not in html and "red" not in html
