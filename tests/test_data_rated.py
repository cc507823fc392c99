"""Answers that were found good or bad: from thumbs, through an export and an import, and back."""

import json
from pathlib import Path

from data.dataset import load_card, load_rows
from data.home import Home
from data.judgements import Rating, Response
from data.store_home import open_store
from tests.conftest import Run


def test_thumbs_become_a_dataset_and_every_way_of_writing_it_is_read_again(
    brogue: Run, home: Home, tmp_path: Path
) -> None:
    store = open_store(home)
    for number in range(6):
        asked = ({"role": "system", "content": "Be short."}, {"role": "user", "content": f"What is item {number}?"})
        store.add_response(Response(id=f"r{number}", version="v@1", messages=asked, text=f"Aisle {number}."))
        store.judge(Rating(rater="ann", response=f"r{number}", thumb="up" if number % 2 else "down"))
    store.close()
    thumbs = tmp_path / "thumbs.jsonl"
    assert brogue("feedback", "export", "--as", "kto", "--to", str(thumbs)).returncode == 0
    done = brogue("data", "import", str(thumbs), "--into", "thumbs")
    assert done.returncode == 0 and "trl-kto → rated" in done.stderr, done.stderr
    rows = load_rows(home, "thumbs")
    assert {(row.record.messages[-1].content, row.record.good) for row in rows} == {  # type: ignore[union-attr]
        (f"Aisle {n}.", bool(n % 2)) for n in range(6)
    }
    for options, name in ((("--format", "trl-kto"), "a.jsonl"), ((), "b.jsonl"), ((), "c.parquet")):
        written = str(tmp_path / name)
        done = brogue("data", "export", "thumbs", "--to", written, *options)
        assert done.returncode == 0, done.stderr
        done = brogue("data", "import", written, "--into", name[0])
        assert done.returncode == 0, done.stderr
        assert load_card(home, name[0]).digest == load_card(home, "thumbs").digest
    assert brogue("data", "check", "thumbs").returncode == 0
    refused = brogue("data", "export", "thumbs", "--to", str(tmp_path / "t.csv"))
    assert refused.returncode == 1 and "'csv' takes chat or instruction" in refused.stderr


def test_a_thumb_that_is_neither_up_nor_down_is_refused_with_its_line(brogue: Run, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}], "good": "perhaps"}
    (tmp_path / "f.jsonl").write_text(json.dumps(row))
    done = brogue("data", "import", str(tmp_path / "f.jsonl"), "--into", "f")
    assert done.returncode == 1 and "f.jsonl:1: " in done.stderr and "good" in done.stderr
