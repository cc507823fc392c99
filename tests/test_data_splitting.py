"""A dataset can be split anew and balanced: nothing that belongs together is torn apart, and never by chance."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from data.dataset import Row, load_card, load_rows, save_dataset
from data.home import Home
from data.records import AnyRecord, InstructionRecord, LabelledRecord, Split, record_id
from tests.conftest import Run


def row(record: AnyRecord, split: Split = "train", **more: str) -> Row:
    return Row(id=record_id(record), split=split, record=record).model_copy(update=more)


def asked(n: int, split: Split = "train", **more: str) -> Row:
    return row(InstructionRecord(prompt=f"question {n}", response=f"answer {n}"), split, **more)


def labelled(text: str, label: str, split: Split = "train", **more: str) -> Row:
    return row(LabelledRecord(text=text, label=label), split, **more)


def save(home: Home, rows: list[Row]) -> None:
    save_dataset(home, "one", rows, "a.csv", "0" * 64, {}, (80, 10, 10))


def test_splitting_by_hash_as_the_import_did_moves_nothing(brogue: Run, tmp_path: Path, home: Home) -> None:
    lines = [json.dumps({"prompt": f"q {n}", "response": "a"}) for n in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert brogue("data", "import", str(tmp_path / "a.jsonl"), "--into", "one").returncode == 0
    done = brogue("data", "split", "one", "--into", "two")
    assert done.returncode == 0, done.stderr
    assert "0 rows moved" in done.stdout
    assert load_card(home, "two").digest == load_card(home, "one").digest
    other = brogue("data", "split", "one", "--into", "three", "--split", "50/25/25", "--json")
    card = load_card(home, "three")
    assert json.loads(other.stdout)["digest"] == card.digest
    assert card.shares == (50, 25, 25)
    assert (card.steps[-1].name, card.steps[-1].options) == ("split", {"by": "hash", "split": "50/25/25"})
    assert card.steps[-1].counts["moved"] > 20


def test_no_group_is_torn_apart_and_the_shares_are_nearly_met(brogue: Run, home: Home) -> None:
    save(home, [asked(n, group=f"customer {n % 50}") for n in range(1000)])
    assert brogue("data", "split", "one", "--into", "two", "--by", "group").returncode == 0
    splits = defaultdict[str | None, set[str]](set)
    for found in load_rows(home, "two"):
        splits[found.group].add(found.split)
    assert len(splits) == 50
    assert all(len(names) == 1 for names in splits.values())
    assert load_card(home, "two").records == {"train": 800, "validation": 100, "test": 100}


def test_rows_without_a_group_are_refused_in_one_line(brogue: Run, home: Home) -> None:
    save(home, [asked(0, group="c"), asked(1), asked(2)])
    done = brogue("data", "split", "one", "--into", "two", "--by", "group")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("brogue: 2 of 3 rows have no group; import the file with --group-c")
    assert [path.name for path in home.datasets.iterdir()] == ["one"]


def test_a_stratified_split_gives_each_label_its_share_and_none_a_leak(brogue: Run, home: Home) -> None:
    sizes = {"large": 500, "middle": 40, "small": 10, "rare": 1}
    rows = [labelled(f"{label} {n}", label) for label, size in sizes.items() for n in range(size)]
    save(home, rows + [labelled(f"LARGE  {n}", "large") for n in range(100)])  # the same questions once more
    assert brogue("data", "split", "one", "--into", "two", "--by", "stratified").returncode == 0
    found = defaultdict[str, Counter[str]](Counter)
    where = defaultdict[str, set[str]](set)
    for one in load_rows(home, "two"):
        assert isinstance(one.record, LabelledRecord)
        text = " ".join((one.record.text or "").lower().split())
        if text not in where:
            found[one.record.label or ""][one.split] += 1
        where[text].add(one.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert found["large"] == {"train": 400, "validation": 50, "test": 50}
    assert found["middle"] == {"train": 32, "validation": 4, "test": 4}
    assert found["small"] == {"train": 8, "validation": 1, "test": 1}
    assert found["rare"] == {"train": 1}


def test_many_small_labels_together_meet_the_shares(brogue: Run, home: Home) -> None:
    """300 labels of 4 texts each: a label cannot have 10% in test, all together have them. With what is left over
    falling on either side by a hash, the standard deviation is under 1.5% of the rows."""
    save(home, [labelled(f"{label} {n}", f"l{label}") for label in range(300) for n in range(4)])
    assert brogue("data", "split", "one", "--into", "two", "--by", "stratified").returncode == 0
    records = load_card(home, "two").records
    assert abs(records["validation"] - 120) < 60
    assert abs(records["test"] - 120) < 60


def test_conversations_cannot_be_stratified(brogue: Run, home: Home) -> None:
    save(home, [asked(0)])
    done = brogue("data", "split", "one", "--into", "two", "--by", "stratified")
    assert done.returncode == 1
    assert "1 of 1 rows have no label to stratify by; split --by hash or --by group" in done.stderr


@pytest.mark.parametrize("by", ["hash", "group"])
def test_what_a_model_made_and_what_it_was_made_of_stay_in_train(brogue: Run, home: Home, by: str) -> None:
    rows = [asked(n, group=f"g{n}") for n in range(100)]
    made = [asked(1000 + n, synthetic_of=rows[n].id) for n in range(50)]
    save(home, rows + made)
    assert brogue("data", "split", "one", "--into", "two", "--by", by, "--split", "40/30/30").returncode == 0
    found = load_rows(home, "two")
    assert {one.split for one in found[:50] + found[100:]} == {"train"}
    assert {one.split for one in found[50:100]} == {"train", "validation", "test"}


def test_a_split_that_stays_empty_is_said(brogue: Run, home: Home) -> None:
    save(home, [asked(n, group="only one") for n in range(10)])
    done = brogue("data", "split", "one", "--into", "two", "--by", "group")
    assert "no rows went into validation: there are too few groups" in done.stderr


def test_balancing_cuts_the_larger_labels_of_train_alone(brogue: Run, home: Home) -> None:
    rows = [labelled(f"big {n}", "big", "test" if n < 5 else "train") for n in range(30)]
    save(home, rows + [labelled(f"small {n}", "small") for n in range(7)])
    done = brogue("data", "balance", "one", "--into", "two")
    assert done.returncode == 0, done.stderr
    assert "18 rows dropped; each label has at most 7 in train, as many as the smallest ('small')" in done.stdout
    card = load_card(home, "two")
    assert card.records == {"train": 14, "validation": 0, "test": 5}
    assert card.steps[-1].options == {"by": "label", "at_most": 7}
    assert "to keep more: --at-most" in done.stderr
    assert brogue("data", "balance", "one", "--into", "three", "--at-most", "10").returncode == 0
    assert load_card(home, "three").records["train"] == 17


def test_balancing_drops_what_a_model_made_first(brogue: Run, home: Home) -> None:
    written = [labelled(f"a {n}", "a") for n in range(3)]
    made = [labelled(f"b {n}", "a", synthetic_of=written[0].id) for n in range(5)]
    save(home, made + written + [labelled(f"c {n}", "c") for n in range(3)])
    assert brogue("data", "balance", "one", "--into", "two").returncode == 0
    assert [found for found in load_rows(home, "two") if found.synthetic_of] == []


def test_what_has_no_label_is_refused_and_told_the_other_way(brogue: Run, home: Home) -> None:
    save(home, [asked(n, group=f"g{n // 9}") for n in range(10)])
    done = brogue("data", "balance", "one", "--into", "two")
    assert done.returncode == 1
    assert "can be balanced --by group" in done.stderr
    assert brogue("data", "balance", "one", "--into", "two", "--by", "group").returncode == 0
    assert load_card(home, "two").records["train"] == 2


def test_the_same_source_and_steps_give_the_same_digest(brogue: Run, tmp_path: Path, home: Home) -> None:
    lines = ["text,label"]
    for n in range(300):
        lines.append(f"please send order {n} to a{n % 40}@example.org,{'many' if n % 3 else 'few'}")
    (tmp_path / "a.csv").write_text("\n".join([*lines, *lines[1:20]]), encoding="utf-8")
    digests = []
    for run in ("a", "b"):
        steps = (
            ("import", str(tmp_path / "a.csv")), ("dedupe", f"{run}0", "--near"), ("redact", f"{run}1"),
            ("split", f"{run}2", "--by", "stratified"), ("balance", f"{run}3"),
        )  # fmt: skip
        for number, (command, source, *options) in enumerate(steps):
            done = brogue("data", command, source, "--into", f"{run}{number}", *options)
            assert done.returncode == 0, done.stderr
        digests.append([load_card(home, f"{run}{number}").digest for number in range(len(steps))])
        assert [step.name for step in load_card(home, f"{run}4").steps] == [command for command, *_ in steps]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) > 3
