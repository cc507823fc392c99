"""Personal data is replaced by placeholders that stay the same for the same value; everyday numbers are left alone."""

import json
from pathlib import Path

import pytest

from benchmarks.redaction import made, measure, presidio
from data.dataset import Row, load_card, load_rows, make_rows, save_dataset
from data.home import Home
from data.personal import find_personal
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    record_id,
)
from data.redaction import Redactor, redact
from tests.conftest import Run

SHARES = (80, 10, 10)


def row(record: AnyRecord) -> Row:
    return Row(id=record_id(record), split="test", record=record)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Mail jo.doe+x@mail.example.com.", "Mail [EMAIL_1]."),
        ("jo (at) example (dot) org", "[EMAIL_1]"),
        ("Call +49 30 1234567!", "Call [PHONE_1]!"),
        ("my number: (555) 012-3456", "my number: [PHONE_1]"),
        ("ring my mobile 5550123456", "ring my mobile [PHONE_1]"),
        ("card 4111 1111 1111 1111", "card [CARD_1]"),
        ("card 4111111111111112", "card 4111111111111112"),  # Luhn says no
        ("to DE89 3704 0044 0532 0130 00 please", "to [IBAN_1] please"),
        ("to gb29nwbk60161331926819.", "to [IBAN_1]."),
        ("from 10.0.0.1 and fe80::1ff:fe23:4567:890a", "from [IP_1] and [IP_2]"),
        ("ssn 460-89-9847", "ssn [NATIONAL_ID_1]"),
        ("my SSN is 460899847, ok", "my SSN is [NATIONAL_ID_1], ok"),
        ("DNI 12345678Z", "DNI [NATIONAL_ID_1]"),
        ("DNI 12345678A", "DNI 12345678A"),  # its check letter is wrong
        ("CPF 390.533.447-05", "CPF [NATIONAL_ID_1]"),
        ("password: hunter2secret", "password: [SECRET_1]"),
        ("password: required", "password: required"),
        ("key AKIA" + "A1B2C3D4E5F6G7H8", "key [SECRET_1]"),
        ("std::vector 10:30:15 1.2.3 2024-05-12 10:30 €1,234,567 3.14159265", None),
        ("Order 2023-4567 of 12/05/2024, 12345-6789, ISBN 978-3-16-148410-0", None),
        ("Lefevre (c. 1455–1536), the war of 1775 - 1783", None),
        ("", None),
    ],
)
def test_what_is_personal_is_replaced_and_what_is_not_stays(text: str, redacted: str | None) -> None:
    assert Redactor().text(text) == (text if redacted is None else redacted)


def test_the_same_value_has_the_same_placeholder_however_it_is_written() -> None:
    redactor = Redactor()
    assert redactor.text("a@x.org, b@x.org") == "[EMAIL_1], [EMAIL_2]"
    assert redactor.text("B@X.org and A@x.org") == "[EMAIL_2] and [EMAIL_1]"
    assert redactor.text("4111111111111111 or 4111-1111-1111-1111") == "[CARD_1] or [CARD_1]"


def test_a_second_redaction_keeps_clear_of_the_first_ones_placeholders() -> None:
    done = redact([row(InstructionRecord(prompt="ask [EMAIL_7]", response="no, c@x.org"))])
    assert done.rows[0].record.response == "no, [EMAIL_8]"  # type: ignore[union-attr]


def test_every_kind_of_record_is_redacted_and_keeps_its_split() -> None:
    asked = (Message(role="system", content="I am s@x.org"), Message(role="user", content="Who is u@x.org?"))
    records: list[AnyRecord] = [
        InstructionRecord(prompt="p@x.org?", response="r@x.org", system="s@x.org"),
        ChatRecord(messages=(*asked, Message(role="assistant", content="a@x.org"))),
        LabelledRecord(text="t@x.org", label="label@x.org"),
        PreferenceRecord(messages=asked, chosen="c@x.org", rejected="d@x.org"),
        RankingRecord(messages=asked, replies=("e@x.org", "f@x.org"), ranks=(0, 1)),
        LabelledRecord(tokens=("call", "+49", "30", "1234567", "now"), tags=("O", "B", "I", "I", "O")),
    ]
    done = redact([row(record) for record in records])
    stored = "\n".join(r.model_dump_json() for r in done.rows)
    assert stored.count("@x.org") == 1  # the label, which is not a text
    assert stored.count("[EMAIL_3]") == 4  # s@x.org stands in four of the records
    assert '"tokens":["call","[PHONE_1]","[PHONE_1]","[PHONE_1]","now"]' in stored
    assert all(r.split == "test" and r.id == record_id(r.record) for r in done.rows)


def test_a_preference_whose_answers_became_the_same_is_dropped_and_counted() -> None:
    asked = (Message(role="user", content="Which?"),)
    done = redact([row(PreferenceRecord(messages=asked, chosen="a@x.org", rejected="A@x.org"))])
    assert (done.rows, done.counts["dropped"]) == ([], 1)


def test_a_long_line_without_findings_takes_no_time() -> None:
    for piece in ("a", "1", "1 ", "a.", ":", "a-", "AB12 ", "a@", "sk-", "(at)"):
        assert isinstance(find_personal(piece * (200_000 // len(piece))), list)


def stored(home: Home) -> None:
    records = [InstructionRecord(prompt=f"Where is order {n}?", response=f"Ask a{n}@x.org") for n in range(20)]
    save_dataset(home, "chats", make_rows(records, SHARES), "a.csv", "0" * 64, {}, SHARES)


def test_the_command_writes_a_redacted_dataset_and_its_step(brogue: Run, home: Home) -> None:
    stored(home)
    done = brogue("data", "redact", "chats", "--into", "clean")
    assert done.returncode == 0, done.stderr
    assert "20 EMAIL replaced in 20 rows" in done.stdout
    assert "names of people" in done.stderr
    text = (home.datasets / "clean" / "records.jsonl").read_text()
    assert "@x.org" not in text
    assert "Ask [EMAIL_20]" in text
    [step] = load_card(home, "clean").steps
    assert (step.name, step.counts["EMAIL"]) == ("redact", 20)
    again = json.loads(brogue("data", "redact", "chats", "--into", "again", "--json").stdout)
    assert again["digest"] == load_card(home, "clean").digest


def test_a_preview_shows_the_changes_and_writes_nothing(brogue: Run, home: Home) -> None:
    stored(home)
    done = brogue("data", "redact", "chats", "--preview", "--show", "1")
    assert "- Ask a0@x.org\n+ Ask [EMAIL_1]\n" in done.stdout
    assert "20 EMAIL would be replaced in 20 rows; nothing was written" in done.stdout
    assert [path.name for path in home.datasets.iterdir()] == ["chats"]


def test_deduping_by_command_is_a_step_of_its_card(brogue: Run, home: Home) -> None:
    records = [
        InstructionRecord(prompt=p, response="Soon.") for p in ("Where is my order?", "where is my ORDER", "Hi?")
    ]
    save_dataset(home, "chats", make_rows(records, SHARES), "a.csv", "0" * 64, {}, SHARES)
    done = brogue("data", "dedupe", "chats", "--near", "--into", "once")
    assert done.returncode == 0, done.stderr
    assert "1 near duplicates" in done.stdout
    assert len(load_rows(home, "once")) == 2
    assert load_card(home, "once").steps[-1].counts == {"exact": 0, "near": 1, "leaks": 0}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("redact", "chats"), "wanted --into NEW for the redacted dataset, or --preview"),
        (("redact", "nope", "--into", "x"), "no dataset 'nope'; have: chats"),
        (("dedupe", "chats", "--into", "chats"), "dataset 'chats' exists already"),
        (("dedupe", "chats", "--into", "No Name"), "cannot name a dataset"),
    ],
)
def test_a_mistake_is_answered_in_one_line(brogue: Run, home: Home, words: tuple[str, ...], line: str) -> None:
    stored(home)
    done = brogue("data", *words)
    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_recall_on_sentences_made_here_is_at_least_95_percent() -> None:
    results = {str(r["label"]): r for r in measure(made())}
    assert set(results) == {"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "PHONE_NUMBER"}
    for label, result in results.items():
        assert float(str(result["recall"])) >= 0.95, (label, result)
        assert float(str(result["precision"])) >= 0.9, (label, result)


@pytest.mark.data
@pytest.mark.parametrize("label", ["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IP_ADDRESS", "US_SSN"])
def test_recall_on_public_sentences_is_at_least_95_percent(public_data: Path, label: str) -> None:
    path = public_data / "pii_presidio_synth" / "synth_dataset_v2_part1.json"
    results = {str(r["label"]): r for r in measure(presidio(path))}
    assert float(str(results[label]["recall"])) >= 0.95, results[label]


def test_a_redacted_row_keeps_whose_it_is_and_what_it_was_made_of() -> None:
    source = row(InstructionRecord(prompt="Write to jo@example.org", response="Done."))
    written = source.model_copy(update={"group": "g", "subject": "s", "response_ids": ("r1",)})
    made = row(InstructionRecord(prompt="Send a line to me", response="Done.")).model_copy(
        update={"split": "train", "synthetic_of": source.id}
    )
    new, new_made = redact([written, made]).rows
    assert (new.group, new.subject, new.response_ids) == ("g", "s", ("r1",))
    assert new.id != source.id
    assert new_made.synthetic_of == new.id
