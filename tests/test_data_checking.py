"""What a check finds in a dataset, and what it leaves alone."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from data.checking import Options, check
from data.checking_records import Faults
from data.checking_report import Finding, Report, Seen, Target
from data.checking_texts import excerpt, foul_words, language, maybe_cut, sensitive, surely_cut
from data.dataset import Row, save_dataset
from data.home import Home
from data.records import AnyRecord, ChatRecord, InstructionRecord, LabelledRecord, Message, PreferenceRecord, Split
from data.records import record_id as id_of
from tests.conftest import Run

KEY = "AKIA" + "IOSFODNN7EXAMPLE"
SPLIT_OF: tuple[Split, ...] = ("train", "validation", "test")


def row(record: AnyRecord, split: Split = "train") -> Row:
    return Row(id=id_of(record), split=split, record=record)


def asked(prompt: str, response: str = "It is in aisle three, next to the door.", split: Split = "train") -> Row:
    return row(InstructionRecord(prompt=prompt, response=response), split)


def labelled(text: str, label: str, split: Split = "train") -> Row:
    return row(LabelledRecord(text=text, label=label), split)


def report(rows: list[Row], **options: Any) -> Report:
    seen = [Seen(f"a.jsonl:{line}", one) for line, one in enumerate(rows, 1)]
    return check(Target("shop"), rows[0].record.kind, "dataset", seen, Faults(), Options(**options), lambda _: None)


def found(result: Report, check: str) -> Finding | None:
    return next((finding for finding in result.findings if finding.check == check), None)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of ten words that have hardly any in common."""
    chance = random.Random(seed)
    return [" ".join(f"word{chance.randrange(100_000)}" for _ in range(10)) for _ in range(count)]


def test_planted_leakage_is_found_between_splits() -> None:
    texts = sentences(300)
    rows = [asked(text, f"answer {i}", "test" if i < 50 else "train") for i, text in enumerate(texts)]
    planted = [asked(texts[i].upper() + "!", f"another answer {i}") for i in range(20)]
    result = report(rows + planted)
    leak = found(result, "leakage")
    assert leak is not None
    assert leak.count == 20
    assert leak.severity == "warning"
    assert leak.next_step == "brogue data dedupe shop --near --into shop-clean"
    assert (leak.examples[0].record, leak.examples[0].other) == ("a.jsonl:301", "a.jsonl:1")


def test_near_repeats_are_told_apart_from_near_leaks() -> None:
    texts = sentences(100)
    rows = [asked(text, split="test" if i < 10 else "train") for i, text in enumerate(texts)]
    changed = [" ".join([*text.split()[:-1], "changed"]) for text in texts]
    result = report(rows + [asked(changed[0]), asked(changed[50]), rows[60]])
    counts = {name: found(result, name) for name in ("near leakage", "near duplicates", "exact duplicates")}
    assert {name: finding and finding.count for name, finding in counts.items()} == {
        "near leakage": 1, "near duplicates": 1, "exact duplicates": 1,
    }  # fmt: skip


def test_a_clean_dataset_has_no_errors_and_no_warnings() -> None:
    texts = sentences(60)
    result = report([asked(text, split=SPLIT_OF[i % 3]) for i, text in enumerate(texts)], count_tokens=words_of)
    assert [finding.check for finding in result.findings if finding.severity != "note"] == []


def words_of(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_a_text_with_two_labels_is_a_conflict() -> None:
    rows = [labelled("Where is my card?", "card"), labelled("where is my card", "delivery"), labelled("Hello", "hi")]
    conflict = found(report(rows), "conflicts")
    assert conflict is not None
    assert (conflict.count, conflict.severity) == (1, "warning")


def test_word_order_makes_another_question() -> None:
    rows = [labelled("Is tea better than coffee?", "tea"), labelled("Is coffee better than tea?", "coffee")]
    assert found(report(rows), "conflicts") is None


def test_a_pair_that_two_people_judge_differently_is_a_conflict() -> None:
    question = (Message(role="user", content="Which one?"),)
    rows = [row(PreferenceRecord(messages=question, chosen=a, rejected=b)) for a, b in (("x", "y"), ("y", "x"))]
    assert found(report(rows), "conflicts") is not None


def test_several_answers_to_one_question_are_a_note_only() -> None:
    conflict = found(report([asked("Where is it?", "Here."), asked("Where is it?", "There.")]), "conflicts")
    assert conflict is not None
    assert conflict.severity == "note"


@pytest.mark.parametrize(
    "text",
    [
        f"my key is {KEY} ok",
        "the password: hunter22 is wrong",
        "https://someone:passw0rd@example.com/x",
        "token " + "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found_and_masked_in_the_report(text: str) -> None:
    result = report([asked(f"{text} and what else?", split="train"), asked("Something else?")])
    finding = found(result, "secrets")
    assert finding is not None
    assert finding.count == 1
    shown = result.model_dump_json()
    for value in (KEY, "hunter22", "passw0rd", "abcdefghijklmnop"):
        assert value not in shown


def test_no_excerpt_shows_a_secret_whatever_finding_it_belongs_to() -> None:
    rows = [asked(f"Use {KEY} or mail a.person@example.org, damn", "short")] * 2
    shown = report(rows, limit=1, count_tokens=words_of).model_dump_json()
    assert KEY not in shown
    assert "a.person" not in shown


def test_an_excerpt_never_begins_inside_a_secret() -> None:
    text = "x " * 40 + KEY + " y" * 100
    for around in range(0, len(text), 3):
        assert not any(KEY[i : i + 8] in excerpt(text, around) for i in range(8))


@pytest.mark.parametrize(
    "text",
    ["the secret: practise every day", "your order 12345 is ready", "a password: required", "https://example.com"],
)
def test_ordinary_words_are_no_secrets(text: str) -> None:
    assert [span for span in sensitive(text) if span.kind == "SECRET"] == []


def test_short_texts_have_no_language() -> None:
    assert [language(text) for text in ("hi", "ok thanks", "refund", "12345", "👍")] == ["undetermined"] * 5
    assert language("Wo ist meine Karte geblieben, bitte?") == "de"
    assert language("我的银行卡在哪里？请帮我查一下。") == "zh"


def test_a_second_language_is_told() -> None:
    english = [asked(f"Where is my parcel number {i}?", f"It is on its way to you now, {i}.") for i in range(20)]
    german = [asked(f"Wo ist mein Paket Nummer {i}?", f"Es ist gerade auf dem Weg zu Ihnen, {i}.") for i in range(5)]
    finding = found(report(english + german), "languages")
    assert finding is not None
    assert (finding.count, finding.severity) == (5, "note")


def test_an_answer_that_breaks_off_is_found_and_a_whole_one_is_not() -> None:
    whole = "Open the app. Choose your card. Then choose to block it and follow what the page tells you to do. " * 2
    assert surely_cut(whole + "After that, wait for the new one,")
    assert surely_cut(whole + "Run this:\n```\nls -l")
    assert maybe_cut(whole + "After that we will send the new card to the address that you")
    for end in (
        "\nKind regards,\nAnna from the support team",
        "\n- a list item that goes on for a while here too",
        "Thanks 😊",
    ):
        assert not surely_cut(whole + end)
        assert not maybe_cut(whole + end)


def test_foul_words_are_found_as_words_only() -> None:
    assert foul_words("this is bullshit") == ["bullshit"]
    assert foul_words("a class in Scunthorpe, with a classic assessment") == []


def test_records_over_the_limit_are_told_and_are_an_error_if_nothing_is_left() -> None:
    short, long = asked("a b c"), asked("word " * 50)
    finding = found(report([short, long], limit=30, count_tokens=words_of), "over-long")
    assert finding is not None
    assert (finding.count, finding.severity) == (1, "warning")
    finding = found(report([long], limit=30, count_tokens=words_of), "over-long")
    assert finding is not None
    assert finding.severity == "error"


def test_lengths_are_said_to_be_in_words_without_a_base_model() -> None:
    result = report([asked("one two three", "four")])
    assert (result.unit, result.lengths and result.lengths.median) == ("words", 4)
    assert found(result, "lengths in words") is not None


def test_the_histogram_counts_every_record_once() -> None:
    chance = random.Random(1)
    rows = [asked("w " * chance.randrange(1, 400)) for _ in range(500)]
    bars = report(rows).histogram
    assert sum(bar.count for bar in bars) == 500
    assert all(a.high + 1 == b.low for a, b in zip(bars, bars[1:], strict=False))


def test_classes_that_are_rare_or_crowded_are_told() -> None:
    rows = [labelled(f"{text} a", "big") for text in sentences(300)]
    rows += [labelled(f"{text} b", "mid") for text in sentences(6, 1)]
    rows += [labelled(f"{text} c", "small") for text in sentences(2, 2)]
    result = report(rows)
    few, balance = found(result, "few examples"), found(result, "balance")
    assert few is not None and few.examples[0].text == "small: 2 in train"
    assert balance is not None and "'big' has 300" in balance.message
    assert result.classes == {"big": 300, "mid": 6, "small": 2}
    assert result.lengths_by_class["small"].count == 2


def test_an_exam_that_stands_in_train_is_an_error(home: Home, brogue: Run) -> None:
    home.create()
    texts = sentences(30)
    ours = [asked(text) for text in texts] + [asked(sentences(1, 9)[0], split="test")]
    exam = [
        asked(texts[0].title() + "?"),
        asked(" ".join([*texts[1].split()[:-1], "other"])),
        *map(asked, sentences(9, 5)),
    ]
    for name, rows in (("ours", ours), ("final", exam)):
        save_dataset(home, name, rows, "x.jsonl", "", {}, (80, 10, 10))
    done = brogue("data", "check", "ours", "--exam", "final", "--json")
    assert done.returncode == 1
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["exam questions"]["count"] == 1
    assert findings["near exam questions"]["count"] == 1
    assert findings["exam questions"]["examples"][0]["other"] == f"final/{exam[0].id}"
    assert len([line for line in done.stderr.splitlines() if line.startswith("brogue: ")]) == 1


def test_a_passage_of_an_exam_inside_a_longer_text_is_found() -> None:
    passage = " ".join(sentences(2, 3))
    exam = [("final/1", InstructionRecord(prompt=f"Read this: {passage}", response="yes"))]
    result = report([asked(f"Before it. {passage} And after it, many more words.")], exams=exam)
    assert found(result, "exam passages") is not None


def test_the_check_takes_every_kind() -> None:
    talk = (Message(role="user", content="Hello there"), Message(role="assistant", content="Good morning to you"))
    report([row(ChatRecord(messages=talk))])
    report([row(LabelledRecord(tokens=("a", "b"), tags=("O", "B-LOC")))])
    report([row(PreferenceRecord(messages=talk[:1], chosen="a", rejected="a", tie=True))])


@pytest.mark.data
def test_banking77_has_no_errors_and_its_known_conflict(public_data: Path, brogue: Run, home: Home) -> None:
    home.create()
    done = brogue("data", "check", str(public_data / "banking77" / "train.csv"), "--json")
    assert done.returncode == 0, done.stderr
    result = Report.model_validate_json(done.stdout)
    assert (result.records, len(result.classes) + result.other_classes) == (10_003, 77)
    conflict = found(result, "conflicts")
    assert conflict is not None and conflict.count == 1
    assert result.languages["en"] > 9_700
