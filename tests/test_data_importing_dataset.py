"""`brogue data import`: what a file says of its records beside their texts, and a dataset written while it is read."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from data.dataset import load_card, load_rows
from data.home import Home
from tests.conftest import Run


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def asked(n: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"question {n}", "response": f"answer {n}", **more}


def test_a_row_keeps_its_group_and_its_subject_and_no_group_is_torn_apart(
    brogue: Run, tmp_path: Path, home: Home
) -> None:
    rows = [asked(n, customer=n % 40, mail=f"c{n % 40}@example.org") for n in range(400)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    done = brogue(
        "data", "import", file, "--into", "one", "--group-column", "customer", "--subject-column", "mail"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_rows(home, "one")
    assert [(row.group, row.subject) for row in found] == [(str(r["customer"]), r["mail"]) for r in rows]
    splits = defaultdict[str | None, set[str]](set)
    for row in found:
        splits[row.group].add(row.split)
    assert {len(names) for names in splits.values()} == {1}
    assert load_card(home, "one").steps[0].options["group_column"] == "customer"
    assert "not used" not in done.stderr


def test_a_conversations_columns_beside_its_messages_can_be_group_and_subject(
    brogue: Run, tmp_path: Path, home: Home
) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows: list[dict[str, Any]] = [{"messages": turns, "ticket": "t-1"}, {"messages": turns, "ticket": None}]
    file = jsonl(tmp_path / "a.jsonl", rows)
    done = brogue("data", "import", file, "--into", "one", "--group-column", "ticket")
    assert [row.group for row in load_rows(home, "one")] == ["t-1", None]
    assert "1 rows have no 'ticket'" in done.stderr


@pytest.mark.parametrize("option", ["--group-column", "--subject-column"])
def test_a_group_column_that_is_not_there_is_one_line(brogue: Run, tmp_path: Path, home: Home, option: str) -> None:
    done = brogue("data", "import", jsonl(tmp_path / "a.jsonl", [asked(1, ref=1)]), "--into", "one", option, "customer")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("no column 'customer'; the columns are: prompt, response, ref")
    assert not home.datasets.exists()


def test_the_questions_on_one_article_stay_in_one_split(brogue: Run, tmp_path: Path, home: Home) -> None:
    def article(n: int) -> dict[str, Any]:
        questions = [{"question": f"Q{n}-{q}?", "answers": [{"text": "A"}]} for q in range(3)]
        paragraphs = [{"context": f"C{n}-{p}", "qas": questions} for p in range(2)]
        return {"title": f"Article {n}", "paragraphs": paragraphs} if n else {"paragraphs": paragraphs}

    (tmp_path / "a.json").write_text(json.dumps({"data": [article(n) for n in range(20)]}), encoding="utf-8")
    assert brogue("data", "import", str(tmp_path / "a.json"), "--into", "one").returncode == 0
    rows = load_rows(home, "one")
    assert len({row.group for row in rows}) == 20
    assert rows[6].group == "Article 1"
    assert len({(row.group, row.split) for row in rows}) == 20
    assert brogue("data", "split", "one", "--into", "two", "--by", "group").returncode == 0
    assert load_card(home, "two").records == {"train": 96, "validation": 12, "test": 12}


def hf_folder(path: Path, **splits: int) -> str:
    """A folder as on the Hugging Face hub, so many rows in each split."""
    import pyarrow
    from pyarrow import parquet

    (path / "data").mkdir(parents=True)
    number = 0
    for name, count in splits.items():
        rows = [asked(number + n) for n in range(count)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), path / "data" / f"{name}-00000-of-00001.parquet")
        number += count
    return str(path)


@pytest.mark.slow  # the datasets library takes seconds to look at a folder
def test_a_dataset_folders_own_splits_are_kept(brogue: Run, tmp_path: Path, home: Home) -> None:
    folder = hf_folder(tmp_path / "hub", train=20, validation=5, test=6)
    done = brogue("data", "import", folder, "--into", "one")
    assert done.returncode == 0, done.stderr
    card = load_card(home, "one")
    assert (card.records, card.shares) == ({"train": 20, "validation": 5, "test": 6}, None)
    assert "the folder's own splits were kept: " in done.stderr
    done = brogue("data", "import", folder, "--into", "anew", "--split", "50/0/50")
    assert load_card(home, "anew").records["validation"] == 0
    assert load_card(home, "anew").shares == (50, 0, 50)
    assert "own splits" not in done.stderr


def test_a_split_of_another_name_goes_into_train_and_is_said(brogue: Run, tmp_path: Path, home: Home) -> None:
    import datasets

    datasets.disable_progress_bars()
    sizes = {"train_sft": 4, "test_sft": 3, "unsupervised": 2}
    tables = {name: datasets.Dataset.from_list([asked(n) for n in range(size)]) for name, size in sizes.items()}
    datasets.DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))
    done = brogue("data", "import", str(tmp_path / "saved"), "--into", "one")
    assert load_card(home, "one").records == {"train": 6, "validation": 0, "test": 3}
    assert "split 'unsupervised' is none of train, validation, test; its 2 rows went into train" in done.stderr


@pytest.mark.slow  # the datasets library takes seconds to look at a folder
def test_a_folder_with_one_split_alone_is_split_by_us(brogue: Run, tmp_path: Path, home: Home) -> None:
    brogue("data", "import", hf_folder(tmp_path / "hub", train=200), "--into", "one")
    card = load_card(home, "one")
    assert card.shares == (80, 10, 10)
    assert all(card.records.values())


def test_a_fault_near_the_end_of_a_long_file_leaves_nothing_behind(brogue: Run, tmp_path: Path, home: Home) -> None:
    rows = [asked(n) for n in range(12_000)]
    rows[11_000]["response"] = rows[11_500]["response"] = " "
    done = brogue("data", "import", jsonl(tmp_path / "a.jsonl", rows), "--into", "one")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "reading a.jsonl: 10,000 rows"
    assert "a.jsonl:11001: response is empty (and 1 more like it); nothing was imported" in done.stderr
    assert list(home.datasets.iterdir()) == []
    done = brogue("data", "import", str(tmp_path / "a.jsonl"), "--into", "one", "--skip-faulty")
    assert done.returncode == 0
    assert sum(load_card(home, "one").records.values()) == 11_998


def test_a_file_that_breaks_off_does_not_replace_the_dataset_there_is(brogue: Run, tmp_path: Path, home: Home) -> None:
    assert brogue("data", "import", jsonl(tmp_path / "a.jsonl", [asked(1)]), "--into", "one").returncode == 0
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "a", "response": "b"}\n' * 100 + b"\0\xff")
    done = brogue("data", "import", str(tmp_path / "b.jsonl"), "--into", "one", "--replace")
    assert done.returncode == 1
    assert "b.jsonl:101: a NUL byte" in done.stderr
    assert len(load_rows(home, "one")) == 1


def test_a_name_that_is_taken_is_refused_before_the_file_is_read(brogue: Run, tmp_path: Path) -> None:
    assert brogue("data", "import", jsonl(tmp_path / "a.jsonl", [asked(1)]), "--into", "one").returncode == 0
    done = brogue("data", "import", str(tmp_path / "missing.jsonl"), "--into", "one")
    assert "dataset 'one' exists already" in done.stderr


def test_a_killed_import_leaves_what_was_there_and_the_next_one_clears_up(
    tmp_path: Path, brogue: Run, home: Home
) -> None:
    assert brogue("data", "import", jsonl(tmp_path / "a.jsonl", [asked(1)]), "--into", "one").returncode == 0
    jsonl(tmp_path / "c.jsonl", [asked(n) for n in range(300_000)])
    command = [sys.executable, "-m", "assistant.cli", "data", "import", str(tmp_path / "c.jsonl"), "--into", "one"]
    process = subprocess.Popen([*command, "--replace"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(home.datasets.glob(".new.one.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list(home.datasets.glob(".new.one.*"))
    assert len(load_rows(home, "one")) == 1
    assert brogue("data", "import", str(tmp_path / "a.jsonl"), "--into", "two").returncode == 0
    assert sorted(path.name for path in home.datasets.iterdir()) == ["one", "two"]


def test_the_weights_that_an_export_writes_are_read_again(brogue: Run, tmp_path: Path, home: Home) -> None:
    rows = [
        {"prompt": f"question {n}", "chosen": "a", "rejected": "b", "weight": 0.5 if n % 2 else 1} for n in range(8)
    ]
    done = brogue("data", "import", jsonl(tmp_path / "w.jsonl", rows), "--into", "one")
    assert done.returncode == 0, done.stderr
    assert "4 rows have a weight other than 1 (column 'weight')" in done.stderr and "not used" not in done.stderr
    assert brogue("data", "export", "one", "--to", str(tmp_path / "again.jsonl"), "--format", "trl-dpo").returncode == 0
    assert brogue("data", "import", str(tmp_path / "again.jsonl"), "--into", "two").returncode == 0
    for name in ("one", "two"):
        assert sorted(row.weight for row in load_rows(home, name)) == [0.5] * 4 + [1.0] * 4
    for wrong in (0, -1, "much", "inf", "nan"):
        file = jsonl(tmp_path / "x.jsonl", [*rows, rows[0] | {"weight": wrong}])
        done = brogue("data", "import", file, "--into", "three")
        assert done.returncode == 1 and f"x.jsonl:9: weight is {wrong}, wanted a number above 0" in done.stderr
    chat = [asked(n, weight=n) for n in range(9)]
    done = brogue("data", "import", jsonl(tmp_path / "c.jsonl", chat), "--into", "four")
    assert done.returncode == 0 and "not used: weight" in done.stderr, "of a product, say: it is nobody's judgement"
