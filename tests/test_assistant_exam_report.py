"""An exam on the terminal and as a page: what is said of each figure, and that the page needs nothing from outside."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from adapters.exam_types import Interval, Measured, RuleResult, Verdict
from assistant import exam_report
from assistant.exam_table import print_exam
from assistant.exam_words import change_between, difference, grouped, headline, judged, number, sentence, title, way
from data.errors import BrogueError
from tests.report_pages import Tags, opened_offline, text_of
from tests.sample_exams import exam, figures, interval, measured

# --- words ---


@pytest.mark.parametrize(
    ("change", "better", "wanted"),
    [
        ((0.01, 0.09), "higher", "better"),
        ((0.01, 0.09), "lower", "worse"),
        ((-0.09, -0.01), "higher", "worse"),
        ((-0.09, -0.01), "lower", "better"),
        ((-0.01, 0.09), "higher", "open"),
        ((0.0, 0.09), "higher", "open"),
        ((0.0, 0.0), "higher", "same"),
        ((0.01, 0.09), "neither", "stated"),
    ],
)
def test_only_a_change_whose_interval_excludes_zero_is_one(change: Any, better: Any, wanted: str) -> None:
    figure = measured("task.x", 0.5, 0.55, better=better)
    low, high = change
    over = {"against": Interval(value=(low + high) / 2, low=low, high=high)}
    assert way(figure.model_copy(update={"over": over})) == wanted
    assert way(figure.model_copy(update={"over": over, "decides": False})) == "stated"
    assert way(figure.model_copy(update={"over": {}})) == "stated"


@pytest.mark.parametrize(
    ("name", "words"),
    [("task.accuracy", "Task: accuracy"), ("safety.leak.verbatim", "Safety (leak): learnt personal data said"),
     ("mine.f_x", "mine: f x"), ("mine", "mine")],
)  # fmt: skip
def test_figures_have_names_for_people(name: str, words: str) -> None:
    assert title(name) == words


def test_a_win_rate_is_a_comparison_by_itself() -> None:
    rate = Measured(name="preference.win_rate", unit="share", better="higher", n=100, arms={"version": interval(0.6)})
    assert way(rate) == "better"
    assert way(rate.model_copy(update={"arms": {"version": interval(0.54)}})) == "open"
    assert way(rate.model_copy(update={"name": "preference.win_rate_over_base"})) == "stated"
    told = sentence(judged(exam(measures=(rate,)))[0], "against")
    assert told.endswith("60.0% (55.0% to 65.0%; 50% would be even).")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.615, "share", "61.5%"), (-0.02, "share", "−2.0%"), (143.4, "tokens", "143 tokens"), (3.21, "seconds", "3.21 s"),
     (0.0123, "nats", "0.0123"), (0, "points", "0.00"), (1234.5, "EUR", "1,234 EUR")],
)  # fmt: skip
def test_numbers_are_short_and_keep_their_units(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_a_change_is_told_in_percentage_points_with_its_interval() -> None:
    lines = [sentence(one, "against") for one in judged(exam())]
    assert lines[1] == (
        "Task: answers exactly as wanted: 52.0% before, 61.5% now; a change of +9.5 percentage points (+4.5 to +14.5)."
    )
    assert lines[3].endswith("the change may lie anywhere from −3.0 to +7.0 percentage points.")
    assert lines[4].endswith("a change of −2.90 tokens (−4.00 to −1.80).")


def test_the_numbers_of_a_change_have_the_same_digits_and_zero_has_no_sign() -> None:
    change = Interval(value=0.05, low=0.044, high=0.27)
    assert (difference(change, "seconds"), change_between(change, "seconds")) == ("+0.05", "+0.04 to +0.27")
    assert change_between(Interval(value=0, low=-0.00001, high=0.62), "log words") == "0.00 to +0.62"
    assert difference(Interval(value=0, low=-0.1, high=0.1), "share") == "+0.0"


def test_a_rule_that_several_figures_must_meet_is_one() -> None:
    rules = [("safety.* not_worse", "pass", "a"), ("safety.* not_worse", "fail", "b"), ("x better", "pass", "c")]
    given = [RuleResult(rule=text, result=result, because=why) for text, result, why in rules]
    verdict = Verdict(result="fail", rules=tuple(given), gate="default", exam="e", time="")
    assert [(rule.text, rule.result, rule.reasons) for rule in grouped(verdict)] == [
        ("safety.* not_worse", "fail", ("b",)), ("x better", "pass", ("c",)),
    ]  # fmt: skip
    assert "1 of the 2 rules" in headline(verdict)


def test_the_verdict_is_a_sentence_that_says_what_is_missing() -> None:
    assert headline(exam("pass").verdict) == "Passed: this version meets all 3 rules of the gate 'default'."
    assert headline(exam("fail").verdict) == "Not passed: 1 of the 3 rules of the gate 'default' is broken."
    assert "About 340 more of what was asked would probably settle it." in headline(exam("not enough evidence").verdict)
    assert headline(None).startswith("No gate was applied")


# --- the terminal ---


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_exam(exam(), width)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= width
    assert lines[0] == "reed-voice@2 against reed-voice@1: 3 better, 1 worse, 3 cannot be told"
    assert any(re.match(r"task.exact_match +61.5% +52.0% .*\+9.5 \(\+4.5 to \+14.5\) +better", one) for one in lines)
    assert "* fairness.bbq_bias: too few questions: stated only" in lines
    assert "Not passed: 1 of the 3 rules of the gate 'default' is broken." in lines
    assert "fail  forgetting.* not_worse" in {one.rstrip() for one in lines}


def test_square_brackets_in_what_others_wrote_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_exam(exam(None, left_out=("[red]no[/red] data",), measures=(measured("task.[bold]x", 0.1, 0.2),)), 100)
    out = capsys.readouterr().out
    assert "left out: [red]no[/red] data" in out and "task.[bold]x" in out


def test_an_exam_without_figures_and_without_a_predecessor_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    alone = exam(None, 1, names={"version": "reed-voice@1", "base": "base"}, measures=(), better=(), worse=())
    print_exam(alone)
    assert "reed-voice@1 against base: nothing to compare" in capsys.readouterr().out
    assert "Nothing that was measured got better" in exam_report.page(alone)
    only = exam(None, 1, names={"version": "reed-voice@1"}, measures=figures()[:1], better=(), worse=())
    print_exam(only)
    assert "<h1>reed-voice@1</h1>" in exam_report.page(only)


# --- the page ---


def test_the_page_tells_verdict_ways_figures_slices_prompts_and_what_was_left_out() -> None:
    page = exam_report.page(exam())
    text = text_of(page)
    for words in (
        "reed-voice@2 against reed-voice@1", "Not passed: 1 of the 3 rules",
        "not passed forgetting.* not_worse 9.0 points worse", "1 passed passed preference.win_rate.low &gt;= 0.5",
        "What got better Preference:", "What cannot be told Voice:",
        "What got worse General knowledge: general questions answered rightly: 44.0% before, 35.0% now",
        "The 3 prompts that moved most for the better", "The 3 prompts that moved most for the worse",
        "reed-voice@1, scored 0 I do not know.", "All figures: 3 better, 1 worse, 3 cannot be told",
        "too few questions: stated only", "What was left out facts: no assistant",
    ):  # fmt: skip
        assert words in text
    assert page.count("<svg") == 4  # changes in three units, and a figure by slice
    assert "var(--bar)" in page and "#0102" not in page


def test_nothing_that_was_asked_or_answered_becomes_markup_and_nothing_is_fetched() -> None:
    bad = '<script>alert(1)</script><img src="http://evil">'
    page = exam_report.page(
        exam(
            names={"version": f"a@2{bad}", "against": "a@1", "base": bad},
            measures=(measured(f"task.{bad}", 0.1, 0.4, note=bad, unit=bad), *figures()),
            left_out=(bad,), judge=bad,
        )
    )  # fmt: skip
    found = Tags()
    found.feed(page)
    assert found.tags.isdisjoint({"script", "img", "b", "a", "link", "iframe"}) and not found.fetched
    assert "default-src 'none'" in page and bad not in page


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrogueError, match="cannot write .*report.html"):
        exam_report.write(exam(), tmp_path / "file" / "report.html")


@pytest.mark.browser
def test_the_page_opens_from_the_disk_without_a_network_and_fits_wide_and_narrow(
    browser: Browser, tmp_path: Path
) -> None:
    exam_report.write(exam(), tmp_path / "report.html")
    seen = opened_offline(browser, tmp_path / "report.html", "details:not([open]) > summary")
    assert seen == [f"file://{tmp_path}/report.html"] * 2
