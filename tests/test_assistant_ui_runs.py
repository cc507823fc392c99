"""The trainings under the adapters: with a browser against a scripted gateway, and as plain functions."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from adapters.curves import Panel
from assistant.ui_runs import runs_html
from tests.scripted_gateway import ADMIN_KEY, CURVES, ScriptedGateway, run, served

PROGRESS = {"step": 23, "steps": 60, "loss": 0.912, "tokens_per_s": 352.0, "seconds_left": 140.0}


def running(step: int = 23) -> dict[str, Any]:
    return run(id="now", state="running", reason=None, progress=PROGRESS | {"step": step})


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


@pytest.mark.browser
def test_what_is_being_trained_is_followed_while_the_curves_of_a_version_stay_open_and_the_focus_too(
    page: Page, gateway: ScriptedGateway, url: str
) -> None:
    gateway.runs = [running(), run("reed-voice@3")]
    page.goto(f"{url}/?tab=adapters")
    expect(page.get_by_text("Step 23 of 60 · loss 0.912, 352 tokens/s, 2 min left")).to_be_visible()
    version = page.locator("#runs summary").filter(has_text="reed-voice, version 3")
    version.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("img", name=re.compile("^Loss by step: training from 2.5 to"))).to_be_visible()
    gateway.runs = [running(24), run("reed-voice@3")]
    expect(page.get_by_text("Step 24 of 60")).to_be_visible()
    expect(page.locator("#runs figure svg")).to_have_count(len(CURVES))
    expect(version).to_be_focused()
    gateway.runs = [run("reed-voice@4"), run("reed-voice@3")]
    expect(page.get_by_role("heading", name="reed-voice, version 4")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    version.click()
    expect(page.locator("#runs figure")).to_have_count(0)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_curves_fit_the_screen(page: Page, gateway: ScriptedGateway, url: str, width: int) -> None:
    gateway.runs = [running(), run("reed-voice@3"), run(reason="w" * 300)]
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{url}/?tab=adapters")
    page.get_by_role("heading", name="reed-voice, version 3").click()
    expect(page.locator("#runs figure svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- without a browser ---


def text_of(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def test_a_training_is_told_in_words() -> None:
    html = text_of(runs_html([running(), run("reed-voice@2"), run()], {}))
    assert "reed-voice, a new version in training sft on reed-answers · 2026-11-21 09:30 UTC" in html
    assert "reed-voice, version 2 sft on" in html
    assert "went wrong" in html and "the loss of step 6 is no number" in html
    measured = runs_html([running() | {"progress": PROGRESS | {"phase": "measuring", "loss": None}}], {})
    assert "Being measured: 23 of 60" in text_of(measured)
    assert "It is being prepared." in runs_html([running() | {"progress": None}], {})
    assert runs_html([], {}) == ""


def test_curves_are_drawn_in_the_pages_colours_and_told_to_who_cannot_see_them() -> None:
    html = runs_html([run("reed-voice@2")], {"run-reed-voice@2": [Panel.model_validate(panel) for panel in CURVES]})
    assert html.count("<svg") == 2 and "var(--bar)" in html and "var(--alarm)" in html and "#0102" not in html
    assert 'aria-label="Reward by step: reward from 0.0125 to 0.75"' in html
    assert "Nothing has been measured yet." in runs_html([run("reed-voice@2")], {"run-reed-voice@2": []})


def test_what_a_run_says_cannot_become_markup() -> None:
    bad = run(id='"><script>', reason="<script>", recipe="<b>")
    bad["asked"] |= {"adapter": "<script>", "dataset": "<script>", "created": "<b><script>"}
    html = runs_html([bad], {})
    assert "<script>" not in html and "<b>" not in html
