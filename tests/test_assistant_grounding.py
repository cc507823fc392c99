"""The check of an answer against the passages it was written from."""

import time
from pathlib import Path

import numpy as np
import pytest

from assistant.claims import capitals_tell, holds, items, read, words
from assistant.grounding import SUPPORTED, Checked, ground

RETURNS = "Returns policy\nYou may return a plant within 30 days of delivery. The refund takes 1,250.50 points at most."
SHIPPING = "Shipping\nNettlebrook ships to Austria and Germany. Parcels weigh at most 12.5 kg and cost EUR 4.90."


def one(answer: str, *passages: str, **options: object) -> Checked:
    found = ground(answer, passages or (RETURNS, SHIPPING), **options).sentences  # type: ignore[arg-type]
    assert len(found) == 1
    return found[0]


def test_a_cited_sentence_whose_passage_says_so_is_cited() -> None:
    checked = one("You may return a plant within 30 days of delivery [1].")
    assert (checked.support, checked.passage, checked.wrong, checked.missing) == ("cited", 1, (), ())
    assert checked.score > 0.95


def test_a_wrong_citation_is_told_apart_and_the_right_passage_attributed() -> None:
    checked = one("You may return a plant within 30 days of delivery [2].")
    assert (checked.support, checked.passage, checked.wrong) == ("attributed", 1, (2,))
    assert [item.text for item in checked.missing] == ["30"]


def test_a_sentence_without_citation_is_attributed_to_the_passage_that_says_it() -> None:
    assert (one("Parcels weigh at most 12.5 kg.").support, one("Parcels weigh at most 12.5 kg.").passage) == (
        "attributed",
        2,
    )


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ("You may return a plant within 60 days of delivery [1].", "number", "60"),
        ("Nettlebrook ships to Austria and Switzerland [2].", "name", "Switzerland"),
        ('The policy says "a plant may be returned for ever" within 30 days of delivery [1].', "quote",
         "a plant may be returned for ever"),
    ],
)  # fmt: skip
def test_a_number_name_or_quote_that_no_passage_has_makes_a_sentence_unsupported(
    answer: str, kind: str, text: str
) -> None:
    checked = one(answer)
    assert checked.support == "unsupported"
    assert checked.wrong
    assert [(item.kind, item.text) for item in checked.missing] == [(kind, text)]


def test_citations_of_passages_that_there_are_not_are_named() -> None:
    checked = one("You may return a plant within 30 days of delivery [7][0].")
    assert (checked.support, checked.unknown) == ("attributed", (7, 0))


def test_a_sentence_made_of_two_passages_may_cite_both() -> None:
    answer = "You may return a plant within 30 days of delivery, and Nettlebrook ships to Austria and Germany"
    assert one(f"{answer} [1][2].").support == "cited"
    assert one(f"{answer} [1].").support == "unsupported"


def test_an_answer_that_claims_nothing_is_not_marked() -> None:
    answer = "Hello! I do not have information about that. Shall I ask a colleague? The documents do not say."
    assert {s.support for s in ground(answer, [RETURNS]).sentences} == {"no claim"}
    assert ground(answer, [RETURNS]).score is None
    assert one("Da muss ich leider passen, frag im Laden nach.", silent="Da muss ich leider passen, frag im Laden nach")


def test_a_claim_does_not_hide_behind_silence() -> None:
    hidden = "The documents do not say so, but you have 90 days."
    assert one(hidden, question="How long do I have?").support == "unsupported"
    assert one("I do not have information about version 6.16.", question="What is new in 6.16?").support == "no claim"


def test_nothing_to_rest_on_supports_nothing() -> None:
    checked = ground("Returns take 30 days.", [])
    assert [s.support for s in checked.sentences] == ["unsupported"]
    assert (checked.score, checked.unsupported) == (0.0, 1)
    assert ground("", [RETURNS]).sentences == ()


def test_a_name_from_the_question_needs_no_passage_a_number_does() -> None:
    assert one("Dear Ms Kowalska, you may return a plant within 30 days of delivery.", known="I am Kowalska. Ms").score
    asked = "May I, Kowalska, return it within 60 days?"
    assert one("Kowalska, you may return a plant within 30 days of delivery.", question=asked).support == "attributed"
    assert one("You may return a plant within 60 days of delivery.", question=asked).support == "unsupported"


def test_what_an_answer_repeats_of_the_question_counts_neither_way() -> None:
    answer = "The maximum weight of one of your parcels is 12.5 kg"
    assert one(answer, SHIPPING).support == "unsupported"
    assert one(answer, SHIPPING, question="What is the maximum weight of one of your parcels?").support == "attributed"
    repeated = one("The maximum weight is 13 kg", SHIPPING, question="Is the maximum weight 13 kg?")
    assert (repeated.support, repeated.missing[0].text) == ("unsupported", "13")


def test_the_result_is_json_with_score_and_count() -> None:
    dumped = ground("You may return a plant within 30 days of delivery [1]. The moon is made of cheese.", [RETURNS])
    data = dumped.model_dump(mode="json")
    assert data["unsupported"] == 1
    assert 0 < data["score"] < 1
    assert data["sentences"][0]["passage"] == 1


def test_similarity_helps_where_the_words_differ() -> None:
    def vectors(texts: list[str]) -> np.ndarray:  # all mean the same
        return np.tile(np.array([1.0, 0.0]), (len(texts), 1))

    answer = "You may return the plant up to 30 days of delivery onwards"
    assert one(answer, RETURNS, similarity=vectors).score > one(answer, RETURNS).score


@pytest.mark.parametrize(
    ("written", "stands", "equal"),
    [
        ("1,000.50", "1.000,50", True), ("1 000", "1000", True), ("thirty", "30", True), ("dreißig", "30", True),
        ("3 May", "03/05/2024", True), ("2.5 million", "2,500,000", True), ("10:30", "from 10:30 on", True),
        ("12%", "12 percent", True), ("$4.90", "EUR 4,90", True), ("1.5", "15", False), ("30", "300", False),
        ("1,234", "1.234", True), ("１２", "12", True),
    ],
)  # fmt: skip
def test_numbers_are_equal_by_value_not_by_form(written: str, stands: str, equal: bool) -> None:
    assert all(holds(read(stands), item) for item in items(written)) is equal
    assert items(written)


def test_names_are_capitals_that_do_not_merely_begin_a_sentence() -> None:
    names = [i.text for i in items("Orders from Berlin go to the iPhone team of Dr. Müller's ACME office")]
    assert names == ["Berlin", "iPhone", "Dr", "Müller", "ACME"]
    german = "Die Rückgabe der Ware ist innerhalb der Frist möglich, wenn die Verpackung der Pflanze heil ist"
    assert not capitals_tell(german)
    assert items(german, capitals=False) == []
    assert one(german, f"{german}. Mehr dazu steht in der Verordnung über den Versand lebender Ware.").missing == ()


def test_a_quote_without_words_is_none() -> None:
    assert items('Press "…" to go on') == []


def test_words_are_equal_without_case_accents_and_plural() -> None:
    assert words("The Policies of CAFÉS, it's") == words("the policy of cafe its")
    assert words("返品は") == ["返", "品", "は"]


def test_a_long_answer_is_checked_in_no_time() -> None:
    passages = [f"{RETURNS} {n} " * 20 for n in range(10)]
    began = time.perf_counter()
    ground("You may return 5 plants to Austria within 30 days [1]. " * 200, passages)
    ground('"' * 50_000 + "1," * 50_000, passages)
    print(f"took {time.perf_counter() - began:.2f} s")  # a timing never fails a test


@pytest.mark.data
def test_the_check_agrees_with_people(public_data: Path) -> None:
    from benchmarks import groundedness

    replies = groundedness.begin(public_data)
    said = [groundedness.attributable(reply, SUPPORTED, None) for reply in replies]
    assert groundedness.balanced(replies, said) > 0.8  # 0.5 by chance; measured 0.87
    rated = groundedness.mtrag(public_data)
    scores, _ = groundedness.check_scores(rated, None)
    agreement = groundedness.correlation(scores, [answer.human for answer in rated])
    assert agreement is not None
    assert agreement > 0.55  # counting words: 0.63; measured 0.69
