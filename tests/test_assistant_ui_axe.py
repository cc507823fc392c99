"""Nothing that axe-core calls a serious or critical barrier: on any tab, wide or narrow, light or dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from assistant import advice_report, exam_report
from tests.conftest import ROOT
from tests.sample_advice import advice
from tests.sample_exams import exam
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, served

AXE = max(ROOT.glob(".venv/axe-core-*/axe.min.js"), default=None)
SCREENS = {"wide": (1280, 900), "phone": (390, 844)}
RUN = "() => axe.run(document, {resultTypes: ['violations'], iframes: false})"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(AXE is None, reason="axe-core is not in .venv; fetch it from npm: make browser"),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    gateway.reset()
    yield gateway


@pytest.fixture(scope="module")
def url(gateway: ScriptedGateway) -> Iterator[str]:
    from assistant.ui import build_app
    from assistant.ui_people import People

    with served(gateway.build_app()) as gateway_url, served(build_app(People(gateway_url, ADMIN_KEY))) as url:
        yield url


def barriers(page: Page) -> list[str]:
    """What axe-core calls serious or critical, on a wide screen and a phone, in the light and in the dark."""
    assert AXE is not None
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = []
    for screen, (width, height) in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        for dark in (False, True):
            page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
            found += [f"{screen} {'dark' if dark else 'light'}: {one}" for one in _seen(page.evaluate(RUN))]
    return found


def _seen(result: dict[str, Any]) -> list[str]:
    grave = (one for one in result["violations"] if one["impact"] in ("serious", "critical"))
    return [f"{one['id']}: {node['html'][:200]} {node['any'][:1]}" for one in grave for node in one["nodes"]]


def answered(page: Page, url: str) -> None:
    """The chat with an answer from documents."""
    page.goto(url)
    page.get_by_label("Your message").fill("document hello [1] more")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Not helpful").wait_for()


def test_the_empty_chat(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#chat .example").first.wait_for()
    assert not barriers(page)


def test_an_answer_with_its_sources_a_thumb_with_reasons_and_the_editor(page: Page, url: str) -> None:
    answered(page, url)
    page.locator("#chat .sources summary").first.click()
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_role("checkbox", name="Wrong source").wait_for()
    page.get_by_role("button", name="Correct this answer").click()
    page.get_by_label("The answer as it should be").fill("Something else entirely")
    page.get_by_role("group", name="Your changes").wait_for()
    assert not barriers(page)


def test_two_answers_side_by_side(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=compare")
    page.get_by_label("Your question").fill("please hang up")
    page.keyboard.press("Enter")
    page.locator("#right .notice").wait_for()
    page.get_by_role("button", name="Ask both").wait_for()
    assert not barriers(page)


def test_the_adapters_with_a_question_open_and_the_curves_of_a_training(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=adapters")
    page.get_by_role("button", name="Promote version 3 of reed-voice").click()
    page.get_by_role("alertdialog").wait_for()
    page.get_by_role("heading", name="reed-voice, version 3").click()
    page.locator("#runs svg").first.wait_for()
    page.get_by_role("button", name="Retrain: reed-voice").click()
    page.get_by_role("alertdialog", name="Retrain reed-voice?").wait_for()
    page.get_by_text("Retrains so far").click()
    assert not barriers(page)


def test_the_report_of_an_exam(page: Page) -> None:
    page.set_content(exam_report.page(exam()))
    assert not barriers(page)


def test_the_page_of_an_advice(page: Page) -> None:
    page.set_content(advice_report.page(advice(results=advice().results[5:10])))  # the recommended arm, unfolded
    assert not barriers(page)


def test_the_documents_with_a_search(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=knowledge")
    page.get_by_label("A question to try").fill("refunds")
    page.keyboard.press("Enter")
    page.locator("#found .hit").first.wait_for()
    assert not barriers(page)


def test_ranking_without_a_queue_and_with_an_answer_that_is_corrected(page: Page, tmp_path: Path) -> None:
    from assistant.client_feedback import FeedbackClient
    from assistant.ui import build_app
    from assistant.ui_people import People
    from tests.feedback_gateway import feedback_gateway

    with feedback_gateway(tmp_path) as (gateway_url, _, key), served(build_app(People(gateway_url, key))) as url:
        page.goto(f"{url}/?tab=rank")
        page.get_by_role("heading", name="Rank answers").wait_for()
        found = barriers(page)
        arms = [{"model": name} for name in ("reed-voice@1", "reed-voice@2", "fern-voice@1", "base")]
        asked = [{"messages": [{"role": "user", "content": "What is a *hoe*?"}]}]
        FeedbackClient.with_key(gateway_url, key).add_queue("garden", arms, prompts=asked)
        page.reload()
        page.locator(".rank-card").first.wait_for()
        expect(page.locator(".rank-card[aria-label*='being written']")).to_have_count(0)
        page.keyboard.press("1")
        page.get_by_role("button", name=re.compile("^Correct answer")).first.click()
        page.get_by_label("The answer as it should be").fill("A tool.")
        page.get_by_role("group", name="Your changes").wait_for()
        assert not found + barriers(page)


def test_signing_in(page: Page, url: str) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("Password").fill("wrong")
    page.get_by_label("Name").fill("ann")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert not barriers(page)
