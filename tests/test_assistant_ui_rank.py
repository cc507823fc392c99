"""The Rank tab with a browser, against a real gateway and store over the fake engine; and its plain functions."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from assistant.client import GatewayError
from assistant.client_feedback import FeedbackClient
from assistant.ui_rank_html import parse_arms, parse_prompts, progress_shown, reasons_shown, rendered, turn_shown
from data.home import Home
from tests.conftest import run_brogue
from tests.fakes import ADMIN_KEY, FakeEngine
from tests.feedback_gateway import feedback_gateway
from tests.scripted_gateway import served
from tests.trl_steps import train_two_steps

FOUR = ("reed-voice@1", "reed-voice@2", "fern-voice@1", "base")
PHONE = {"width": 390, "height": 844}


class Served:
    """One gateway with its page, and what a test reads behind the page's back."""

    def __init__(self, url: str, page_url: str, home: Home, key: str, engine: FakeEngine) -> None:
        self.page_url, self.home, self.engine = page_url, home, engine
        self.client = FeedbackClient.with_key(url, key)
        self.queues = 0

    def queue(self, *arms: str, prompts: int = 3, ask: str = "What about item") -> str:
        """A new queue, the only one, whose prompts go to one rater and come back to nobody; gives its name."""
        for one in self.client.queues():
            self.client.remove_queue(one["name"])
        self.queues += 1
        texts = [f"{ask} {number} of {self.queues}?" for number in range(prompts)]
        asked = [{"messages": [{"role": "user", "content": text}]} for text in texts]
        self.client.add_queue(
            f"queue-{self.queues}", [{"model": arm} for arm in arms], prompts=asked, overlap=0, repeat=0
        )
        return f"queue-{self.queues}"

    def judgements(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        """The latest first."""
        return self.client.judgements(kind=kind, **wanted)

    def order(self, ranking: dict[str, Any]) -> dict[str, int]:
        """Answer text → its rank."""
        texts = [self.client.response(shown)["text"] for shown in ranking["shown"]]
        return dict(zip(texts, ranking["ranks"], strict=True))


@pytest.fixture(scope="module")
def all_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from assistant.ui import build_app
    from assistant.ui_people import People

    engine = FakeEngine()
    with (
        feedback_gateway(tmp_path_factory.mktemp("rank"), engine=engine) as (url, home, key),
        served(build_app(People(url, key))) as page_url,
    ):
        yield Served(url, page_url, home, key, engine)


@pytest.fixture
def rank(all_served: Served) -> Served:
    engine = all_served.engine
    engine.words, engine.pause_s, engine.says = 2, 0, None
    engine.mute.clear()
    return all_served


def open_rank(page: Page, rank: Served) -> None:
    """Until all answers of the first turn are there."""
    page.goto(f"{rank.page_url}/?tab=rank")
    answers_are_there(page)


def answers_are_there(page: Page) -> None:
    page.locator(".rank-card").first.wait_for(timeout=30_000)
    expect(page.locator(".rank-card[aria-label*='being written']")).to_have_count(0)


def card(page: Page, letter: str) -> Locator:
    return page.get_by_role("group", name=re.compile(f"^Answer {letter}"))


def asked(page: Page) -> str:
    return page.locator(".rank-asked").inner_text()


def next_one(page: Page, before: str) -> None:
    """Until another turn is on the board, with its answers."""
    expect(page.locator(".rank-asked")).not_to_have_text(before)
    answers_are_there(page)


def text_of(page: Page, letter: str) -> str:
    return card(page, letter).locator(".rank-text").inner_text()


def drag(page: Page, letter: str, place: int) -> None:
    source = card(page, letter).locator(".rank-letter").first.bounding_box()
    target = page.locator(f".rank-slots [data-place='{place}']").bounding_box()
    assert source and target
    page.mouse.move(source["x"] + 10, source["y"] + 10)
    page.mouse.down()
    page.mouse.move(target["x"] + 30, target["y"] + 40, steps=5)
    page.mouse.up()
    expect(card(page, letter)).to_have_accessible_name(re.compile(f"place {place}"))


def export(rank: Served, kind: str, folder: Path) -> list[dict[str, Any]]:
    """The rows that `brogue feedback export --as KIND` writes."""
    file = folder / f"{kind}.jsonl"
    done = run_brogue("feedback", "export", "--as", kind, "--to", str(file), home=rank.home)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


# --- a whole turn ---


@pytest.mark.browser
@pytest.mark.slow
def test_a_whole_turn_by_mouse_is_read_from_the_api_and_the_export(page: Page, rank: Served, tmp_path: Path) -> None:
    rank.queue(*FOUR)
    open_rank(page, rank)
    first, texts = asked(page), {letter: text_of(page, letter) for letter in "ABCD"}
    drag(page, "C", 1)
    drag(page, "A", 2)
    drag(page, "B", 2)
    expect(card(page, "A")).to_have_accessible_name("Answer A, place 2, tied with B")
    page.get_by_role("button", name="Submit").click(force=True)  # it is marked as disabled, and says why
    expect(page.locator(".rank-hint.problem")).to_have_text("Still to place: D.")
    card(page, "D").get_by_role("radio", name="Place 4 of 4").check(force=True)
    page.get_by_role("button", name="Too long").click()
    page.get_by_label("Comment (optional)").fill("<script>document.title = 'x'</script> wordy")
    card(page, "C").get_by_role("button", name="Correct answer C").click()
    page.locator("#correct-rank-text textarea").fill("As it <b>should</b> be.")
    page.locator("#correct-rank").get_by_role("button", name="Save").click()
    expect(card(page, "C").get_by_role("button", name="Correct answer C")).to_have_text("Corrected")
    page.get_by_role("button", name="Submit").click()
    next_one(page, first)
    expect(page.locator(".rank-progress")).to_contain_text("1 of 3 done")

    (ranking,) = rank.judgements("ranking", limit=1)
    assert rank.order(ranking) == {texts["A"]: 1, texts["B"]: 1, texts["C"]: 0, texts["D"]: 2}
    assert ranking["reasons"] == ["too long"] and ranking["rater"] == "anonymous"
    assert ranking["comment"] == "<script>document.title = 'x'</script> wordy"
    assert ranking["seconds"] is not None
    (correction,) = rank.judgements("correction", limit=1)
    assert correction["text"] == "As it <b>should</b> be."
    assert rank.client.response(correction["response"])["text"] == texts["C"]
    pairs = {
        (row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        for row in export(rank, "dpo", tmp_path)
        if row["prompt"][-1]["content"] == first
    }
    better = {(texts["C"], texts[one]) for one in "ABD"} | {(texts[one], texts["D"]) for one in "AB"}
    assert pairs == better | {("As it <b>should</b> be.", texts["C"])}, "no pair of the two that are tied"

    second = asked(page)
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("dialog").get_by_label("The question makes no sense").check()
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    next_one(page, second)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".rank-asked")).to_have_text(second)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".rank-asked")).to_have_text(first)
    assert ranking["id"] not in {one["id"] for one in rank.judgements("ranking")}, "it was taken back"
    expect(card(page, "C")).to_have_accessible_name("Answer C, place 1")


@pytest.mark.browser
@pytest.mark.slow
def test_a_whole_turn_by_keyboard_only_is_read_from_the_api(page: Page, rank: Served) -> None:
    rank.queue(*FOUR)
    open_rank(page, rank)
    keys = page.keyboard
    expect(card(page, "A")).to_be_focused()
    first, texts = asked(page), {letter: text_of(page, letter) for letter in "ABCD"}
    for key in ("3", "ArrowRight", "1", "ArrowRight", "3", "ArrowRight", "4", "ArrowUp", "ArrowUp"):
        keys.press(key)
    expect(card(page, "D")).to_have_accessible_name("Answer D, place 2")
    expect(card(page, "D")).to_be_focused()
    expect(card(page, "C")).to_have_accessible_name("Answer C, place 3, tied with A")
    keys.press("ArrowRight")
    expect(card(page, "A")).to_be_focused()
    keys.press("c")
    expect(page.locator("#correct-rank-text textarea")).to_be_focused()
    keys.press("Control+A")
    keys.type("Typed anew")
    expect(page.locator("#correct-rank-diff")).to_contain_text("Typed anew")
    keys.press("Control+Enter")
    expect(page.locator(".rank-notice")).to_have_text("Your correction is kept.")
    keys.press("Enter")
    next_one(page, first)
    (ranking,) = rank.judgements("ranking", limit=1)
    assert rank.order(ranking) == {texts["A"]: 2, texts["B"]: 0, texts["C"]: 2, texts["D"]: 1}
    assert rank.judgements("correction", limit=1)[0]["text"] == "Typed anew"

    keys.press("u")
    expect(page.locator(".rank-asked")).to_have_text(first)
    expect(card(page, "B")).to_have_accessible_name("Answer B, place 1")
    assert ranking["id"] not in {one["id"] for one in rank.judgements("ranking")}
    keys.press("x")
    expect(page.get_by_role("button", name="All bad")).to_have_attribute("aria-pressed", "true")
    keys.press("Enter")
    next_one(page, first)
    assert rank.judgements("ranking", limit=1)[0]["all_bad"] is True
    second = asked(page)
    keys.press("s")
    expect(page.get_by_role("dialog").get_by_label("I cannot judge this")).to_be_focused()
    keys.press("ArrowDown")
    keys.press("Enter")
    next_one(page, second)
    expect(page.locator(".rank-progress")).to_contain_text("2 of 3 done")
    for key in ("1", "ArrowRight", "1", "ArrowRight", "1", "ArrowRight", "1", "Enter"):
        keys.press(key)
    expect(page.get_by_role("heading", name="Nothing left to rank here")).to_be_visible()


@pytest.mark.browser
def test_keys_after_a_correction_go_to_the_board_at_once_and_stay_where_she_went(page: Page, rank: Served) -> None:
    rank.queue("reed-voice@1", "fern-voice@1", "base", prompts=2)
    open_rank(page, rank)
    page.keyboard.press("c")
    page.locator("#correct-rank-text textarea").fill("It is in aisle three.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".rank-notice")).to_have_text("Your correction is kept.")
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)  # by then the editor has long gone
    expect(card(page, "A")).to_have_accessible_name("Answer A, place 2")
    expect(card(page, "B")).to_be_focused()


@pytest.mark.browser
@pytest.mark.slow
def test_trls_trainers_take_what_was_said_on_the_page_unchanged(page: Page, rank: Served, tmp_path: Path) -> None:
    rank.queue("reed-voice@1", "fern-voice@1", "base", prompts=2)
    open_rank(page, rank)
    for turn in range(2):
        before = asked(page)
        page.keyboard.press("c")
        page.locator("#correct-rank-text textarea").fill(f"Item {turn} is in aisle three.")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".rank-notice")).to_have_text("Your correction is kept.")
        for key in ("2", "ArrowRight", "1", "ArrowRight", "3", "Enter"):
            page.keyboard.press(key)
        if turn == 0:
            next_one(page, before)
    expect(page.get_by_role("heading", name="Nothing left to rank here")).to_be_visible()
    for kind in ("sft", "dpo", "reward"):
        assert len(export(rank, kind, tmp_path)) >= 2
        done = train_two_steps(kind, tmp_path / f"{kind}.jsonl", tmp_path / kind)
        assert done.global_step == 2 and done.training_loss > 0, kind


# --- two answers, and what can go wrong ---


@pytest.mark.browser
def test_of_two_answers_a_rater_says_which_is_better(page: Page, rank: Served) -> None:
    rank.queue("reed", "fern", prompts=4)
    open_rank(page, rank)
    texts = {letter: text_of(page, letter) for letter in "AB"}
    for verdict, how in (("first", "A is better"), ("tie", "t"), ("second", "2"), ("both-bad", "Both bad")):
        before = asked(page)
        if len(how) == 1:
            page.keyboard.press(how)
        else:
            page.get_by_role("button", name=how).click()
        page.get_by_role("button", name="Submit").click()
        if verdict == "both-bad":
            expect(page.get_by_role("heading", name="Nothing left to rank here")).to_be_visible()
        else:
            next_one(page, before)
        assert rank.judgements("comparison", limit=1)[0]["verdict"] == verdict
    shown = rank.judgements("comparison", limit=4)[-1]["shown"]
    assert [rank.client.response(one)["text"] for one in shown] == [texts["A"], texts["B"]]


@pytest.mark.browser
def test_a_half_made_order_survives_the_closing_of_the_tab(page: Page, rank: Served) -> None:
    rank.queue(*FOUR)
    open_rank(page, rank)
    before = {letter: text_of(page, letter) for letter in "ABCD"}
    for key in ("2", "ArrowRight", "ArrowRight", "1"):
        page.keyboard.press(key)
    page.get_by_label("Comment (optional)").fill("not yet")
    open_rank(page, rank)
    assert {letter: text_of(page, letter) for letter in "ABCD"} == before
    expect(card(page, "A")).to_have_accessible_name("Answer A, place 2")
    expect(card(page, "B")).to_have_accessible_name("Answer B, no place yet")
    expect(card(page, "C")).to_have_accessible_name("Answer C, place 1")
    expect(page.get_by_label("Comment (optional)")).to_have_value("not yet")


@pytest.mark.browser
def test_answers_grow_together_and_nothing_can_be_submitted_before_their_end(page: Page, rank: Served) -> None:
    rank.queue("reed-voice@1", "fern-voice@1", "base")
    rank.engine.words, rank.engine.pause_s = 15, 0.1
    page.goto(f"{rank.page_url}/?tab=rank")
    for letter in "ABC":
        expect(card(page, letter).locator(".rank-text")).to_contain_text(re.compile("."))
    expect(page.locator(".rank-card[aria-label*='being written']")).to_have_count(3)
    page.keyboard.press("Enter")
    expect(page.locator(".rank-hint.problem")).to_have_text("The answers are still being written.")
    answers_are_there(page)


@pytest.mark.browser
def test_html_in_questions_and_answers_is_shown_as_text(page: Page, rank: Served) -> None:
    rank.engine.says = "<script>document.title = 'pwned'</script> **bold** ![p](http://a.example/b.png) <img src=x>"
    rank.queue("reed", "fern", ask="<img src=x onerror=\"document.title='pwned'\"> item")
    open_rank(page, rank)
    assert asked(page).startswith("<img src=x onerror")
    expect(card(page, "A")).to_contain_text("<script>document.title = 'pwned'</script> bold")
    expect(page.locator(".rank-board :is(img, script)")).to_have_count(0)
    expect(card(page, "A").locator("strong")).to_have_text("bold")
    assert "pwned" not in page.title()


@pytest.mark.browser
def test_an_answer_that_failed_is_asked_for_again(page: Page, rank: Served) -> None:
    rank.queue("reed-voice@2", "fern-voice@1")
    rank.engine.break_after = 1
    try:
        page.goto(f"{rank.page_url}/?tab=rank")
        again = page.get_by_role("button", name="Ask again")
        again.first.wait_for(timeout=30_000)
        expect(page.locator(".rank-hint")).to_have_text("An answer is missing: ask for it again, or skip.")
    finally:
        rank.engine.break_after = None
    again.first.click()
    answers_are_there(page)
    expect(again).to_have_count(0)
    expect(page.locator(".rank-hint")).to_have_text("Say which one is better.")


@pytest.mark.browser
def test_without_a_queue_an_admin_is_told_to_make_one_and_can(page: Page, rank: Served) -> None:
    rank.queue("reed", "fern")
    for one in rank.client.queues():
        rank.client.remove_queue(one["name"])
    page.goto(f"{rank.page_url}/?tab=rank")
    expect(page.get_by_role("heading", name="There is nothing to rank yet")).to_be_visible()
    page.get_by_role("button", name="Make a queue").click()
    page.get_by_label("Name", exact=True).fill("made-here")
    make = page.get_by_role("button", name="Make the queue")
    make.click()
    expect(page.locator("#new-queue .made.block")).to_contain_text("Type questions or name a dataset, one of the two.")
    page.get_by_label("What is asked, one question a line").fill("One?\nTwo?")
    for arm in ("reed", "fern:0.9"):
        page.get_by_label("Who answers").fill(arm)
        page.keyboard.press("Enter")
    make.click()
    expect(page.locator("#new-queue .made.block")).to_contain_text("The queue made-here is ready.")
    answers_are_there(page)
    (queue,) = rank.client.queues()
    assert [(arm["model"], arm["temperature"]) for arm in queue["arms"]] == [("reed", None), ("fern", 0.9)]
    assert queue["tasks"] == 2


@pytest.mark.browser
def test_on_a_phone_places_are_tapped_and_nothing_is_wider_than_the_screen(browser: Any, rank: Served) -> None:
    rank.queue(*FOUR)
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_rank(page, rank)
    card(page, "B").get_by_role("radio", name="Place 1 of 4").tap(force=True)
    expect(card(page, "B")).to_have_accessible_name("Answer B, place 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    expect(page.get_by_role("button", name="Submit")).to_be_in_viewport()
    context.close()


@pytest.mark.browser
def test_a_name_typed_on_the_page_is_the_raters(page: Page, rank: Served) -> None:
    rank.queue("reed", "fern")
    open_rank(page, rank)
    page.get_by_label("Your name").fill("Zoë Ó")
    page.keyboard.press("Tab")
    expect(page.locator(".rank-board")).not_to_have_attribute("aria-busy", "true")
    answers_are_there(page)
    before = asked(page)
    page.get_by_role("button", name="Tie").click()
    page.get_by_role("button", name="Submit").click()
    next_one(page, before)
    assert rank.judgements("comparison", limit=1)[0]["rater"] == "Zoë Ó"


@pytest.mark.browser
def test_a_queue_that_is_gone_is_told_in_one_line_and_the_board_stays(page: Page, rank: Served) -> None:
    name = rank.queue("reed", "fern")
    open_rank(page, rank)
    with suppress(GatewayError):
        rank.client.remove_queue(name)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(".rank-notice.problem")).to_be_visible()
    expect(card(page, "A")).to_have_accessible_name("Answer A, better")


@pytest.mark.browser
def test_who_signs_in_rates_under_their_own_name_and_a_user_sees_no_such_tab(browser: Any, rank: Served) -> None:
    from assistant.ui import build_app
    from assistant.ui_people import COOKIE, People

    rank.queue("reed", "fern")
    rank.client.add_user("rita", "correct horse battery", "rater")
    rank.client.add_user("uwe", "correct horse battery", "user")
    tokens = {name: rank.client.sign_in(name, "correct horse battery")["token"] for name in ("rita", "uwe")}
    try:
        with served(build_app(People(rank.client.url, ADMIN_KEY))) as url:
            for name, token in tokens.items():
                context = browser.new_context()
                context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
                page = context.new_page()
                page.goto(f"{url}/?tab=rank")
                if name == "uwe":
                    page.get_by_role("tab", name="Chat").wait_for(timeout=30_000)
                    expect(page.get_by_role("tab", name="Rank")).to_have_count(0)
                else:
                    answers_are_there(page)
                    expect(page.get_by_label("Your name")).to_be_hidden()
                    expect(page.get_by_role("button", name="Make a queue")).to_have_count(0)
                    before = asked(page)
                    page.keyboard.press("t")
                    page.keyboard.press("Enter")
                    next_one(page, before)
                context.close()
        assert rank.judgements("comparison", limit=1)[0]["rater"] == "rita"
    finally:
        for name in tokens:
            rank.client.remove_user(name)


# --- plain functions ---


def test_progress_is_told_in_words() -> None:
    told = progress_shown({"done": 3, "of": 20, "seconds_left": 238.0})
    assert told == {"progress": "3 of 20 done, about 4 min left", "share": 3 / 20}
    assert progress_shown({"done": 0, "of": 3, "seconds_left": None})["progress"] == "0 of 3 done"
    assert (
        progress_shown({"done": 2, "of": 3, "seconds_left": 20})["progress"] == "2 of 3 done, less than a minute left"
    )
    assert progress_shown({"done": 0, "of": 0, "seconds_left": None})["share"] == 1


def test_a_turn_for_the_browser_tells_nothing_of_who_wrote_what() -> None:
    answers = [{"position": n, "response_id": None, "text": None, "version": "secret@1"} for n in range(2)]
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    turn = {"id": "t", "queue": "q", "kind": "comparison", "messages": messages, "answers": answers, "arm": "secret"}
    shown = turn_shown(turn)
    assert shown is not None and "secret" not in json.dumps(shown)
    assert shown["prompt"] == [{"role": "Customer", "text": "Hello"}]
    assert turn_shown(None) is None


def test_markdown_becomes_html_without_any_html_of_its_own() -> None:
    assert rendered("2011.") == "<p>2011.</p>\n", "a year, not a list with nothing in it"
    assert "<ol>" in rendered("1. one\n2. two")
    assert "javascript" not in re.sub(r"\[.*", "", rendered("[x](javascript:alert(1))"))
    assert 'rel="noopener noreferrer nofollow"' in rendered("[x](https://a.example)")
    assert "<b>" not in rendered("<b>x</b>") and "&lt;b&gt;" in rendered("<b>x</b>")


def test_arms_prompts_and_reasons_are_read_as_they_are_typed() -> None:
    assert parse_arms(["reed", "reed:0.9", "reed-voice@2", "a:b"]) == [
        {"model": "reed"}, {"model": "reed", "temperature": 0.9}, {"model": "reed-voice@2"}, {"model": "a:b"},
    ]  # fmt: skip
    assert [prompt["messages"][0]["content"] for prompt in parse_prompts(" One? \n\nTwo?\n")] == ["One?", "Two?"]
    shown = reasons_shown({"up": ["helpful"], "down": ["wrong-source", "helpful"]})
    assert shown == [{"id": "helpful", "label": "Helpful"}, {"id": "wrong-source", "label": "Wrong source"}]
