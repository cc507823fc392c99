"""Repeats and near duplicates are found whatever their order, case and punctuation; equal answers alone are none."""

import json
import random
from pathlib import Path

import pytest

from benchmarks.duplicates import measure
from data.dataset import Row, load_card, load_rows, save_dataset
from data.duplicates import are_near, drop_duplicates, find_leaks, find_near, keep, parts, words
from data.home import Home
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
from tests.conftest import Run


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


WORDS = [f"word{n}" for n in range(300)]


def asks(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [f"{' '.join(chance.choices(WORDS, k=12))}?" for _ in range(count)]


def with_an_exam(home: Home) -> tuple[list[Row], list[Row]]:
    """Datasets `ours` and `final`; of train the first row is asked by the exam, the second nearly so."""
    ours = [row(text, f"the answer of row {n}") for n, text in enumerate(asks(30, 1))]
    ours.append(ours[0].model_copy(update={"split": "test", "id": "f" * 12}))
    final = [
        row(" ".join(reversed(ours[0].record.prompt.strip("?").upper().split())), "Another answer.", "test"),  # type: ignore[union-attr]
        row(" ".join([*ours[1].record.prompt.split()[:-1], "other"]), "An answer."),  # type: ignore[union-attr]
        *(row(text, "Some answer.", "validation") for text in asks(9, 2)),
    ]
    for name, rows in (("ours", ours), ("final", final)):
        save_dataset(home, name, rows, "x.jsonl", "0" * 64, {}, (80, 10, 10))
    return ours, final


def test_what_an_exam_asks_is_dropped_from_train_and_the_check_that_says_so_is_satisfied(
    brogue: Run, home: Home
) -> None:
    ours, _ = with_an_exam(home)
    before = brogue("data", "check", "ours", "--exam", "final", "--json")
    assert before.returncode == 1
    advice = {f["check"]: f["next_step"] for f in json.loads(before.stdout)["findings"] if "exam" in f["check"]}
    assert set(advice) == {"exam questions", "near exam questions"}
    [typed] = set(advice.values())
    assert typed == "brogue data dedupe ours --against final --into ours-clean"
    done = brogue(*typed.split()[1:])
    assert done.returncode == 0, done.stderr
    assert "0 exact repeats, 1 questions of an exam, 1 nearly so, 0 made by a model of these dropped" in done.stdout
    assert load_rows(home, "ours-clean") == ours[2:]  # the row of the test split is nothing that is learnt from
    after = brogue("data", "check", "ours-clean", "--exam", "final", "--json")
    assert after.returncode == 0, after.stderr
    assert not [f for f in json.loads(after.stdout)["findings"] if "exam" in f["check"]]


def test_the_exam_and_its_content_are_recorded_so_that_the_same_digest_comes_again(brogue: Run, home: Home) -> None:
    with_an_exam(home)
    save_dataset(home, "other", [row("What else is there to ask?", "No.")], "x.jsonl", "0" * 64, {}, (80, 10, 10))
    words = ("data", "dedupe", "ours", "--against", "final", "--against", "other", "--json")
    one, two = (json.loads(brogue(*words, "--into", name).stdout) for name in ("one", "two"))
    assert one["digest"] == two["digest"] != load_card(home, "ours").digest
    [step] = one["steps"]
    against = ", ".join(f"{name} {load_card(home, name).digest}" for name in ("final", "other"))
    assert step["options"] == {"near": False, "against": against}
    assert step["counts"]["exam_questions"] == step["counts"]["near_exam_questions"] == 1


def test_what_a_model_made_of_an_exam_question_goes_with_it(home: Home, brogue: Run) -> None:
    ours, _ = with_an_exam(home)
    made = [
        row(text, "the answer").model_copy(update={"synthetic_of": ours[source].id})
        for source, text in enumerate(("Put quite otherwise, what is it?", "And this, in other words?", "And that?"))
    ]
    save_dataset(home, "ours", [*ours, *made], "x.jsonl", "0" * 64, {}, (80, 10, 10), replace=True)
    done = brogue("data", "dedupe", "ours", "--against", "final", "--into", "clean")
    assert "2 made by a model of these dropped" in done.stdout
    assert load_rows(home, "clean") == [*ours[2:], made[2]]


def test_a_passage_shared_with_an_exam_stays_and_is_said(home: Home, brogue: Run) -> None:
    passage = " ".join(asks(2, 3))
    ours = [row(f"Before it. {passage} And after it, many more words that nobody asked.", "Yes."), row("Why?", "So.")]
    exam = [row(f"Read this: {passage}", "Yes.", "test")]
    for name, rows in (("ours", ours), ("final", exam)):
        save_dataset(home, name, rows, "x.jsonl", "0" * 64, {}, (80, 10, 10))
    done = brogue("data", "dedupe", "ours", "--against", "final", "--into", "clean")
    assert load_rows(home, "clean") == ours
    assert "share 13 words in a row with an exam and stay: 1" in done.stderr
    assert "brogue data check clean --exam final" in done.stderr


def test_a_long_question_with_one_word_changed_is_nearly_the_exams_and_no_mere_passage(home: Home, brogue: Run) -> None:
    long = " ".join(asks(3, 4))
    for name, text in (("ours", f"{long} now"), ("final", f"{long} then")):
        rows = [row(text, "Yes."), row(f"What is {name}?", "That.")]
        save_dataset(home, name, rows, "x.jsonl", "0" * 64, {}, (80, 10, 10))
    done = brogue("data", "dedupe", "ours", "--against", "final", "--into", "clean", "--json")
    counts = json.loads(done.stdout)["steps"][0]["counts"]
    assert (counts["near_exam_questions"], counts["exam_passages_kept"]) == (1, 0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--against", "nope", "--into", "x"), "no dataset 'nope'; have: final, ours"),
        (("--against", "ours", "--into", "x"), "'ours' cannot be its own exam"),
        (("--against", "final", "--into", "final", "--replace"), "'final' is an exam here"),
    ],
)
def test_an_exam_that_cannot_be_one_is_refused_in_one_line(
    brogue: Run, home: Home, words: tuple[str, ...], line: str
) -> None:
    with_an_exam(home)
    done = brogue("data", "dedupe", "ours", *words)
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert line in said
    assert sorted(path.name for path in home.datasets.iterdir()) == ["final", "ours"]
    assert len(load_rows(home, "final")) == 11
