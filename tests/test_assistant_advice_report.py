"""An advice on the terminal and as a page: what is said of each arm, and that the page needs nothing from outside."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from adapters.exam_types import Interval
from assistant import advice_plots, advice_report
from assistant.advice_table import print_advice
from assistant.advice_types import Advice, Confusion, Growth, Point
from assistant.advice_words import (
    Cost,
    cost_of_asking,
    currency,
    found,
    front,
    growth_that_matters,
    left_out,
    ordered,
    seconds,
    size,
    standing,
    unfinished,
)  # fmt: skip
from data.errors import BrogueError
from tests.report_pages import Tags, opened_offline, text_of
from tests.sample_advice import LABELS, advice, interval, recommendation

BAD = '<script>alert(1)</script><img src="http://evil">'


def with_arm(name: str, **figures: Any) -> Advice:
    """The sample with other test figures of an arm."""
    whole = advice()
    results = tuple(
        one.model_copy(update={"test": one.test.model_copy(update=figures)})
        if one.arm.name == name and one.test
        else one
        for one in whole.results
    )
    return whole.model_copy(update={"results": results})


# --- words ---


def test_arms_stand_the_best_first_then_those_that_did_not_come_to_the_end() -> None:
    names = [one.arm.name for one in ordered(advice())]
    assert names[:3] == ["lora+few-shot", "embedding-lr", "sft-lora"]
    assert names[-4:] == ["prompt", "soft-prompt", "ia3", "lora+rag"]
    task = advice().task.model_copy(update={"better": "lower"})
    assert ordered(advice(task=task))[0].arm.name == "prompt"


@pytest.mark.parametrize(
    ("quality", "cost", "better", "wanted"),
    [
        ({"a": 0.5, "b": 0.7, "c": 0.6}, {"a": 1, "b": 2, "c": 3}, "higher", ["a", "b"]),
        ({"a": 0.5, "b": 0.7, "c": 0.7}, {"a": 1, "b": 3, "c": 2}, "higher", ["a", "c"]),
        ({"a": 0.5, "b": 0.7}, {"a": 1, "b": 1}, "higher", ["b"]),
        ({"a": 0.5, "b": 0.7, "c": 0.4}, {"a": 0, "b": 0.5, "c": 2}, "lower", ["a", "c"]),
    ],
)
def test_the_front_is_what_no_other_arm_beats_in_quality_and_cost(
    quality: Any, cost: Any, better: str, wanted: list[str]
) -> None:
    assert front(quality, cost, better) == wanted


def test_cost_is_the_price_only_where_every_arm_has_one() -> None:
    assert cost_of_asking(advice()).title == "seconds for an answer"
    priced = tuple(one.model_copy(update={"price_per_1000": 0.2}) for one in advice().results)
    assert cost_of_asking(advice(results=priced)).title == "price of 1,000 answers"
    assert cost_of_asking(advice(results=(*priced[:-4], *advice().results[-4:]))).title == "seconds for an answer"


def test_a_stopped_arm_is_told_by_what_the_validation_records_said_last() -> None:
    soft = next(one for one in advice().results if one.arm.name == "soft-prompt")
    known = found(soft)
    assert known is not None and (known.figure.value, known.rows, known.validation) == (0.53, 1600, True)
    assert found(advice().results[-1]) is None


def test_a_stopped_arm_that_was_tested_in_the_end_stands_by_its_test_figure() -> None:
    late = tuple(one.model_copy(update={"state": "stopped", "why": "behind"}) if one.arm.name == "sft-lora" else one
                 for one in advice().results)  # fmt: skip
    assert [one.arm.name for one in ordered(advice(results=late))][2] == "sft-lora"
    assert [state for one, state in unfinished(advice(results=late)) if one.arm.name == "sft-lora"] == ["stopped"]


def test_what_an_arm_did_not_get_to_is_told_once() -> None:
    whole = advice()
    part = whole.results[0].model_copy(update={"why": "no time for more rows"})
    lines = ("prompt: no time for more rows", "asking again: no time")
    found = advice(results=(part, *whole.results[1:]), left_out=lines)
    assert [(one.arm.name, state) for one, state in unfinished(found)][0] == ("prompt", "not all of it")
    assert left_out(found) == ["asking again: no time"]


def test_the_terminal_tells_of_more_data_what_matters_and_what_was_not_told() -> None:
    grown = tuple(Growth(arm=arm, rows=9, twice=interval(0), told=f"{arm} grows.")
                  for arm in ("word-lr", "embedding-lr", "lora+few-shot"))  # fmt: skip
    said = recommendation(growth=grown, changes=("With more data another one. lora+few-shot grows.",))
    assert growth_that_matters(advice(recommendation=said)) == ["embedding-lr: embedding-lr grows."]


def test_prices_are_told_in_the_currency_of_their_measure() -> None:
    test = advice().results[0].test
    assert test is not None and currency(advice()) == ""
    for unit, wanted in (("EUR", "EUR"), ("money", "")):
        price = test.measures[0].model_copy(update={"name": "cost.price_per_1000", "unit": unit})
        assert currency(with_arm("prompt", measures=(price,))) == wanted


def test_an_arm_is_the_best_worse_or_perhaps_as_good() -> None:
    by_name = {one.arm.name: standing(advice(), one) for one in advice().results}
    assert (by_name["lora+few-shot"], by_name["word-lr"], by_name["sft-lora"], by_name["ia3"]) == (
        "the best", "worse", "perhaps as good", "",
    )  # fmt: skip


def test_sizes_and_seconds_are_short() -> None:
    assert [size(one) for one in (512, 900_000, 1_234_567, 2_500_000_000)] == [
        "512\u00a0bytes", "900\u00a0kB", "1.2\u00a0MB", "2.5\u00a0GB",
    ]  # fmt: skip
    assert [seconds(one) for one in (0.0061, 0.41, 12.4)] == ["0.006", "0.41", "12"]


# --- the terminal ---


@pytest.mark.parametrize("width", [80, 120])
def test_the_recommendation_stands_first_and_the_table_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_advice(advice(), width)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert out.index("Use 'embedding-lr'") < out.index("accuracy (95%") < out.index("What would change this:")
    assert re.search(r"\n→ +embedding-lr +87.2% \(84.0–90.4\) +3,200 +0.3 +0\+0 +0.006/0.013", out)
    assert re.search(r"\n= +sft-lora ", out) and re.search(r"\n +word-lr ", out)
    assert re.search(r"\n +soft-prompt +53.0% \(48.0–58.0\) \* +1,600 +9.3", out)
    assert "stopped: soft-prompt: 53.0% at 1,600 rows: more data cannot bring it to 87.2%" in out
    assert out.count("lora+rag: no time left") == 1 and "left out: groundedness: no knowledge was given" in out
    assert ("−6.3, worse" in out) == (width == 120)


def test_prices_are_shown_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = advice().results
    print_advice(advice(results=(first.model_copy(update={"price_per_1000": 0.1234}), *others)), 80)
    out = capsys.readouterr().out
    assert re.search(r"prompt +31.2% .* 0.41/0.86 +0.12 *\n", out) and "price: for 1,000 answers" in out
    assert max(map(len, out.splitlines())) <= 80


def test_long_names_of_arms_leave_room_for_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    arm = advice().results[0].arm.model_copy(update={"name": "a-bigger-model-360m-few-shot-nearest-constrained"})
    priced = advice().results[0].model_copy(update={"price_per_1000": 0.1234, "arm": arm})
    print_advice(advice(results=(priced,)), 80)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 and "31.2% (28.0–34.4)" in out and "0.12" in out


def test_square_brackets_in_what_others_wrote_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_advice(advice(left_out=("[red]no[/red] data",)), 100)
    assert "left out: [red]no[/red] data" in capsys.readouterr().out


def test_an_advice_that_measured_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = recommendation("nothing works", arm=None, best=None, comparisons=(), growth=(), changes=())
    empty = advice(results=advice().results[-2:], recommendation=nothing)
    print_advice(empty, 80)
    assert "look at the data" in capsys.readouterr().out
    page = advice_report.page(empty)
    assert "<svg" not in page and "ia3 (the base model fine-tuned (IA3)), failed: the training ended" in text_of(page)


# --- the page ---


def test_the_page_tells_recommendation_arms_comparisons_curves_confusions_and_what_was_left_out() -> None:
    page = advice_report.page(advice())
    text = text_of(page)
    for words in (
        "recommended: embedding-lr Use &#x27;embedding-lr&#x27;, a small model", "fine-tuning not worth it",
        "target 90.0%", "without looking at the question 2.0%", "What would change this A target of at least 90%",
        "What more data would bring embedding-lr: Twice the records", "1 lora+few-shot · 2 embedding-lr",
        "2. embedding-lr recommended a small model of its own on sentence embeddings 87.2% 84.0% to 90.4%",
        "10. soft-prompt twenty trained words before the question 53.0% 48.0% to 58.0% on the validation records",
        "Beside the best, lora+few-shot", "embedding-lr −1.2 points −3.2 to +0.8 0.410 0.820 perhaps as good",
        "word-lr −6.3 points −8.3 to −4.3 &lt; 0.001 &lt; 0.001 worse", "Learning curves",
        "brogue advise apply 0a1b2c3d --as NAME", "Other figures Arm Task: F1 (macro) lora+few-shot 88.4%",
        "the 10 that are confused most, of 36. On the diagonal", "By label, the worst first (36)",
        "10 that it got wrong", "Its instruction You sort what customers", "What was left out groundedness",
        "soft-prompt (twenty trained words before the question), stopped: 53.0%",
    ):  # fmt: skip
        assert words in text, words
    assert page.count("<svg") == 3 + 6  # quality by arm and against two costs; a curve for each arm that learns
    assert "var(--bar)" in page and "#0102" not in page
    assert page.count('<details class="arm" open>') == 1


def test_few_labels_are_a_whole_confusion_matrix_with_what_was_no_label_last() -> None:
    task = advice().task.model_copy(update={"labels": ("b", "a")})
    wrong = tuple(Confusion(wanted="a", given=given, times=times) for given, times in (("b", 4), ("(none)", 1)))
    results = tuple(
        one.model_copy(update={"test": one.test and one.test.model_copy(update={"confusions": wrong})})
        for one in advice().results[:1]
    )
    page = advice_report.page(advice(task=task, results=results))
    assert "1 b · 2 a 4 · 1 3 (none)" in text_of(page)
    assert 'style="--much: 1.00">4<' in page


def test_many_labels_are_cut_to_those_that_are_confused_most_in_the_tasks_order() -> None:
    page = text_of(advice_report.page(advice()))
    matrix = page[page.index("of 36. On the diagonal") : page.index("15 most frequent confusions")]
    shown = re.findall(r"\b\d+ ([a-z_]+)", matrix)
    assert len(shown) == 10 and shown == [label for label in LABELS if label in shown]


def test_texts_that_a_table_cannot_hold_are_shown_side_by_side() -> None:
    text = text_of(advice_report.page(advice(kind="words")))
    assert "yours, R. Moss".lower() in text.lower()
    assert "Right We are sorry. They come on Monday." in text and "Given, scored 0.1 prompt" not in text
    assert "Given, scored 0.1 the question alone, with an instruction: I do not know." in text
    assert "Right was given" not in text and "What it confuses" not in text and "ROUGE-L" in text


def test_nothing_that_was_asked_or_answered_becomes_markup_and_nothing_is_fetched() -> None:
    whole = advice()
    task = whole.task.model_copy(update={"dataset": BAD, "metric": BAD, "labels": (BAD, "b")})
    wrong = tuple(
        one.model_copy(update={"question": BAD, "wanted": BAD, "given": BAD})
        for result in whole.results[:1] if result.test for one in result.test.wrong
    )  # fmt: skip
    confusions = (Confusion(wanted=BAD, given="b", times=2),)
    results = tuple(
        one.model_copy(update={
            "arm": one.arm.model_copy(update={"name": f"{BAD}{place}", "title": BAD}), "why": BAD,
            "ready": one.ready and one.ready.model_copy(update={
                "notes": (BAD,),
                "definition": one.ready.definition.model_copy(update={"system_prompt": BAD}),
            }),
            "test": one.test and one.test.model_copy(update={"wrong": wrong, "confusions": confusions}),
        })
        for place, one in enumerate(whole.results)
    )  # fmt: skip
    said = recommendation(
        words=(BAD,), changes=(BAD,), arm=f"{BAD}0", best=f"{BAD}1",
        growth=(Growth(arm=f"{BAD}3", rows=9, twice=interval(0.1), told=BAD),),
    )  # fmt: skip
    page = advice_report.page(
        whole.model_copy(
            update={"task": task, "results": results, "recommendation": said, "left_out": (BAD,), "base_model": BAD}
        )
    )
    tags = Tags()
    tags.feed(page)
    assert tags.tags.isdisjoint({"script", "img", "i", "a", "link", "iframe"}) and not tags.fetched
    assert "default-src 'none'" in page and "<script" not in page


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrogueError, match=r"cannot write .*report\.html"):
        advice_report.write(advice(), tmp_path / "file" / "report.html")


def test_pictures_can_be_drawn_of_costs_of_nothing_of_one_arm_and_of_figures_that_are_no_shares() -> None:
    one = advice(results=advice().results[:1], target=None)
    for cost in (0.0, 3.0):
        assert "<svg" in advice_plots.against_cost(one, Cost("minutes", {"prompt": cost}), {"prompt": 1})
    free = {result.arm.name: 0.0 if not place else 10.0**place for place, result in enumerate(advice().results[:9])}
    drawn = advice_plots.against_cost(advice(), Cost("price", free), {name: n for n, name in enumerate(free, 1)})
    assert ">0<" in drawn and ">10<" in drawn and ">1,000<" in drawn
    near = advice().results[3].model_copy(update={"curve": tuple(
        Point(rows=rows, found=interval(0.5), minutes=1) for rows in (3200, 100, 110, 1600)
    )})  # fmt: skip
    many = Growth(arm="few-shot-nearest", rows=3200, twice=Interval(value=0.1, low=-0.3, high=0.9), told="")
    drawn = advice_plots.curve(advice(), near, many, (0.0, 1.0))
    assert re.findall(r">([\d,]+)</text>", drawn) == ["110", "1,600", "3,200", "6,400"]
    assert advice_plots.limits(advice(results=(near,)), {"few-shot-nearest": many})[1] == pytest.approx(1.032)
    test = advice().results[0].test
    assert test is not None
    points = test.measures[0].model_copy(update={"unit": "points"})
    chrf = with_arm("prompt", main=Interval(value=31, low=28, high=34), measures=(points,))
    assert "points" in advice_plots.by_arm(chrf)


@pytest.mark.browser
def test_the_page_opens_from_the_disk_without_a_network_and_fits_wide_and_narrow(
    browser: Browser, tmp_path: Path
) -> None:
    advice_report.write(advice(), tmp_path / "report.html")
    seen = opened_offline(browser, tmp_path / "report.html", "details.arm:not([open]) > summary")
    assert seen == [f"file://{tmp_path}/report.html"] * 2
