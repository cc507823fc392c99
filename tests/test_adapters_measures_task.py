"""The measure `task` gives what scikit-learn, sacrebleu and rouge-score give, and asks each version the same."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from adapters.exam_statistics import measured
from adapters.exam_types import Arm, Measured, Messages, Part
from adapters.measure_task import measure, words
from data.errors import BrogueError
from data.records import AnyRecord, ChatRecord, InstructionRecord, LabelledRecord, Message, PreferenceRecord
from tests.exam_room import ARMS, ScriptedRoom, row

WANTED = [
    "Parcels leave on Monday and Friday.", "Returns are free for thirty days.", "The blue one, in size 40.",
    "Please write to us.", "Yes.",
]  # fmt: skip
GIVEN = {
    "version": ["Parcels leave on Monday and on Friday.", "Returns are free for 30 days.", "the blue one in size 40",
                "Please write to us.", ""],
    "against": ["We send parcels on Friday.", "Returns are not free.", "A red one.", "Please call us today.", "No."],
    "base": ["I am a language model.", "Thirty days", "40", "Write", "Yes, of course."],
}  # fmt: skip


def room_of(records: Sequence[AnyRecord], said: dict[str, list[str]], **more: object) -> ScriptedRoom:
    """Arms that answer the records in their order with what is `said`."""
    rows = [row(record) for record in records]
    asked = [_question(record) for record in records]

    def says(arm: Arm, messages: Messages) -> str:
        return said[arm][asked.index(str(messages[-1]["content"]))]

    return ScriptedRoom(says=says, rows=rows, likely=lambda *_: [-1.0], **more)  # type: ignore[arg-type]


def _question(record: AnyRecord) -> str:
    if isinstance(record, LabelledRecord):
        return record.text or " ".join(record.tokens or ())
    return [m for m in record.messages if m.role == "user"][-1].content


def taken(room: ScriptedRoom, **options: object) -> dict[str, Measured]:
    part = Part(measure="task", data="d", options=options)
    return {one.name: measured(one, room.arms) for one in measure(room, part)}


@pytest.fixture
def answered() -> dict[str, Measured]:
    records = [InstructionRecord(prompt=f"Question {n}?", response=text) for n, text in enumerate(WANTED)]
    return taken(room_of(records, GIVEN))


@pytest.mark.parametrize("arm", ARMS)
def test_bleu_and_chrf_are_sacrebleus_of_the_whole_corpus(answered: dict[str, Measured], arm: Arm) -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    assert answered["task.bleu"].arms[arm].value == pytest.approx(corpus_bleu(GIVEN[arm], [WANTED]).score)
    assert answered["task.chrf"].arms[arm].value == pytest.approx(corpus_chrf(GIVEN[arm], [WANTED]).score)
    assert answered["task.bleu"].arms[arm].low <= answered["task.bleu"].arms[arm].value


@pytest.mark.parametrize("arm", ARMS)
def test_rouge_l_is_rouge_scores(answered: dict[str, Measured], arm: Arm) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    scorer = RougeScorer(["rougeL"])
    each = [scorer.score(wanted, given)["rougeL"].fmeasure for wanted, given in zip(WANTED, GIVEN[arm], strict=True)]
    assert answered["task.rouge_l"].arms[arm].value == pytest.approx(np.mean(each))


def test_exact_match_and_token_f1_look_at_words_only(answered: dict[str, Measured]) -> None:
    assert answered["task.exact_match"].arms["version"].value == pytest.approx(2 / 5)  # "the blue one …", "Please …"
    # By hand: 6 words shared of 6 and 7; 5 of 6 and 6; the same; the same; an empty answer.
    by_hand = [12 / 13, 10 / 12, 1, 1, 0]
    assert answered["task.token_f1"].arms["version"].value == pytest.approx(np.mean(by_hand))
    assert answered["task.token_f1"].over["against"].value > 0


def test_words_of_other_scripts_count_too() -> None:
    assert words("Größe 40, bitte!") == ["größe", "40", "bitte"]
    assert words("東京は first") == ["東", "京", "は", "first"]
    assert words("Заказ №5") == ["заказ", "5"]


def test_perplexity_is_exp_of_the_nats_per_token_of_all_answers_together() -> None:
    records = [InstructionRecord(prompt=f"Question {n}?", response=text) for n, text in enumerate(WANTED)]
    room = room_of(records, GIVEN)
    room._likely = lambda arm, _, text: [-0.5 if arm == "version" else -2.0] * (3 if text == "Yes." else 1)
    found = taken(room)
    assert found["task.perplexity"].arms["version"].value == pytest.approx(math.exp(0.5))
    assert found["task.loss"].arms["base"].value == pytest.approx(2.0)
    assert found["task.loss"].over["against"].high < 0


def test_of_a_conversation_the_last_answer_is_asked_for_with_all_before_it() -> None:
    said = [Message(role="system", content="Be brief."), Message(role="user", content="Hello"),
            Message(role="assistant", content="Hi"), Message(role="user", content="Open on Sunday?"),
            Message(role="assistant", content="No.")]  # fmt: skip
    room = room_of([ChatRecord(messages=tuple(said))], {arm: ["No."] for arm in ARMS})
    found = taken(room, max_tokens=9, perplexity=False)
    assert found["task.exact_match"].arms["version"].value == 1
    assert "task.perplexity" not in found
    arm, messages, sampling = room.asked[0]
    assert (arm, [m["role"] for m in messages], sampling) == ("version", ["system", "user", "assistant", "user"],
                                                             {"max_tokens": 9})  # fmt: skip


TRUTH = ["card", "card", "transfer", "transfer", "top up", "card", "top up", "limit"]
SAID = {
    "version": ["card", "transfer", "transfer", "transfer", "top up", "card", "card", "limit"],
    "against": ["card", "card", "card", "card", "card", "card", "card", "card"],
    "base": ["I do not know", "Card.", "transfer", "transfers", "top up", "", "limit", "limit"],
}


def labelled(said: dict[str, list[str]], **more: object) -> ScriptedRoom:
    return room_of([LabelledRecord(text=f"text {n}", label=label) for n, label in enumerate(TRUTH)], said, **more)


@pytest.mark.parametrize("arm", ARMS)
def test_figures_of_labels_are_scikit_learns(arm: Arm) -> None:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    found = taken(labelled(SAID))
    labels = sorted(set(TRUTH))
    given = [text.strip(".").lower() for text in SAID[arm]]
    assert found["task.accuracy"].arms[arm].value == pytest.approx(accuracy_score(TRUTH, given))
    macro = precision_recall_fscore_support(TRUTH, given, labels=labels, average="macro", zero_division=0)
    micro = precision_recall_fscore_support(TRUTH, given, labels=labels, average="micro", zero_division=0)
    each = precision_recall_fscore_support(TRUTH, given, labels=labels, zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1")):
        assert found[f"task.{name}_macro"].arms[arm].value == pytest.approx(macro[place])
        assert found[f"task.{name}_micro"].arms[arm].value == pytest.approx(micro[place])
        for number, label in enumerate(labels):
            assert found[f"task.{name}_micro"].slices[label][arm].value == pytest.approx(each[place][number])


def test_the_engine_is_held_to_the_labels_of_the_whole_dataset() -> None:
    room = labelled(SAID)
    room._rows += [row(LabelledRecord(text="text of the training", label="refund"), split="train")]
    taken(room)
    choice = ["card", "limit", "refund", "top up", "transfer"]
    assert {str(sampling) for _, _, sampling in room.asked} == {str({"structured_outputs": {"choice": choice}})}
    free = labelled(SAID)
    taken(free, constrained=False)
    assert all(sampling == {} for _, _, sampling in free.asked)


def test_tags_are_read_line_by_line_also_where_words_are_left_out() -> None:
    from sklearn.metrics import f1_score

    record = LabelledRecord(tokens=("Anna", "lives", "in", "Bern"), tags=("PER", "O", "O", "LOC"))
    said = {"version": ["Anna PER\nin O\nBern PER"], "against": ["Anna PER\nlives O\nin O\nBern LOC"], "base": ["Hm."]}
    found = taken(room_of([record], said))
    assert found["task.accuracy"].arms["version"].value == pytest.approx(2 / 4)
    assert found["task.accuracy"].arms["against"].value == 1
    assert found["task.accuracy"].arms["base"].value == 0
    by_hand = f1_score(["PER", "O", "O", "LOC"], ["PER", "", "O", "PER"], labels=["LOC", "O", "PER"], average="macro")
    assert found["task.f1_macro"].arms["version"].value == pytest.approx(by_hand)


def test_entities_count_whole_as_conlls_evaluation_does() -> None:
    tokens = ("Anna", "Maria", "Beck", "lives", "in", "New", "York")
    record = LabelledRecord(tokens=tokens, tags=("B-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "I-LOC"))
    cut = "Anna B-PER\nMaria I-PER\nBeck O\nlives O\nin O\nNew I-LOC\nYork I-LOC"  # an I- may begin an entity
    two = "Anna B-PER\nMaria I-PER\nBeck I-PER\nlives O\nin O\nNew B-LOC\nYork B-LOC"
    found = taken(room_of([record], {"version": [cut], "against": [two], "base": ["Hm."]}))["task.entity_f1"]
    assert found.arms["version"].value == pytest.approx(2 * 1 / (2 + 2))
    assert found.arms["against"].value == pytest.approx(2 * 1 / (2 + 3))
    assert found.arms["base"].value == 0


@pytest.mark.parametrize(
    ("record", "options", "line"),
    [
        (PreferenceRecord(messages=(Message(role="user", content="Hi"),), chosen="a", rejected="b"), {},
         "'task' wants labelled, instruction or chat records; d holds preference ones"),
        (LabelledRecord(text="a", label="b"), {"lables": ["b"]},
         "options of 'task': unknown key 'lables'; known keys here: constrained, labels, max_tokens, split"),
        (InstructionRecord(prompt="a", response="b"), {"bleu_tokenize": "french"}, "bleu_tokenize: .*found 'french'"),
        (None, {}, "'task' has no held-out records in d"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(record: AnyRecord | None, options: dict[str, object], line: str) -> None:
    room = ScriptedRoom(rows=[row(record)] if record else [])
    with pytest.raises(BrogueError, match=line) as error:
        measure(room, Part(measure="task", data="d", options=options))
    assert "\n" not in str(error.value)
