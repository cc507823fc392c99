"""What is measured of an arm: the exam's own figures, in the records' order, and what went wrong in them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from adapters import exam_asking
from adapters.exam_statistics import measured
from adapters.exam_types import Answer, Arm, Messages, Part
from adapters.measure_task import measure as exam_measure
from adapters.measure_task_fields import overlap
from assistant.advice_figures import consistency, decides, measure
from assistant.advice_types import Figures, Task, TaskKind
from data.dataset import Row
from data.errors import BrogueError
from data.records import AnyRecord, InstructionRecord, LabelledRecord, Message, PreferenceRecord
from tests.exam_room import ScriptedRoom, row

LABELS = ("card", "parcel", "refund")
TEXTS = [LabelledRecord(text=f"text {n}", label=LABELS[n % 3]) for n in range(12)]


def task(kind: TaskKind, metric: str, **more: Any) -> Task:
    return Task(dataset="d", digest="0", kind=kind, metric=metric, max_tokens=64, **more)


def room_of(said: Sequence[str | Answer], rows: Sequence[Row], **more: Any) -> ScriptedRoom:
    """An arm that gives the rows' questions these answers, in their order."""

    def says(_arm: Arm, messages: Messages) -> str | Answer:
        return said[[_question(one) for one in rows].index(str(messages[-1]["content"]))]

    return ScriptedRoom(says=says, rows=rows, arms=("version",), **more)


def _question(one: Row) -> str:
    record = one.record
    if isinstance(record, LabelledRecord):
        return record.text or " ".join(record.tokens or ())
    return record.messages[0].content


def rows_of(records: Sequence[AnyRecord]) -> list[Row]:
    return [row(record) for record in records]


def found(figures: Figures) -> dict[str, float]:
    return {one.name: one.arms["version"].value for one in figures.measures}


def test_labels_are_the_exams_figures_of_answers_that_were_asked_plainly() -> None:
    rows = rows_of(TEXTS)
    said = [LABELS[n % 3] for n in range(9)] + ["parcel", "something else", "card"]
    room = room_of(said, rows)
    figures = measure(task("labels", "accuracy", labels=LABELS), room, rows)
    options = {"labels": LABELS, "constrained": False, "max_tokens": 64}
    exam = exam_measure(room, Part(measure="task", data="d", options=options))[0]
    assert figures.main == measured(exam, ("version",)).arms["version"]
    assert figures.main.value == pytest.approx(9 / 12)
    assert figures.parts == tuple((float(n < 9), 1.0) for n in range(12))  # in the records' order
    assert {tuple(sampling) for _, _, sampling in room.asked} == {("max_tokens",)}  # nobody held it to the labels
    assert {"task.f1_macro", "cost.answer_tokens"} <= found(figures).keys()
    assert (figures.n, figures.prompt_tokens, figures.seconds_p95, figures.groups) == (12, 7, 0.5, ())


def test_what_an_arm_takes_for_what_and_what_it_gets_wrong_is_listed() -> None:
    rows = rows_of(TEXTS)
    said = ["parcel", "parcel", "refund", "parcel", "refund", "who knows", *(LABELS[n % 3] for n in range(6, 12))]
    figures = measure(task("labels", "accuracy", labels=LABELS), room_of(said, rows), rows)
    assert [(one.wanted, one.given, one.times) for one in figures.confusions] == [
        ("card", "parcel", 2), ("parcel", "refund", 1), ("refund", "(no label)", 1),
    ]  # fmt: skip
    assert [(one.question, one.wanted, one.given) for one in figures.wrong] == [
        ("text 0", "card", "parcel"), ("text 3", "card", "parcel"), ("text 4", "parcel", "refund"),
        ("text 5", "refund", "who knows"),
    ]  # fmt: skip


def test_answers_dealt_out_to_other_questions_say_what_chance_brings() -> None:
    rows = rows_of(TEXTS)
    figures = measure(task("labels", "accuracy", labels=LABELS), room_of([str(t.label) for t in TEXTS], rows), rows)
    assert figures.main.value == 1 and figures.by_chance == pytest.approx(3 / 11)  # of 11 others, 3 have its label
    plants = rows_of([InstructionRecord(prompt=f"{n}?", response=f"plant {n}") for n in range(10)])
    figures = measure(task("words", "token_f1"), room_of([f"plant {n}" for n in range(10)], plants), plants)
    assert figures.main.value == 1 and figures.by_chance == pytest.approx(0.5)  # every other answer shares one word


def test_a_choice_wants_the_metric_and_the_costs_only() -> None:
    rows = rows_of(TEXTS)
    said = ["card"] * 12
    whole, brief = (
        measure(task("labels", "accuracy", labels=LABELS), room_of(said, rows), rows, brief=brief)
        for brief in (False, True)
    )
    assert (brief.main, brief.parts, brief.answer_tokens) == (whole.main, whole.parts, whole.answer_tokens)
    assert whole.wrong and not brief.wrong and "task.f1_macro" not in found(brief)
    assert decides(task("labels", "accuracy", labels=LABELS), room_of(said, rows), rows) == brief.main.value


def test_tagged_words_are_told_as_names() -> None:
    records = [
        LabelledRecord(tokens=("See", "Redondo", "Beach"), tags=("O", "B-location", "I-location")),
        LabelledRecord(tokens=("Ask", "Kim", "now"), tags=("O", "B-person", "O")),
        LabelledRecord(tokens=("Nothing", "here"), tags=("O", "O")),
    ]
    labels = ("B-location", "B-person", "I-location", "O")
    said = ["See O\nRedondo B-person\nBeach O", "Ask O\nKim B-person\nnow O", "Nothing O\nhere O"]
    rows = rows_of(records)
    figures = measure(task("tags", "entity_f1", labels=labels), room_of(said, rows), rows)
    assert figures.main.value == pytest.approx(0.5)
    (wrong,) = figures.wrong  # what holds no name, and was said to hold none, is right
    assert (wrong.wanted, wrong.given) == ("Redondo Beach: location", "Redondo: person")
    assert [(one.wanted, one.given) for one in figures.confusions] == [("location", "O"), ("location", "person")]
    assert figures.by_chance is None


def test_answers_in_words_have_their_voice_beside_and_it_is_told_from_the_plain_arms() -> None:
    wanted = [f"Happy gardening! Plant number {n} likes the sun." for n in range(24)]
    rows = rows_of([InstructionRecord(prompt=f"Plant {n}?", response=text) for n, text in enumerate(wanted)])
    mine, plain = room_of(wanted, rows), room_of([f"It is plant {n}, I suppose." for n in range(24)], rows)
    alone = found(measure(task("words", "rouge_l"), mine, rows))
    assert alone["task.rouge_l"] == 1 and alone["voice.style_distance"] == pytest.approx(0)
    assert "repetition.identical" in alone and "voice.likeness" not in alone
    beside = measure(task("words", "rouge_l"), mine, rows, plain=plain)
    assert found(beside)["voice.likeness"] > 0.8
    assert all(set(one.arms) == {"version"} for one in beside.measures)


def test_too_few_answers_to_tell_a_voice_by_are_no_mistake() -> None:
    rows = rows_of([InstructionRecord(prompt=f"Plant {n}?", response="Yes.") for n in range(5)])
    room = room_of(["Yes."] * 5, rows)
    figures = found(measure(task("words", "exact_match"), room, rows))
    assert "repetition.identical" in figures and "voice.style_distance" not in figures
    assert not room.said  # an exam says once that there are no prices; here it would be said of every arm


def test_an_arm_that_looks_into_documents_has_the_share_of_claims_that_they_support() -> None:
    rows = rows_of([InstructionRecord(prompt=f"Plant {n}?", response="Yes.") for n in range(4)])
    checked = [(2, 2), (2, 1), (0, 0), (None, None)]  # claims and supported; the last one was not looked up
    said = [
        Answer(text="Yes.", prompt_tokens=9, completion_tokens=1, seconds=1, claims=claims, supported=supported)
        for claims, supported in checked
    ]
    figures = found(measure(task("words", "exact_match"), room_of(said, rows), rows))
    assert figures["grounded.supported"] == pytest.approx(3 / 4)
    assert figures["grounded.claims"] == pytest.approx(2 / 3)


def test_json_answers_are_held_to_their_fields() -> None:
    wanted = [json.dumps({"city": "Rome", "nights": 2, "who": ["Kim", "Ada"]}) for _ in range(2)]
    rows = rows_of([InstructionRecord(prompt=f"Book {n}", response=text) for n, text in enumerate(wanted)])
    said = [json.dumps({"who": ["ada", "Kim"], "nights": 2.0, "city": "Paris", "price": None}), "Sure! Rome."]
    figures = measure(task("words", "field_f1"), room_of(said, rows), rows)
    assert overlap(said[0], wanted[0]) == (6, 8)  # three of four are right; what is null was not said
    assert figures.parts == ((6, 8), (0, 4)) and figures.main.value == pytest.approx(0.5)
    assert found(figures)["task.valid_json"] == 0.5


def test_pairs_have_parts_for_every_record_and_none_where_nothing_can_be_told() -> None:
    def pair(n: int, chosen: str, rejected: str, **more: Any) -> PreferenceRecord:
        return PreferenceRecord(
            messages=(Message(role="user", content=f"Why {n}?"),), chosen=chosen, rejected=rejected, **more
        )

    rows = rows_of([pair(0, "good", "bad"), pair(1, "same", "same", tie=True), pair(2, "good", "too long"),
                    pair(3, "bad", "good")])  # fmt: skip
    nats = {"good": [-1.0], "bad": [-2.0], "same": [-1.0], "too long": []}
    room = room_of(["Because."] * 4, rows, likely=lambda _arm, _prompt, text: nats[text])
    figures = measure(task("pairs", "likelihood"), room, rows)
    assert figures.parts == ((1, 1), (0, 0), (0, 0), (0, 1)) and figures.main.value == 0.5
    assert [(one.wanted, one.given) for one in figures.wrong] == [("bad", "good")]
    assert figures.answer_tokens == 1  # a few were answered, to see what it costs
    with pytest.raises(BrogueError, match="no pair of d fits"):
        measure(task("pairs", "likelihood"), room_of(["So."], rows[2:3], likely=lambda *_: []), rows[2:3])


def test_consistency_is_how_far_an_arm_says_the_same_when_it_is_asked_again() -> None:
    rows = rows_of(TEXTS)
    labels = task("labels", "accuracy", labels=LABELS)
    steady = room_of(["card"] * 12, rows)
    assert consistency(labels, steady, rows).value == 1
    seeds = {sampling.get("seed") for _, _, sampling in steady.asked}
    assert seeds == {None, 0, 1} and {s.get("temperature") for _, _, s in steady.asked} == {None, 0.7}
    turns = iter([*["card"] * 24, *["parcel"] * 3, *["card"] * 9])  # the second sample differs for three questions
    fickle = ScriptedRoom(says=lambda *_: next(turns), rows=rows, arms=("version",))
    assert consistency(labels, fickle, rows).value == pytest.approx(9 / 12)


def test_an_answer_from_documents_tells_its_claims_and_how_many_of_them_the_passages_support() -> None:
    reply: dict[str, Any] = {"choices": [{"message": {"content": "Yes. It grows. Hm."}, "finish_reason": "stop"}]}
    plain = exam_asking._read(reply, 1.0)
    assert (plain.claims, plain.supported) == (None, None)
    supports = ("cited", "unsupported", "no claim", "attributed")
    checked = exam_asking._read(reply | {"brogue": {"sentences": [{"support": one} for one in supports]}}, 1.0)
    assert (checked.claims, checked.supported) == (3, 2)
