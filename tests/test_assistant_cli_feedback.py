"""`brogue feedback`: list, agreement, leaderboard and export, as they are typed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.cli_feedback import KINDS
from data.dataset import iter_rows
from data.home import Home
from data.judgements import Comparison, Correction, Ranking, Rating, Response
from data.records import RankingRecord
from data.store import Store
from data.store_home import open_store
from tests.conftest import Run
from tests.inside import brogue_inside

MESSAGE = {"role": "user", "content": "Where is my parcel?"}


@pytest.fixture
def brogue() -> Run:
    """Runs `brogue` with the given words."""
    return brogue_inside


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    yield opened
    opened.close()


def answered(store: Store, *ids: str, asked: str = "Where is my parcel?") -> None:
    """Answers called `question-version`, whose text is `Text ID.`"""
    for id in ids:
        version = id.partition("-")[2]
        store.add_response(Response(id=id, version=version, assistant="shop", text=f"Text {id}.",
                                    messages=({"role": "user", "content": asked},)))  # fmt: skip


def exported(brogue: Run, tmp_path: Path, kind: str, *more: str) -> list[dict[str, Any]]:
    to = tmp_path / f"{kind}.jsonl"
    done = brogue("feedback", "export", "--as", kind, "--to", str(to), "--replace", *more)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_every_kind_of_judgement_is_listed_and_filtered(store: Store, brogue: Run) -> None:
    answered(store, "1-a@1", "1-b@1", "1-c@1")
    store.judge(Rating(rater="ann", response="1-a@1", thumb="down", reasons=("wrong",), comment="it <b>is</b> late"))
    store.judge(Comparison(rater="bob", shown=("1-a@1", "1-b@1"), verdict="second", seconds=12))
    store.judge(Ranking(rater="bob", shown=("1-a@1", "1-b@1", "1-c@1"), ranks=(1, 0, 0)))
    store.judge(Correction(rater="eve", response="1-a@1", text="It comes today."))
    store.judge(Comparison(id="gone", rater="eve", shown=("1-a@1", "1-b@1"), verdict="tie"))
    store.take_back("gone", "eve")
    plain = brogue("feedback", "list").stdout
    for words in ("down: a@1", "wrong; it <b>is</b> late", "b@1 > a@1", "12 s", "b@1 = c@1 > a@1", "corrected: a@1"):
        assert words in plain
    assert "gone" not in plain and "gone (taken back)" in brogue("feedback", "list", "--taken-back").stdout
    for kind in KINDS:
        found = json.loads(brogue("feedback", "list", "--kind", kind, "--json").stdout)
        assert [one["judgement"]["kind"] for one in found] == [kind]
    assert len(json.loads(brogue("feedback", "list", "--rater", "bob", "--json").stdout)) == 2
    assert len(json.loads(brogue("feedback", "list", "--version", "c@1", "--json").stdout)) == 1
    assert len(json.loads(brogue("feedback", "list", "--limit", "1", "--json").stdout)) == 1
    assert json.loads(brogue("feedback", "list", "--until", "2020-01-01", "--json").stdout) == []


def test_mistakes_get_one_line(store: Store, brogue: Run, tmp_path: Path) -> None:
    answered(store, "1-a@1")
    to = str(tmp_path / "x.jsonl")
    for words, wanted in (
        (["list", "--kind", "thumb"], "--kind wants one of rating, comparison, ranking, correction; found 'thumb'"),
        (["list", "--since", "soon"], "--since wants a day, such as 2026-03-01; found 'soon'"),
        (["leaderboard"], "no two versions have been compared among 0 comparisons and rankings"),
        (["leaderboard", "--plot", "board.pdf"], "--plot wants a file that ends in .png or .svg"),
        (["export", "--as", "ppo", "--to", to], "--as wants one of sft, dpo, kto, reward, ranking, jsonl; found 'ppo'"),
        (["export", "--as", "kto", "--to", to], "no thumbs among 0 judgements that give a line"),
        (["export", "--as", "kto", "--to", str(tmp_path)], "is a folder; name a file in it"),
    ):
        done = brogue("feedback", *words)
        assert done.returncode == 1 and wanted in done.stderr and len(done.stderr.strip().splitlines()) <= 4
    assert not list(tmp_path.glob("*.jsonl")) and not list(tmp_path.glob(".x*"))
    assert "no agreement to measure" in brogue("feedback", "agreement").stderr


def test_exports_have_trls_columns_and_the_raters_weight(store: Store, brogue: Run, tmp_path: Path) -> None:
    answered(store, "1-a@1", "1-b@1", "1-c@1", "1-d@1")
    store.judge(Rating(rater="ann", response="1-a@1", thumb="up"))
    store.judge(Rating(rater="ann", response="1-b@1", thumb="down"))
    store.judge(Rating(rater="ann", response="1-c@1", thumb="up"))
    store.judge(Rating(rater="bob", response="1-c@1", thumb="down"))
    store.judge(Correction(rater="eve", response="1-d@1", text="It comes today."))
    store.judge(Comparison(rater="bob", shown=("1-a@1", "1-b@1"), verdict="first"))
    store.judge(Comparison(rater="bob", shown=("1-a@1", "1-c@1"), verdict="tie"))
    store.judge(Ranking(rater="bob", shown=("1-a@1", "1-b@1", "1-c@1", "1-d@1"), ranks=(2, 0, 1, 1)))
    assert exported(brogue, tmp_path, "sft") == [
        {"messages": [MESSAGE, *said("Text 1-a@1.")], "weight": 1.0},
        {"messages": [MESSAGE, *said("It comes today.")], "weight": 1.0},
    ]
    assert exported(brogue, tmp_path, "kto") == [
        {"prompt": [MESSAGE], "completion": said("Text 1-a@1."), "label": True, "weight": 1.0},
        {"prompt": [MESSAGE], "completion": said("Text 1-b@1."), "label": False, "weight": 1.0},
    ]
    dpo = exported(brogue, tmp_path, "dpo")
    assert dpo[0] == {
        "prompt": [MESSAGE],
        "chosen": said("It comes today."),
        "rejected": said("Text 1-d@1."),
        "weight": 1.0,
    }
    assert (dpo[1]["chosen"], dpo[1]["rejected"]) == (said("Text 1-a@1."), said("Text 1-b@1."))
    assert [one["weight"] for one in dpo[2:]] == [0.5] * 5, "six pairs less one tie, each 2/4 of a comparison"
    reward = exported(brogue, tmp_path, "reward")
    assert len(reward) == 7 and reward[1]["chosen"] == [MESSAGE, *said("Text 1-a@1.")] and "prompt" not in reward[0]
    (ranking,) = exported(brogue, tmp_path, "ranking")
    assert ranking["ranks"] == [2, 0, 1, 1] and ranking["weight"] == 1.0 and len(ranking["replies"]) == 4
    assert len(exported(brogue, tmp_path, "jsonl")) == 8
    done = brogue("feedback", "export", "--as", "dpo", "--to", str(tmp_path / "again.parquet"), "--json")
    report = json.loads(done.stdout)
    assert report["lines"] == 7 and report["skipped"] == {"neither answer is better": 1}
    from pyarrow.parquet import read_table

    assert read_table(tmp_path / "again.parquet").column("weight").to_pylist() == [one["weight"] for one in dpo]


def test_a_ranking_that_was_exported_is_imported_again(store: Store, brogue: Run, tmp_path: Path) -> None:
    answered(store, "1-a@1", "1-b@1", "1-c@1")
    store.judge(Ranking(rater="bob", shown=("1-a@1", "1-b@1", "1-c@1"), ranks=(2, 0, 1)))
    exported(brogue, tmp_path, "ranking")
    done = brogue("data", "import", str(tmp_path / "ranking.jsonl"), "--into", "ranked", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "ranking"


def test_a_bad_rater_is_flagged_weighs_nothing_and_gives_no_rows(store: Store, brogue: Run, tmp_path: Path) -> None:
    for question in range(30):
        shown = (f"{question}-a@1", f"{question}-b@1")
        answered(store, *shown, asked=f"Question {question}?")
        for rater in ("ann", "bob", "eve", "lefty"):
            mixed = shown if (question + len(rater)) % 2 else shown[::-1]
            better = "a@1" if question % 5 else "b@1"
            verdict: Any = "first" if rater == "lefty" or mixed[0].endswith(better) else "second"
            store.judge(Comparison(rater=rater, shown=mixed, verdict=verdict, seconds=30))
    report = json.loads(brogue("feedback", "agreement", "--json").stdout)
    raters = {one["rater"]: one for one in report["raters"]}
    assert "always the same side" in raters["lefty"]["flags"] and raters["lefty"]["weight"] == 0
    assert raters["ann"]["flags"] == [] and raters["ann"]["weight"] == 1 and raters["ann"]["others"] < 1
    assert set(report["assistants"]) == {"shop"}
    told = brogue("feedback", "agreement").stdout
    assert "ALPHA" in told and "always the same side" in told and "the answer shown first wins" in told
    done = brogue("feedback", "leaderboard", "--plot", str(tmp_path / "board.svg"))
    assert done.returncode == 0 and "weighted down: lefty 0.00" in done.stderr
    assert "a@1" in (tmp_path / "board.svg").read_text(encoding="utf-8")
    board = json.loads(brogue("feedback", "leaderboard", "--json").stdout)
    assert board["standings"][0]["version"] == "a@1" and board["matches"] == 90
    assert board["raters_below_1"] == {"lefty": 0.0}
    assert json.loads(brogue("feedback", "leaderboard", "--unweighted", "--json").stdout)["matches"] == 120
    assert len(json.loads(brogue("feedback", "leaderboard", "--style", "--json").stdout)["style"]) == 3
    assert len(exported(brogue, tmp_path, "dpo")) == 90
    assert len(exported(brogue, tmp_path, "dpo", "--unweighted")) == 120


def test_a_leaderboard_for_each_topic_or_assistant(store: Store, brogue: Run, tmp_path: Path) -> None:
    """What is better for returns is worse for parcels; one comparison is between two assistants."""
    for question in range(24):
        topic = ("returns", "parcels", None)[question % 3]
        for version in ("a@1", "b@1"):
            store.add_response(Response(id=f"{question}-{version}", version=version, assistant="shop", topic=topic,
                                        text=f"Text {version}.", messages=(MESSAGE,)))  # fmt: skip
        verdict: Any = "second" if topic == "parcels" else "first"
        store.judge(Comparison(rater="ann", shown=(f"{question}-a@1", f"{question}-b@1"), verdict=verdict))
    store.add_response(Response(id="other", version="b@1", assistant="help", topic="one answer", messages=(MESSAGE,)))
    store.judge(Comparison(rater="ann", shown=("0-a@1", "other"), verdict="first"))
    done = brogue("feedback", "leaderboard", "--by", "topic", "--plot", str(tmp_path / "board.svg"))
    assert done.returncode == 0 and "1 judgements are of answers of more than one topic" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "  1  " in line] == ["(none)", "parcels", "returns"]
    drawn = (tmp_path / "board.svg").read_text(encoding="utf-8")
    assert "returns: 8 matches" in drawn and "(none): 8 matches" in drawn
    board = json.loads(brogue("feedback", "leaderboard", "--by", "topic", "--json").stdout)
    best = {name: part["standings"][0]["version"] for name, part in board["groups"].items()}
    assert best == {"(none)": "a@1", "returns": "a@1", "parcels": "b@1"}
    assert (board["matches"], board["by"], board["in_no_group"]) == (25, "topic", 1)
    board = json.loads(brogue("feedback", "leaderboard", "--by", "assistant", "--json").stdout)
    assert list(board["groups"]) == ["shop"] and board["in_no_group"] == 1
    done = brogue("feedback", "leaderboard", "--by", "rater")
    assert done.returncode == 1 and "--by wants one of topic, assistant; found 'rater'" in done.stderr


def test_the_answers_of_a_long_export_are_read_in_parts(store: Store, brogue: Run, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Answers that are judged again later come back after others have taken their place in memory."""
    monkeypatch.setattr("data.ahead.AT_ONCE", 5)
    monkeypatch.setattr("data.ahead.HELD", 7)
    ids = [f"{question}-{version}@1" for question in range(6) for version in "ab"]
    for question in range(6):
        answered(store, f"{question}-a@1", f"{question}-b@1", asked=f"Question {question}?")
    for turn in range(4):
        for question in range(6):
            shown = (ids[2 * question], ids[2 * question + 1])
            store.judge(Comparison(rater=f"rater{turn}", shown=shown, verdict="first"))
    assert len(exported(brogue, tmp_path, "dpo", "--unweighted")) == 24


@pytest.mark.data
def test_open_assistants_trees_give_as_many_dpo_pairs_as_counted_by_hand(
    brogue: Run, home: Home, tmp_path: Path, public_data: Path
) -> None:
    """The first three trees: turns with 3; 2, 2, 2; 3, 2, 2 ranked answers (one answer of the last is unranked)."""
    lines = (public_data / "oasst_ranked_trees" / "en_trees_part1.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    (tmp_path / "trees.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = brogue("data", "import", str(tmp_path / "trees.jsonl"), "--into", "trees", "--as", "ranking")
    assert done.returncode == 0, done.stderr
    done = brogue("data", "export", "trees", "--to", str(tmp_path / "pairs.jsonl"), "--format", "trl-dpo", "--json")
    assert json.loads(done.stdout)["lines"] == 3 + (1 + 1 + 1) + (3 + 1 + 1)
    rankings = [row.record for row in iter_rows(home, "trees")]
    assert all(isinstance(record, RankingRecord) for record in rankings)
    assert sorted(len(record.ranks) for record in rankings if isinstance(record, RankingRecord)) == [2] * 5 + [3, 3]
    weights = [json.loads(line)["weight"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert sum(weights) == pytest.approx(2 + 5 + 2), "a ranking of k answers weighs as much as k - 1 comparisons"
