"""How adapters got better, on the page: with a browser against a scripted gateway, and as plain functions."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from assistant.ui_loop_html import RECIPES, Asked, loops_html, panels
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, adapter, loop, round_, served, served_page

# What is asked of the server takes longer than it takes the page to look again.
SLOW = """() => { const now = window.fetch;
  window.fetch = (...asked) => new Promise((done) => setTimeout(done, 3500)).then(() => now(...asked)); }"""


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
    assert gateway.loops, "it was reset"
    return gateway_and_page[1]


@pytest.mark.browser
def test_a_retrain_is_confirmed_first_then_followed_to_its_end(page: Page, gateway: ScriptedGateway, url: str) -> None:
    page.goto(f"{url}/?tab=adapters")
    page.get_by_role("button", name="Retrain: reed-voice").click()
    question = page.get_by_role("alertdialog", name="Retrain reed-voice?")
    expect(question.get_by_role("button", name="Start, and wait for my word")).to_be_focused()
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_have_count(0)
    assert not gateway.admin_requests, "nothing starts before the confirmation"
    page.get_by_role("button", name="Retrain: reed-voice").click()
    question.get_by_role("button", name="Start; if it passes, it goes live").click()
    expect(page.get_by_text("Step 3 of 6: a new version is being trained.")).to_be_visible()
    assert gateway.admin_requests == [("POST", "reed-voice/retrain", {"recipe": "dpo", "auto": True})]
    gateway.loops["reed-voice"] = loop() | {"problem": "the disk is full", "unfinished": True}
    expect(page.get_by_text("The retrain stopped: the disk is full")).to_be_visible()
    page.get_by_role("button", name="Go on with the retrain: reed-voice").click()
    expect(page.get_by_role("progressbar", name="Retrain of reed-voice")).to_be_visible()
    assert gateway.admin_requests[1] == ("POST", "reed-voice/retrain", {})


@pytest.mark.browser
def test_what_a_retrain_learns_from_can_be_chosen_by_keyboard(page: Page, gateway: ScriptedGateway, url: str) -> None:
    page.goto(f"{url}/?tab=adapters")
    page.get_by_role("button", name="Retrain: reed-voice").click()
    ways = page.get_by_role("group", name="What it learns from")
    expect(ways.get_by_role("radio")).to_have_count(4)
    expect(ways.get_by_role("radio", checked=True)).to_have_value("dpo")
    expect(ways.get_by_text("Needs thumbs up or corrections.")).to_be_visible()
    ways.get_by_role("radio", checked=True).press("ArrowDown")
    expect(ways.get_by_role("radio", checked=True)).to_have_value("ppo")
    ways.get_by_text("Answers that people liked").click()
    page.get_by_role("button", name="Start, and wait for my word").click()
    expect(page.get_by_role("progressbar", name="Retrain of reed-voice")).to_be_visible()
    assert gateway.admin_requests == [("POST", "reed-voice/retrain", {"recipe": "sft"})]


@pytest.mark.browser
def test_a_question_stays_when_a_look_at_another_retrain_overtakes_it(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.adapters["fern-voice"] = adapter("fern-voice")
    gateway.loops["fern-voice"] = loop("fern-voice") | {"running": True}
    page.goto(f"{url}/?tab=adapters")
    expect(page.get_by_role("progressbar", name="Retrain of fern-voice")).to_be_visible()
    looks: list[str] = []
    page.on("request", lambda asked: looks.append(asked.post_data or "") if "queue/join" in asked.url else None)
    page.evaluate(SLOW)
    page.get_by_role("button", name="Retrain: reed-voice").click()
    question = page.get_by_role("alertdialog", name="Retrain reed-voice?")
    expect(question).to_be_visible()
    for _ in range(100):  # a look that was begun before the question was there
        if any("look" in one for one in looks):
            break
        page.wait_for_timeout(100)
    assert any("look" in one for one in looks)
    expect(question).to_be_visible()
    page.wait_for_timeout(1000)  # until it is answered
    expect(question).to_be_visible()


@pytest.mark.browser
def test_a_report_opens_in_a_window_of_its_own(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=adapters")
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Report of version 2").click()
    expect(popup.value.get_by_role("heading", name="reed-voice@2 against reed-voice@1")).to_be_visible()
    popup.value.goto(f"{url}/reports/none")
    expect(popup.value.get_by_text("no such exam")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_history_fits_the_screen(page: Page, gateway: ScriptedGateway, url: str, width: int) -> None:
    gateway.loops["reed-voice"] |= {"problem": "w" * 300}
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{url}/?tab=adapters")
    expect(page.locator("#loops figure svg").first).to_be_visible()
    page.get_by_text("Retrains so far").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- without a browser ---


def test_the_page_offers_the_recipes_that_there_are_and_the_loops_own_first() -> None:
    from adapters.loop import RECIPES as KNOWN
    from adapters.loop import Asked as Begun

    assert tuple(RECIPES) == KNOWN and next(iter(RECIPES)) == Begun(adapter="a").recipe


def test_a_report_is_only_for_who_may_see_it() -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from assistant.ui_loop import add_reports
    from assistant.ui_people import People

    gateway, app = ScriptedGateway(), FastAPI()
    gateway.reset()
    gateway.users = {"ann": "admin", "bob": "rater"}
    with served(gateway.build_app()) as gateway_url:
        add_reports(app, People(gateway_url, ADMIN_KEY))
        for who, status in (("ann", 200), ("bob", 401), ("", 401)):
            cookies = {"brogue-session": who} if who else {}
            reply = TestClient(app, cookies=cookies).get("/reports/reed-voice-2-0a1b2c3d")
            assert (reply.status_code, "reed-voice@2 against" in reply.text) == (status, status == 200)
            assert reply.headers["content-security-policy"].endswith("sandbox")


def text_of(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", re.sub(r"(?s)<svg.*?</svg>", "", html)).split())


def shown(**more: Any) -> str:
    return text_of(loops_html([loop() | more], [adapter()]))


def test_versions_are_told_with_their_verdicts_newest_first() -> None:
    text = shown()
    assert "12 new judgements since the stable version was made; it takes 20 to learn from them." in text
    assert "Version 3 not passed Report Compared with version 2: 3 better, 1 worse" in text
    assert text.index("Version 3") < text.index("Version 2 passed") < text.index("Version 1 undecided")
    assert "Compared with the base model" in text
    assert "dpo from 43 judgements, 18 minutes: reed-voice@2 became candidate (round 2: not enough" in text
    assert "1 new judgement since the stable version was made." in shown(judgements=1, wanted=1)
    assert "cannot be counted right now" in shown(judgements=None)


def test_without_an_exam_the_page_says_what_makes_one() -> None:
    text = shown(versions=[{"version": 1, "exam": None}], rounds=[])
    assert "No version has been examined yet." in text and "Retrains so far" not in text


def test_figures_and_ratings_share_one_axis_of_versions() -> None:
    drawn = panels(loop(), adapter())
    assert [panel.title.partition(":")[0] for panel in drawn] == [
        "People", "Preference", "Task", "General knowledge", "Voice", "Cost",
    ]  # fmt: skip
    assert {panel.versions for panel in drawn} == {(1, 2, 3)}
    assert drawn[0].words.startswith("People: answers found helpful by version: version 1 88.3%, version 2 95.2%")
    assert drawn[1].even == 0.5 and drawn[5].title == "Cost: latency p95 (seconds, lower is better)"
    html = loops_html([loop()], [adapter()])
    assert html.count("<svg") == 6 and "var(--bar)" in html and "#0102" not in html


def test_a_retrain_of_now_is_told_by_its_step() -> None:
    assert "It is being prepared." in shown(running=True, rounds=[])
    running = shown(running=True, said="12 of 60", rounds=[round_(3, complete=False, doing="exam")])
    assert "Step 4 of 6: the new version is being examined. 12 of 60" in running
    assert "The retrain stopped: the disk is full" in shown(problem="the disk is full")


def test_a_round_that_was_refused_or_is_not_complete_says_so() -> None:
    steps = {"place": {"minutes": 0, "result": {"alias": None, "because": "round 2: fail"}}}
    assert "reed-voice@2 was kept, but is used by nobody (round 2: fail)" in shown(rounds=[round_(2, steps=steps)])
    assert "not complete, next: exam" in shown(rounds=[round_(2, complete=False, where="next: exam")])


def test_what_others_wrote_cannot_become_markup() -> None:
    bad = '"><script>'
    told = loop() | {"adapter": bad, "said": bad, "problem": bad, "rounds": [round_(2, where=bad, created=bad)]}
    told["versions"][1]["exam"] |= {"id": bad, "counted": bad, "names": {"against": f"a@{bad}"}}
    for more in ({}, {"running": True}):
        html = loops_html([told | more], [adapter(bad)], asked=Asked(bad))
        assert "<script>" not in html
