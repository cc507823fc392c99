"""Repeats and near duplicates are found whatever their order, case and punctuation; equal answers alone are none."""

import random
from pathlib import Path

import pytest

from benchmarks.duplicates import measure
from data.dataset import Row
from data.duplicates import are_near, drop_duplicates, find_leaks, find_near, keep, parts, words
from data.records import (
    AnyRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    Split,
    record_id,
)


def row(asked: str, answer: str, split: Split = "train") -> Row:
    return of(InstructionRecord(prompt=asked, response=answer), split)


def of(record: AnyRecord, split: Split = "train") -> Row:
    return Row(id=record_id(record), split=split, record=record)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Where is my order?", "WHERE is my order", True),
        ("Where is my order?", "my order: where is", True),
        ("I don't know where it is", "i dont know where it is!", True),
        ("Where is my order?", "Where is my parcel?", True),
        ("Where is it?", "Where was it?", False),  # three words: one changed makes another question
        ("Where is my order?", "Where was her order?", False),
        ("a b c d e f g h i j k l m n o p q r s t", "a b c d e f g h i j k l m n o p q r X Y", True),
        ("a b c d e f g h i j k l m n o p q r s", "a b c d e f g h i j k l m n o p q X Y", False),
        ("Ｗｈｅｒｅ is my order", "where is my order", True),  # NFKC
        ("私の注文はどこですか", "私の注文はどこですか。", True),
        ("👍", "👎", False),
        ("???", "!!!", False),
    ],
)
def test_near_means_the_same_words_but_for_one_in_ten(one: str, other: str, near: bool) -> None:
    assert are_near(words(one), words(other)) is near


def test_the_same_answer_to_another_question_is_no_duplicate() -> None:
    rows = [row("Where is my order?", "Please wait."), row("How do I cancel my account today?", "Please wait.")]
    assert drop_duplicates(rows, near=True) == (rows, {"exact": 0, "near": 0, "leaks": 0})


def test_another_answer_to_the_same_question_is_no_duplicate() -> None:
    rows = [row("Where is my order?", "On its way to you."), row("Where is my order?", "Nobody can tell any more.")]
    assert len(drop_duplicates(rows, near=True)[0]) == 2


def test_only_exact_repeats_go_without_near() -> None:
    rows = [row("Where is my order?", "a"), row("where is my order", "a"), row("Where is my order?", "a")]
    assert drop_duplicates(rows, near=False) == (rows[:2], {"exact": 1})
    assert drop_duplicates(rows, near=True) == (rows[:1], {"exact": 1, "near": 1, "leaks": 0})


def test_of_duplicates_in_two_splits_the_examined_one_stays() -> None:
    train, test = row("Where is my order?", "On its way."), row("where is MY order", "On its way", "test")
    assert drop_duplicates([train, test], near=True)[0] == [test]


def test_leakage_between_splits_of_a_planted_set_is_found_and_dropped() -> None:
    chance = random.Random(0)
    vocabulary = [f"word{n}" for n in range(500)]
    texts = [" ".join(chance.choices(vocabulary, k=9)) + "?" for _ in range(400)]
    rows = [row(text, f"answer {n}", "train" if n < 300 else "test") for n, text in enumerate(texts)]
    planted = [row(" ".join(reversed(t.strip("?").upper().split())), "other answer altogether") for t in texts[300:340]]
    assert sorted(find_leaks(rows + planted)) == list(range(400, 440))
    stayed, counts = drop_duplicates(rows + planted, near=True)
    assert stayed == rows
    assert counts["near"] + counts["leaks"] == 40
    assert not find_leaks(stayed)


def test_a_label_must_be_the_same() -> None:
    same = [of(LabelledRecord(text=t, label="a long label of words")) for t in ("get me a card", "get me a CARD!")]
    other = of(LabelledRecord(text="get me a card", label="a long label of others"))
    assert drop_duplicates([*same, other], near=True)[0] == [same[0], other]


def test_the_two_answers_of_a_preference_and_their_order_count() -> None:
    asked = (Message(role="user", content="Where is my order?"),)
    one = PreferenceRecord(messages=asked, chosen="It is on its way.", rejected="No idea.")
    turned = PreferenceRecord(messages=asked, chosen="No idea.", rejected="It is on its way.")
    again = PreferenceRecord(messages=asked, chosen="it is on its way", rejected="no idea")
    assert len(drop_duplicates([of(one), of(turned), of(again)], near=True)[0]) == 2


def test_rankings_are_compared_by_rank() -> None:
    asked = (Message(role="user", content="q"),)
    one = RankingRecord(messages=asked, replies=("good", "bad"), ranks=(0, 1))
    assert parts(one) == parts(RankingRecord(messages=asked, replies=("bad", "good"), ranks=(1, 0)))
    assert parts(one) != parts(RankingRecord(messages=asked, replies=("good", "bad"), ranks=(1, 0)))


def test_a_chain_of_near_duplicates_keeps_what_is_near_to_none_that_stays() -> None:
    texts = [("a b c d",), ("a b c X",), ("a b Y X",)]
    near = find_near(texts)
    assert near.pairs == [(0, 1), (1, 2)]
    assert keep(near) == [0, 2]


def test_a_crowd_from_one_template_is_thinned_to_one() -> None:
    texts = [(f"My order number {n} has not arrived yet",) for n in range(3000)]
    assert keep(find_near(texts)) == [0]


def test_nothing_is_found_in_nothing() -> None:
    assert find_near([]) == ([], [])
    assert find_near([("",), ("  ",)]) == ([0, 0], [])


@pytest.mark.data
def test_planted_duplicates_are_found_in_public_questions(public_data: Path) -> None:
    results = measure(public_data / "banking77" / "train.csv")
    recalls = {str(r["planted"]): float(str(r["recall"])) for r in results if r["planted"]}
    assert len(recalls) == 4
    assert min(recalls.values()) >= 0.95, recalls
    own = results[-1]
    assert int(str(own["pairs_of_two_categories"])) <= int(str(own["pairs"])) / 100


def test_long_texts_that_share_their_common_words_are_not_all_compared() -> None:
    """As a language has it: a few words make half of every text. Of 4.5 million pairs few are looked at."""
    chance = random.Random(1)
    vocabulary = [f"w{n}" for n in range(5000)]
    weights = [1 / rank for rank in range(1, 5001)]
    texts = [tuple(chance.choices(vocabulary, weights, k=100)) for _ in range(3000)]
    planted = [(*text[:-1], "changed") for text in texts[:20]]
    told: list[str] = []
    near = find_near(((" ".join(text),) for text in texts + planted), told.append)
    assert near.pairs == [(n, 3000 + n) for n in range(20)]
    assert int(told[-1].split()[1]) < 2000
