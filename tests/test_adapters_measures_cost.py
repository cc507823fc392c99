"""The measures `cost` and `forgetting`: tokens, seconds, money; general knowledge and plain text before and after."""

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest

from adapters.exam_statistics import measured
from adapters.exam_types import Answer, Arm, Measured, Messages, Part
from adapters.measure_cost import percentile
from adapters.measure_data import load
from adapters.measures import find
from data.errors import BrogueError
from data.records import InstructionRecord, LabelledRecord
from data.settings import PriceSettings, Settings
from tests.exam_room import ScriptedRoom, row

ROWS = [row(InstructionRecord(prompt=f"Question {n}?", response="Yes.")) for n in range(20)]


def says(arm: Arm, messages: Messages) -> Answer:
    """The version's answers take 0.1 to 2 seconds and have 10 tokens, the others' 1 second and 30."""
    number = int(str(messages[-1]["content"]).split()[1].strip("?"))
    mine = arm == "version"
    return Answer(text="Yes.", prompt_tokens=100, completion_tokens=10 if mine else 30, finish_reason="length"
                  if number == 0 and mine else "stop", seconds=(number + 1) / 10 if mine else 1.0)  # fmt: skip


def taken(room: ScriptedRoom, measure: str, **options: object) -> dict[str, Measured]:
    part = Part(measure=measure, data="d" if room._rows else None, options=options)
    return {one.name: measured(one, room.arms) for one in find(measure)(room, part)}


def test_tokens_and_seconds_of_an_answer() -> None:
    room = ScriptedRoom(rows=ROWS, says=says)
    found = taken(room, "cost", max_tokens=30)
    assert found["cost.answer_tokens"].arms["version"].value == 10
    assert found["cost.answer_tokens"].over["against"].value == -20
    assert found["cost.prompt_tokens"].arms["base"].value == 100
    assert found["cost.cut"].arms["version"].value == pytest.approx(1 / 20)
    assert found["cost.seconds_p50"].arms["version"].value == pytest.approx(1.0)
    assert found["cost.seconds_p95"].arms["version"].value == pytest.approx(1.9)
    assert found["cost.seconds_p95"].arms["against"].value == 1.0
    assert not found["cost.seconds_p50"].decides
    assert room.asked[0][2] == {"max_tokens": 30}
    assert "cost.price_per_1000" not in found
    assert "[prices]" in room.said[0]


def test_percentiles_of_a_resample_are_those_of_its_values() -> None:
    random = np.random.default_rng(0)
    seconds = np.round(random.exponential(2, 50), 3)
    every = sorted(set(seconds.tolist()))
    drawn = random.multinomial(50, [1 / 50] * 50, 30)
    counts = drawn @ (seconds[:, None] == np.array(every)).astype(float)
    for percent in (50, 95):
        by_numpy = [np.percentile(np.repeat(seconds, row), percent, method="inverted_cdf") for row in drawn]
        assert percentile(every, percent)(counts).tolist() == pytest.approx(by_numpy)


def test_money_is_by_the_token_and_by_the_machines_hour() -> None:
    by_token = Settings(prices=PriceSettings(currency="EUR", prompt_per_million=2, answer_per_million=10))
    found = taken(ScriptedRoom(rows=ROWS, says=says, settings=by_token), "cost")["cost.price_per_1000"]
    assert (found.unit, found.decides) == ("EUR", True)
    assert found.arms["version"].value == pytest.approx((100 * 2 + 10 * 10) / 1e6 * 1000)
    assert found.over["base"].high < 0
    by_hour = Settings(prices=PriceSettings(machine_per_hour=3.6, answers_at_once=4))
    found = taken(ScriptedRoom(rows=ROWS, says=says, settings=by_hour), "cost")["cost.price_per_1000"]
    assert found.arms["against"].value == pytest.approx(1 / 3600 * 3.6 / 4 * 1000)
    assert not found.decides


def test_labels_cost_what_they_do_as_they_are_asked_for_the_task() -> None:
    rows = [row(LabelledRecord(text=f"Text {n}?", label="ab"[n % 2])) for n in range(4)]
    room = ScriptedRoom(rows=rows, says=lambda *_: "a")
    taken(room, "cost")
    for_cost, room.asked = room.asked, []
    taken(room, "task")
    assert for_cost == room.asked


# What each arm finds likely: the version knows less of geography and reads plain text worse.
def likely(arm: Arm, messages: Messages | None, text: str) -> list[float]:
    if messages is None:
        return [-0.5 * len(text.encode()) * (2 if arm == "version" else 1)]
    right = RIGHT[str(messages[-1]["content"])]
    wrong_now = arm == "version" and "capital" in str(messages[-1]["content"])
    each = -1.0 if (text == right) != wrong_now else -2.0
    return [each * len(text.encode()) / 2] * 2  # a longer choice is no less likely a byte


LINES = load("general")
RIGHT = {line["question"]: line["choices"][line["answer"]] for line in LINES if "question" in line}


def test_what_was_known_is_compared_with_what_is() -> None:
    found = taken(ScriptedRoom(likely=likely), "forgetting")
    assert found["forgetting.choice"].arms["base"].value == 1
    lost = sum("capital" in question for question in RIGHT) / len(RIGHT)
    assert found["forgetting.choice"].arms["version"].value == pytest.approx(1 - lost)
    assert found["forgetting.drop"].arms["version"].value == pytest.approx(lost)
    assert found["forgetting.choice"].slices["geography"]["version"].value < 1
    assert found["forgetting.bits_per_byte"].arms["base"].value == pytest.approx(0.5 / math.log(2))
    assert found["forgetting.bits_per_byte"].over["base"].low > 0


def test_a_question_that_the_context_has_no_room_for_is_not_answered() -> None:
    own = [{"question": f"Which, {n}?", "choices": ["Reed", "Fern"], "answer": 0} for n in range(2)]
    room = ScriptedRoom(likely=lambda *_: [], lines=own)
    found = find("forgetting")(room, Part(measure="forgetting", data="own.jsonl"))[0]
    assert measured(found, room.arms).arms["version"].value == 0


def test_what_is_shipped_has_four_choices_one_of_them_right_and_no_text_twice() -> None:
    questions, texts = [x for x in LINES if "question" in x], [x["text"] for x in LINES if "text" in x]
    assert len(questions) >= 60
    assert len(texts) >= 30
    assert all(len(set(one["choices"])) == 4 and 0 <= one["answer"] < 4 for one in questions)
    assert len(set(RIGHT)) == len(questions)
    assert len(set(texts)) == len(texts)


def test_lines_of_ones_own_are_measured_too() -> None:
    own = [{"question": "Which of ours is the cheapest?", "choices": ["Reed", "Fern"], "answer": "Fern"}]
    room = ScriptedRoom(likely=lambda _, __, text: [-1.0 if text == "Fern" else -9.0], lines=own)
    part = Part(measure="forgetting", data="own.jsonl")
    found = {one.name: measured(one, room.arms) for one in find("forgetting")(room, part)}
    assert found["forgetting.choice"].arms["version"].value == 1
    assert "forgetting.bits_per_byte" not in found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "What?"}, r"own.jsonl: What\?: wanted lines of question, choices and answer"),
        ({"question": "What?", "choices": ["a", "b"], "answer": 2}, "answer is 2, wanted 0 to 1 or the text"),
        ({"prompt": "What?"}, "own.jsonl: .*prompt.*: wanted lines of question"),
    ],
)
def test_a_line_that_does_not_fit_is_said_in_one(line: Mapping[str, object], said: str) -> None:
    room = ScriptedRoom(lines=[json.loads(json.dumps(line))])
    with pytest.raises(BrogueError, match=said) as error:
        find("forgetting")(room, Part(measure="forgetting", data="own.jsonl"))
    assert "\n" not in str(error.value)
