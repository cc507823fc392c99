"""What the advisor makes of a dataset: which figure decides, what needs no question, and records without leaks."""

import json
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from adapters.exam_room import ExamRoom
from adapters.exam_types import Part
from assistant.advice_schema import schema_of
from assistant.advice_task import read_records, read_task
from data.dataset import Row, make_rows, save_dataset
from data.errors import BrogueError
from data.home import Home
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RatedRecord,
    Split,
    record_id,
)

LONG = "Please open your account, go to your orders, choose the one that you want back and follow what is said there."


def saved(home: Home, rows: Sequence[Row], name: str = "d") -> str:
    save_dataset(home, name, rows, "file", "sha", {}, None)
    return name


def of(records: Sequence[AnyRecord], split: Split = "train", **more: str) -> list[Row]:
    return [Row(id=record_id(one), split=split, record=one, **more) for one in records]


def asks(answers: Sequence[str], word: str = "Question") -> list[AnyRecord]:
    return [InstructionRecord(prompt=f"{word} {n}?", response=text) for n, text in enumerate(answers)]


def texts(labels: Sequence[str], word: str = "text") -> list[AnyRecord]:
    return [LabelledRecord(text=f"{word} {n}", label=label) for n, label in enumerate(labels)]


def three(records: Sequence[AnyRecord]) -> list[Row]:
    """A half to learn from, a quarter each to choose and to be asked."""
    half, quarter = len(records) // 2, len(records) // 4
    return [*of(records[:half]), *of(records[half : half + quarter], "validation"), *of(records[-quarter:], "test")]


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        ([f"number {n} of them" for n in range(80)], "token_f1"),
        (["yes", "No."] * 40, "exact_match"),
        ([f"{LONG} It is order {n}." for n in range(80)], "rouge_l"),
        ([json.dumps({"city": f"Town {n}", "nights": n % 3}) for n in range(80)], "field_f1"),
    ],
)
def test_how_answers_in_words_are_judged_follows_from_the_answers(home: Home, answers: list[str], metric: str) -> None:
    task = read_task(home, saved(home, three(asks(answers))))
    assert (task.kind, task.metric, task.better) == ("words", metric, "higher")
    assert (task.answer_schema is not None) == (metric == "field_f1")


def test_labels_are_judged_by_accuracy_and_the_floor_is_the_commonest_label(home: Home) -> None:
    rows = [
        *of(texts(["refund"] * 30 + ["parcel"] * 10)),
        *of(texts(["refund"] * 8 + ["parcel"] * 12, "asked"), "test"),
    ]
    task = read_task(home, saved(home, rows))
    assert (task.kind, task.metric, task.labels) == ("labels", "accuracy", ("parcel", "refund"))
    assert task.floor == pytest.approx(8 / 20)  # chosen on train, held to test


@pytest.mark.parametrize(("tag", "metric"), [("B-person", "entity_f1"), ("NOUN", "accuracy")])
def test_words_with_tags_are_judged_by_whole_names_where_tags_mark_names(home: Home, tag: str, metric: str) -> None:
    records = [LabelledRecord(tokens=("Ask", f"Kim{n}", "please"), tags=("O", tag, "O")) for n in range(80)]
    task = read_task(home, saved(home, three(records)))
    assert (task.kind, task.metric) == ("tags", metric)
    assert task.floor == pytest.approx(0 if metric == "entity_f1" else 2 / 3)
    assert task.max_tokens >= len("Ask O\nKim79 B-person\nplease O") / 2


def test_of_pairs_the_floor_is_to_take_the_longer_answer(home: Home) -> None:
    records = [
        PreferenceRecord(messages=(Message(role="user", content=f"Why {n}?"),), chosen="Because it is so.",
                         rejected="No." if n % 4 else "Because nobody has ever looked into it.")
        for n in range(80)
    ]  # fmt: skip
    task = read_task(home, saved(home, three(records)))
    assert (task.kind, task.metric, task.floor) == ("pairs", "likelihood", 0.75)


def test_ties_and_a_single_label_say_nothing(home: Home) -> None:
    records = [
        PreferenceRecord(messages=(Message(role="user", content=f"Why {n}?"),), chosen=f"Because {n}.",
                         rejected="No.", tie=n % 2 == 0)
        for n in range(80)
    ]  # fmt: skip
    name = saved(home, three(records), "ties")
    found = read_records(home, read_task(home, name), limit=None)
    assert [len(rows) for rows in found] == [20, 10, 10]
    with pytest.raises(BrogueError, match="one label only, 'spam'"):
        read_task(home, saved(home, three(texts(["spam"] * 80)), "same"))


def test_another_metric_can_be_asked_for_and_a_wrong_one_is_told_in_one_line(home: Home) -> None:
    name = saved(home, three(asks([f"{LONG} {n}" for n in range(80)])))
    assert read_task(home, name, metric="token_f1").metric == "token_f1"
    with pytest.raises(BrogueError, match="'accuracy' cannot decide on d; wanted one of: rouge_l, token_f1"):
        read_task(home, name, metric="accuracy")


def test_answers_that_were_rated_and_too_few_records_are_refused_in_one_line(home: Home) -> None:
    turns = (Message(role="user", content="Why?"), Message(role="assistant", content="So."))
    saved(home, of([RatedRecord(messages=turns, good=True)]), "rated")
    with pytest.raises(BrogueError, match="holds rated answers.*labelled, instruction"):
        read_task(home, "rated")
    saved(home, [*of(asks(["yes"] * 40)), *of(asks(["yes"] * 4, "Asked"), "test")], "few")
    with pytest.raises(BrogueError, match="has 4 test records.*at least 10.*brogue data split few"):
        read_task(home, "few")
    with pytest.raises(BrogueError, match="no dataset 'none'"):
        read_task(home, "none")


def test_a_question_of_the_test_is_in_no_other_split_however_it_is_written(home: Home) -> None:
    test = asks([f"answer {n}" for n in range(20)])
    same = [InstructionRecord(prompt=f"  QUESTION {n} ", response="learnt") for n in range(5)]
    made = [InstructionRecord(prompt="What about the third?", response="learnt, too")]
    rows = [
        *of(asks(["other"] * 40, "Train")), *of(same), *of(made, synthetic_of=record_id(test[3])),
        *of(asks(["other"] * 8, "Choice")[:8], "validation"), *of(asks(["other"] * 3, "Train"), "validation"),
        *of(test, "test"),
    ]  # fmt: skip
    task = read_task(home, saved(home, rows))
    train, validation, asked = read_records(home, task, limit=None)
    assert len(asked) == 20
    learnt = [row.record for row in train]
    assert not [one for one in (*same, *made) if one in learnt]
    assert len(validation) == 11 and len(train) == 37  # three questions of validation stood in train, too


def test_without_a_validation_split_a_tenth_of_train_is_set_aside_and_no_group_torn_apart(home: Home) -> None:
    records = asks([f"answer {n}" for n in range(200)])
    rows = [row.model_copy(update={"group": f"customer {n // 4}"}) for n, row in enumerate(of(records))]
    task = read_task(home, saved(home, [*rows, *of(asks(["x"] * 10, "Asked"), "test")]))
    train, validation, _ = read_records(home, task, limit=None)
    assert 20 <= len(validation) <= 23 and len(train) + len(validation) == 200
    assert not {row.group for row in train} & {row.group for row in validation}


def test_with_a_limit_the_records_are_those_that_an_exam_asks(home: Home) -> None:
    name = saved(home, make_rows(texts(["a", "b"] * 200), (60, 20, 20)))
    records = read_records(home, read_task(home, name), limit=30)
    room = ExamRoom.rows(SimpleNamespace(_home=home), Part(measure="task", data=name, limit=30))  # type: ignore[arg-type]
    assert [row.id for row in records.test] == [row.id for row in room]
    assert len(records.validation) == 30 and len(records.train) > 200
    with pytest.raises(BrogueError, match="3 test records tell nothing"):
        read_records(home, read_task(home, name), limit=3)


def test_a_conversation_is_judged_by_its_last_answer(home: Home) -> None:
    def talk(n: int) -> ChatRecord:
        said = [
            ("user", f"Hello {n}"),
            ("assistant", LONG),
            ("user", "Right?"),
            ("assistant", "yes" if n % 2 else "no"),
        ]
        return ChatRecord(messages=tuple(Message(role=role, content=text) for role, text in said))

    task = read_task(home, saved(home, three([talk(n) for n in range(80)])))
    assert task.metric == "exact_match" and task.max_tokens < 100


def test_the_schema_of_answers_is_what_they_have_in_common() -> None:
    answers = [
        json.dumps({"kind": "flight" if n % 2 else "hotel", "to": f"Town {n}", "days": n if n % 3 else n + 0.5,
                    "who": [{"name": f"Kim {n}"}], **({"note": None} if n % 2 else {})})
        for n in range(30)
    ]  # fmt: skip
    assert schema_of(answers) == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["flight", "hotel"]},
            "to": {"type": "string"},
            "days": {"type": "number"},
            "who": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}},
                                               "required": ["name"], "additionalProperties": False}},
            "note": {"type": "null"},
        },
        "required": ["kind", "to", "days", "who"],
        "additionalProperties": False,
    }  # fmt: skip
    assert schema_of([*answers, "not JSON"]) is None and schema_of(["[1]"]) is None
