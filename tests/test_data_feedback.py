"""`brogue data collect`: what people said of answers becomes a dataset; `brogue data trace`: an answer's way back."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import Registry
from data.dataset import Row, iter_rows, load_card, save_dataset
from data.home import Home, write_json
from data.judgements import Comparison, Correction, PassageRef, Ranking, Rating, Response
from data.records import (
    ChatRecord,
    InstructionRecord,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
    record_id,
)
from data.store import Store
from data.store_home import open_store
from tests.conftest import Run
from tests.fakes import add_version
from tests.inside import brogue_inside


@pytest.fixture
def brogue() -> Run:
    """Runs `brogue` with the given words."""
    return brogue_inside


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    yield opened
    opened.close()


def answered(store: Store, id: str, text: str, asked: str = "Where is my parcel?", **more: Any) -> None:
    given: dict[str, Any] = {"version": "voice@1", "assistant": "shop", "subject": "ann", "conversation": "c1"}
    messages = more.pop("messages", ({"role": "user", "content": asked},))
    store.add_response(Response(id=id, text=text, messages=messages, **given | more))


def collected(brogue: Run, home: Home, kind: str, *more: str) -> list[Row]:
    done = brogue("data", "collect", "--as", kind, "--into", kind, "--replace", *more)
    assert done.returncode == 0, done.stderr
    return list(iter_rows(home, kind))


def test_thumbs_up_and_corrections_become_conversations(store: Store, home: Home, brogue: Run) -> None:
    answered(store, "r1", "It is on its way.")
    answered(store, "r2", "No idea.", subject="bob", conversation=None)
    answered(store, "r3", "Go away.")
    said = (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Where is it?"))
    turns = tuple({"role": role, "content": text} for role, text in said)
    answered(store, "r4", "In Leeds.", messages=turns)
    for rater, response, thumb in (
        ("ann", "r1", "up"),
        ("bob", "r3", "up"),
        ("eve", "r3", "down"),
        ("ann", "r4", "up"),
    ):
        store.judge(Rating(rater=rater, response=response, thumb=thumb))
    store.judge(Correction(rater="eve", response="r2", text="It leaves on Monday."))
    store.judge(Correction(rater="eve", response="r2", text="It leaves on Tuesday."))
    rows = collected(brogue, home, "chat")
    assert [r.response_ids for r in rows] == [("r1",), ("r4",), ("r2",)]
    assert [(r.subject, r.group) for r in rows] == [("ann", "c1"), ("ann", "c1"), ("bob", None)]
    answers = [r.record.messages[-1].content for r in rows if isinstance(r.record, ChatRecord)]
    assert answers == ["It is on its way.", "In Leeds.", "It leaves on Tuesday."], "the latest correction is learnt"
    done = brogue("data", "collect", "--as", "instruction", "--into", "one-turn")
    assert "more than one question" in done.stderr
    first = next(iter_rows(home, "one-turn")).record
    assert isinstance(first, InstructionRecord) and (first.prompt, first.system) == ("Where is my parcel?", None)


def test_the_same_judgements_give_the_same_digest(store: Store, home: Home, brogue: Run) -> None:
    answered(store, "r1", "It is on its way.")
    store.judge(Rating(rater="ann", response="r1", thumb="up"))
    cards = []
    for _ in range(2):
        collected(brogue, home, "chat")
        cards.append(load_card(home, "chat"))
    assert cards[0].digest == cards[1].digest and cards[0].source_sha256 == cards[1].source_sha256
    assert cards[0].steps[0].counts == {"kept": 1} and cards[0].steps[0].options["as"] == "chat"


def test_comparisons_and_corrections_become_preferences(store: Store, home: Home, brogue: Run) -> None:
    for id, text, asked in (("r1", "one", "Q"), ("r2", "two", "Q"), ("r3", "three", "another")):
        answered(store, id, text, asked)
    store.judge(Comparison(rater="eve", shown=("r1", "r2"), verdict="second"))
    store.judge(Comparison(rater="bob", shown=("r1", "r2"), verdict="tie"))
    store.judge(Comparison(rater="bob", shown=("r2", "r1"), verdict="both-bad"))
    store.judge(Comparison(rater="bob", shown=("r1", "r3"), verdict="first"))
    store.judge(Correction(rater="eve", response="r3", text="four"))
    store.judge(Correction(rater="eve", response="r1", text=" one "))
    rows = collected(brogue, home, "preference")
    found = [(r.record.chosen, r.record.rejected, r.record.tie) for r in rows if isinstance(r.record, PreferenceRecord)]
    assert found == [("two", "one", False), ("one", "two", True), ("four", "three", False)]
    assert rows[0].response_ids == ("r2", "r1")
    counts = load_card(home, "preference").steps[0].counts
    assert counts["skipped: both answers were bad"] == 1
    assert counts["skipped: the answers are to different questions"] == 1
    assert counts["skipped: the correction changes nothing"] == 1


def test_rankings_become_rankings(store: Store, home: Home, brogue: Run) -> None:
    for id in ("r1", "r2", "r3"):
        answered(store, id, f"answer {id}")
    store.judge(Ranking(rater="eve", shown=("r1", "r2", "r3"), ranks=(1, 0, 1)))
    (row,) = collected(brogue, home, "ranking")
    assert isinstance(row.record, RankingRecord)
    assert (row.record.replies, row.record.ranks) == (("answer r1", "answer r2", "answer r3"), (1, 0, 1))


def test_a_row_weighs_what_its_raters_do(store: Store, home: Home, brogue: Run, tmp_path: Path) -> None:
    """Joe says the opposite of the others of 30 questions; he has thumbs, too."""
    for n in range(30):
        for version in "ab":
            answered(store, f"{n}{version}", f"answer {n} {version}", f"Question {n}?", version=f"{version}@1")
        mixed = (f"{n}a", f"{n}b") if n % 2 else (f"{n}b", f"{n}a")
        better: Any = "first" if n % 5 else "second"
        worse: Any = "second" if n % 5 else "first"
        for rater in ("ann", "bob", "eve", "joe"):
            store.judge(Comparison(rater=rater, shown=mixed, verdict=worse if rater == "joe" else better))
    store.judge(Rating(rater="joe", response="0a", thumb="up"))
    store.judge(Rating(rater="ann", response="1a", thumb="up"))
    store.judge(Rating(rater="joe", response="1a", thumb="up"))
    rows = collected(brogue, home, "preference")
    assert len(rows) == 90 and {row.weight for row in rows} == {1.0}, "joe weighs nothing"
    assert load_card(home, "preference").steps[0].counts["skipped: the rater weighs nothing"] == 30
    assert len(collected(brogue, home, "preference", "--unweighted")) == 120
    done = brogue("data", "collect", "--as", "chat", "--into", "chat")
    assert "1 of them weigh less than 1" in done.stderr
    (row,) = iter_rows(home, "chat")
    assert (row.response_ids, row.weight) == (("1a",), 0.5), "half of it is ann's word"
    to = tmp_path / "out.jsonl"
    assert brogue("data", "export", "chat", "--to", str(to), "--format", "trl-sft").returncode == 0
    assert json.loads(to.read_text(encoding="utf-8"))["weight"] == 0.5
    weighted = load_card(home, "chat").digest
    assert len(collected(brogue, home, "chat", "--unweighted")) == 2 and load_card(home, "chat").digest != weighted


def test_thumbs_of_either_sort_become_rated_answers(store: Store, home: Home, brogue: Run) -> None:
    for id in ("r1", "r2", "r3"):
        answered(store, id, f"answer {id}")
    for rater, response, thumb in (
        ("ann", "r1", "up"),
        ("ann", "r2", "down"),
        ("ann", "r3", "up"),
        ("bob", "r3", "down"),
    ):
        store.judge(Rating(rater=rater, response=response, thumb=thumb))
    rows = collected(brogue, home, "rated")
    found = [
        (r.response_ids, r.record.good, r.record.messages[-1].content)
        for r in rows
        if isinstance(r.record, RatedRecord)
    ]
    assert found == [(("r1",), True, "answer r1"), (("r2",), False, "answer r2")]
    assert load_card(home, "rated").steps[0].counts["skipped: as many thumbs up as down"] == 1


def test_what_cannot_be_collected_gets_one_line(store: Store, home: Home, brogue: Run) -> None:
    def refusal(*words: str) -> str:
        done = brogue("data", "collect", *words, "--into", "x")
        assert done.returncode == 1 and "Traceback" not in done.stderr and not (home.datasets / "x").exists()
        return done.stderr

    assert "no thumbs up or corrections for chat records among 0 judgements" in refusal("--as", "chat")
    assert "--as wants one of chat" in refusal("--as", "labelled")
    assert "--since wants a day" in refusal("--as", "chat", "--since", "yesterday")
    answered(store, "r1", "one", messages=({"role": "user", "content": [{"type": "image_url"}]},))
    store.judge(Rating(rater="ann", response="r1", thumb="up"))
    assert "a message holds something else than text (1)" in refusal("--as", "chat")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert "among 0 judgements" in refusal("--as", "chat", "--since", tomorrow)
    assert "among 0 judgements" in refusal("--as", "chat", "--assistant", "other")


@pytest.fixture
def trained(store: Store, home: Home) -> Store:
    """A dataset, a version that was trained on it, and an answer of that version."""
    asked = ("Where is my parcel?", "How do I return shears?", "Do you ship to Spain?")
    records = [InstructionRecord(prompt=q, response=f"About {q}") for q in asked]
    rows = [Row(id=record_id(r), split="train", record=r) for r in records]
    rows[0] = rows[0].model_copy(update={"response_ids": ("old",)})
    card = save_dataset(home, "acme", rows, "a.csv", "0" * 64, {}, (80, 10, 10))
    made = add_version(home, "voice")
    path = Registry(home).folder("voice", 1) / "card.json"
    write_json(path, made.model_copy(update={"dataset": "acme", "dataset_digest": card.digest}).model_dump(mode="json"))
    answered(store, "r1", "Send the shears back within 30 days.", "Can I return shears?",
             passages=(PassageRef(id="p7", source="returns.md", text="30 days"),))  # fmt: skip
    return store


def trace(brogue: Run, response: str) -> Any:
    done = brogue("data", "trace", response, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_answer_is_traced_to_version_dataset_records_and_passages(trained: Store, home: Home, brogue: Run) -> None:
    found = trace(brogue, "r1")
    assert found["version"]["adapter"] == "voice"
    assert found["dataset"]["now"] == found["dataset"]["digest"] == load_card(home, "acme").digest
    assert found["records"][0]["question"] == "How do I return shears?"
    assert (found["records"][0]["how"], found["passages"][0]["source"]) == ("alike", "returns.md")
    shown = brogue("data", "trace", "r1").stdout
    assert "voice@1" in shown and "unchanged since" in shown and "returns.md (p7)" in shown
    trained.add_response(Response(id="old", version="base", conversation="c1"))
    assert [(r["how"], r["question"]) for r in trace(brogue, "r1")["records"]] == [
        ("made from this conversation", "Where is my parcel?")
    ]


def test_what_a_trace_cannot_tell_is_said(trained: Store, home: Home, brogue: Run) -> None:
    save_dataset(home, "acme", list(iter_rows(home, "acme"))[:1], "a.csv", "0" * 64, {}, (80, 10, 10), replace=True)
    found = trace(brogue, "r1")
    assert "has changed since the version was trained" in found["notes"][0]
    assert "no list of its records" in found["notes"][1]
    (home.datasets / "acme").rename(home.root / "moved")
    assert "is not here any more" in trace(brogue, "r1")["notes"][0]
    answered(trained, "r2", "x", version="base")
    answered(trained, "r3", "x", version="gone@4")
    assert "the base model wrote it" in trace(brogue, "r2")["notes"][0]
    assert "gone@4 is not here any more" in trace(brogue, "r3")["notes"][0]
    done = brogue("data", "trace", "nothing")
    assert done.returncode == 1 and "no response 'nothing' in the store" in done.stderr
