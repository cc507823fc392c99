"""Sentences of an answer and what they cite."""

import pytest

from assistant.citations import bare, sentences


def split(answer: str) -> list[tuple[str, tuple[int, ...]]]:
    found = sentences(answer)
    assert all(answer[s.start : s.end] == s.text for s in found)
    return [(s.text, s.citations) for s in found]


def test_a_citation_belongs_to_its_sentence_before_or_behind_the_full_stop() -> None:
    answer = "Refunds take 14 days [2]. Shipping is free.[1] It is slow. [1][3] Bye!"
    assert split(answer) == [
        ("Refunds take 14 days [2].", (2,)), ("Shipping is free.[1]", (1,)), ("It is slow. [1][3]", (1, 3)),
        ("Bye!", ()),
    ]  # fmt: skip


def test_an_answer_that_begins_with_a_citation_has_them_all_in_front() -> None:
    assert split("[1] Refunds take long. [2] Shipping is free.") == [
        ("[1] Refunds take long.", (1,)),
        ("[2] Shipping is free.", (2,)),
    ]


@pytest.mark.parametrize(
    ("mark", "numbers"),
    [("[1, 3]", (1, 3)), ("[1][1]", (1,)), ("[2-4]", (2, 3, 4)), ("[9-1]", (9, 1)), ("[1-900]", (1, 900)),
     ("【2】", (2,)), ("[ 7 ]", (7,)), ("[2024]", ()), ("[a]", ()), ("[]", ()), ("[0]", (0,))],
)  # fmt: skip
def test_citations_are_read_in_every_form_that_models_write(mark: str, numbers: tuple[int, ...]) -> None:
    assert sentences(f"So it is {mark}.")[0].citations == numbers


@pytest.mark.parametrize(
    "sentence",
    ["Ask Dr. Smith, e.g. about No. 7 at 3.5 p.m. for more.", "The U.S. Army came.", "J. R. Tolkien wrote it.",
     "It takes approx. five days.", "See www.example.com/a.html for more!", 'He asked "Why?" and left.'],
)  # fmt: skip
def test_full_stops_within_a_sentence_do_not_end_it(sentence: str) -> None:
    assert [text for text, _ in split(f"{sentence} Then more.")] == [sentence, "Then more."]


def test_list_items_headings_and_table_rows_are_sentences_of_their_own() -> None:
    answer = "# Steps\n1. Open the box\n2. Read it [1]\n- an item\n- another\n| a | b |\nAn end that\nis wrapped."
    assert [text for text, _ in split(answer)] == [
        "# Steps", "1. Open the box", "2. Read it [1]", "- an item", "- another", "| a | b |",
        "An end that\nis wrapped.",
    ]  # fmt: skip


def test_scripts_without_blanks_or_with_other_full_stops_are_split() -> None:
    assert [t for t, _ in split("返品は30日以内です[1]。送料は無料です。はい！")] == [
        "返品は30日以内です[1]。",
        "送料は無料です。",
        "はい！",
    ]
    assert len(split("यह एक वाक्य है। दूसरा वाक्य।")) == 2
    assert len(split("هل هذا صحيح؟ نعم هو كذلك۔ شكرا")) == 3


def test_code_is_one_piece_and_cites_nothing() -> None:
    assert split("Use `row[1]` here [2].\n```\na[3]. B\n```\nDone.") == [
        ("Use `row[1]` here [2].", (2,)),
        ("```\na[3]. B\n```", ()),
        ("Done.", ()),
    ]


def test_nothing_has_no_sentences() -> None:
    assert sentences("") == sentences(" \n ") == []


def test_a_long_answer_without_any_end_is_read_in_no_time() -> None:
    assert len(sentences("a" * 300_000)) == 1
    assert len(sentences("[1" * 100_000)) == 1
    assert sentences(". " * 50_000)


def test_a_bare_sentence_has_neither_citations_nor_a_lists_mark() -> None:
    assert bare("Refunds take 14 days [2], always [1][3].") == "Refunds take 14 days, always."
    assert bare("12. Open the box [1]") == "Open the box"
    assert bare("- 12 days") == "12 days"
