"""A dataset grows by a model's rewordings: which of them stay, and that a stopped expansion goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from data.dataset import Row, load_card, load_rows, save_dataset
from data.home import Home, write_text
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    Split,
    question,
    record_id,
)
from data.variations import INSTRUCTION, Question, Variation, choose, fault, tidy
from tests.conftest import Run
from tests.scripted_gateway import served, wait_until


class Rewriter:
    """A gateway whose base model answers a question as `script` says, else with the question and "please" before it."""

    def __init__(self) -> None:
        self.script: dict[str, list[str]] = {}
        self.bodies: list[dict[str, Any]] = []
        self.go_on = threading.Event()  # while it is not set, questions after the first `free` are not answered
        self.free = 1000
        self.at_once = self.most_at_once = 0
        self.status: dict[str, int] = {}  # question → an error's status

    def build_app(self) -> FastAPI:
        app = FastAPI()
        lock = threading.Lock()

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"data": [{"id": "reed", "kind": "assistant"}, {"id": "small-1b", "kind": "base model"}]}

        @app.post("/v1/chat/completions")
        def chat(body: dict[str, Any], _request: Request) -> Any:
            with lock:
                self.bodies.append(body)
                number = len(self.bodies)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            if number > self.free:
                self.go_on.wait(30)
            time.sleep(0.02)
            with lock:
                self.at_once -= 1
            asked = body["messages"][-1]["content"].removeprefix(f"{INSTRUCTION}\n\nMessage: ")
            if asked in self.status:
                return JSONResponse({"error": {"message": "not this one"}}, self.status[asked])
            texts = self.script.get(asked, [f"Could you please tell me: {asked}"])
            return {"choices": [{"message": {"content": t}, "finish_reason": "stop"} for t in texts[: body["n"]]]}

        return app


@pytest.fixture
def rewriter(home: Home) -> Iterator[Rewriter]:
    made = Rewriter()
    with served(made.build_app()) as url:
        write_text(home.settings_file, f"[gateway]\nport = {url.rpartition(':')[2]}\n")
        yield made
        made.go_on.set()


TEXTS = (
    "where is my parcel with the red boots",
    "can I pay by invoice next month",
    "which colours has the green lamp",
    "how do I close my account for good",
    "what does express delivery cost abroad",
    "may I swap shoes for a bag",
)


def labelled(text: str, label: str) -> AnyRecord:
    return LabelledRecord(text=text, label=label)


def store(home: Home, records: list[AnyRecord], splits: dict[str, Split] | None = None, name: str = "small") -> None:
    rows = [Row(id=record_id(r), split=(splits or {}).get(question(r), "train"), record=r) for r in records]
    save_dataset(home, name, rows, "file.csv", "00", {}, (80, 10, 10))


def added(home: Home, name: str = "large") -> dict[str, list[str]]:
    """The rewordings in a dataset, by the question that each was made of."""
    rows = load_rows(home, name)
    by_id = {row.id: question(row.record) for row in rows}
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.synthetic_of:
            assert row.split == "train"
            found.setdefault(by_id[row.synthetic_of], []).append(question(row.record))
    return found


def test_rewordings_are_added_to_train_and_marked_and_keep_their_label(
    brogue: Run, home: Home, rewriter: Rewriter
) -> None:
    splits: dict[str, Split] = {TEXTS[4]: "validation", TEXTS[5]: "test"}
    store(home, [labelled(text, f"label {n}") for n, text in enumerate(TEXTS)], splits)
    done = brogue("data", "expand", "small", "--into", "large")
    assert done.returncode == 0, done.stderr
    assert "large: 4 rewordings by small-1b of 4 questions added" in done.stdout
    assert set(added(home)) == set(TEXTS[:4]), "nothing of validation and test was reworded"
    for row in load_rows(home, "large"):
        assert isinstance(row.record, LabelledRecord) and row.id == record_id(row.record)
        assert row.record.label == f"label {next(n for n, t in enumerate(TEXTS) if t in question(row.record))}"
    before, after = load_rows(home, "small"), load_rows(home, "large")
    assert after[: len(before)] == before
    [step] = load_card(home, "large").steps
    assert step.options["model"] == "small-1b"
    assert step.counts == {"asked": 4, "kept": 4}
    assert {body["model"] for body in rewriter.bodies} == {"small-1b"}
    assert not list(home.runs.glob("*")), "the answers are not kept longer than needed"


@pytest.mark.usefixtures("rewriter")
def test_the_answer_stays_word_for_word_whatever_the_kind(brogue: Run, home: Home) -> None:
    asked = [Message(role="system", content="Be brief."), Message(role="user", content=TEXTS[0])]
    rest = [Message(role="assistant", content="Which?"), Message(role="user", content="the red")]
    last = Message(role="assistant", content=" On its way.\n")
    kinds: list[AnyRecord] = [
        ChatRecord(messages=(*asked, *rest, last)),
        InstructionRecord(prompt=TEXTS[0], response=" On its way.\n", system="Be brief."),
        PreferenceRecord(messages=(*asked,), chosen="good", rejected="bad"),
    ]
    for record in kinds:
        store(home, [record], name=record.kind)
        assert brogue("data", "expand", record.kind, "--into", f"{record.kind}-2").returncode == 0
        old, new = load_rows(home, f"{record.kind}-2")
        text = question(new.record)
        assert text == f"Could you please tell me: {TEXTS[0]}"
        assert new.record.model_dump_json() == old.record.model_dump_json().replace(TEXTS[0], text)


def test_a_rewording_belongs_to_whom_its_source_belongs(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    record = labelled(TEXTS[0], "a")
    row = Row(id=record_id(record), split="train", record=record, subject="ann", group="acme", response_ids=("r1",))
    save_dataset(home, "small", [row], "file.csv", "00", {}, (80, 10, 10))
    assert brogue("data", "expand", "small", "--into", "large").returncode == 0
    new = load_rows(home, "large")[1]
    assert (new.subject, new.group, new.response_ids, new.synthetic_of) == ("ann", "acme", ("r1",), row.id)
    assert rewriter.bodies[0]["user"] == "ann", "what the gateway writes down can be forgotten with her"


def test_what_all_but_repeats_a_question_of_any_split_is_refused(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    store(home, [labelled(t, "a") for t in TEXTS[:3]], {TEXTS[1]: "test", TEXTS[2]: "validation"})
    rewriter.script[TEXTS[0]] = [
        "Where is my parcel, with the red boots?",  # itself
        "with the red boots, where is my parcel",
        "where is my packet with the red boots",  # one word changed
        "where are my red boots and the parcel",
    ]
    done = brogue("data", "expand", "small", "--into", "large")
    assert added(home) == {TEXTS[0]: ["where are my red boots and the parcel"]}
    assert "refused 3: near duplicate" in done.stderr


def test_a_rewording_that_stands_in_test_is_refused_there_too(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    leak = "where did my parcel of red boots go"
    store(home, [labelled(TEXTS[0], "a"), labelled(leak, "a")], {leak: "test"})
    rewriter.script[TEXTS[0]] = ["Where did my red boots' parcel go?", "Where did my parcel of red boots go?"]
    done = brogue("data", "expand", "small", "--into", "large")
    assert done.returncode == 1
    assert "none of the rewordings by 'small-1b' can be used (2 near duplicate); nothing was written" in done.stderr
    assert len(done.stderr.splitlines()[-1:]) == 1
    assert not (home.datasets / "large").exists()


QUESTION = "Where is order 12345 of Mr Jones, please?"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("Here is the rewritten message: where is it", "talks about the task"),
        ("I'm sorry, I cannot find order 12345 of Mr Jones?", "talks about the task"),
        ("Is it possible to be billed instead of paying right away?", "repeats an example"),
        ("12345?", "of another length"),
        ("Where is order 12345 of Mr Jones " + "and where is it " * 8 + "?", "of another length"),
        ("Where is order 54321 of Mr Jones now?", "other figures or names"),
        ("Where is order 12345 of my husband?", "other figures or names"),
        ("The order 12345 of Mr Jones is lost.", "no longer a question"),
        ("Wo befindet sich denn gerade die Bestellung 12345 von Mr Jones, bitte?", "another language"),
        ("Where is or\ufffdder 12345 of Mr Jones?", "broken characters"),
        ("Do you know where order 12345 of Mr Jones is?", None),
    ],
)
def test_a_rewording_is_refused_for_what_can_be_seen_of_it(text: str, why: str | None) -> None:
    assert fault(text, QUESTION, cut_off=False) == why
    if why is None:
        assert fault(text, QUESTION, cut_off=True) == "cut off"


@pytest.mark.parametrize(
    ("text", "question_", "tidied"),
    [
        ('"Where is it?"', "where?", "Where is it?"),
        ("“Where is it?”\n\nThis keeps the meaning.", "where?", "Where is it?"),
        ("Sure, here it is:\n\nWhere is it?", "where?", "Where is it?"),
        ("In other words: where is it?", "where?", "where is it?"),
        ("first\nsecond", "one\ntwo", "first\nsecond"),
        ('"A" or "B"', '"B" or "A"', '"A" or "B"'),
    ],
)
def test_what_models_put_around_a_rewording_is_taken_off(text: str, question_: str, tidied: str) -> None:
    assert tidy(text, question_) == tidied


def test_a_rewording_that_strays_to_other_words_or_another_label_is_refused() -> None:
    questions = [
        Question("how do I top up by card", "top up"),
        Question("which fee do you take for a transfer abroad", "fee"),
    ]
    texts = ("Is there a way to top my card up?", "Which fee is taken for a top up abroad?", "It rained all of the day")
    found = choose(questions, [Variation(0, text) for text in texts], 3, likeness=0.3)
    assert [v.fault for v in found] == [None, "strays from its question", "strays from its question"]
    assert [v.fault for v in choose(questions, [Variation(0, texts[0])], 3, likeness=0.99)] == [
        "strays from its question"
    ]


def test_no_more_are_kept_than_wanted_and_several_requests_are_on_their_way(
    brogue: Run, home: Home, rewriter: Rewriter
) -> None:
    texts = [f"{text} number {n}" for n, text in enumerate(TEXTS * 4)]
    store(home, [labelled(text, "a") for text in texts])
    rewriter.script[texts[0]] = [f"{word} my parcel of red boots with number 0 is where?" for word in
                                 ("Hello there good people,", "Dear madam or sir,", "I do wonder now:")]  # fmt: skip
    done = brogue("data", "expand", "small", "--into", "large", "--per-record", "2", "--json")
    counts = json.loads(done.stdout)["steps"][-1]["counts"]
    assert counts["more than wanted"] == 1
    assert max(Counter(r.synthetic_of for r in load_rows(home, "large") if r.synthetic_of).values()) == 2
    assert {body["n"] for body in rewriter.bodies} == {4}
    assert rewriter.most_at_once > 1


@pytest.mark.slow
def test_a_killed_expansion_goes_on_where_it_was(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    texts = [f"{text} number {n}" for n, text in enumerate(TEXTS * 4)]
    store(home, [labelled(text, "a") for text in texts])
    rewriter.free = 10
    words = (sys.executable, "-m", "assistant.cli", "data", "expand", "small", "--into", "large")
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(rewriter.bodies) == 18, "ten answers and eight requests on their way")
    [path] = home.runs.glob("expand-small-*/answers.jsonl")
    wait_until(lambda: path.read_text().count("\n") == 10, "ten answers on disk")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    path.write_text(path.read_text()[:-20])  # the kill came while the last line was being written
    assert not (home.datasets / "large").exists()
    rewriter.go_on.set()
    rewriter.bodies.clear()
    done = brogue("data", "expand", "small", "--into", "large")
    assert done.returncode == 0, done.stderr
    assert "9 questions were asked before" in done.stderr
    assert len(rewriter.bodies) == 24 - 9
    assert load_card(home, "large").steps[-1].counts["asked"] == 24
    assert added(home)
    assert not list(home.runs.glob("expand-*"))


@pytest.mark.slow
def test_ctrl_c_is_said_with_what_is_kept(home: Home, rewriter: Rewriter) -> None:
    store(home, [labelled(f"{text} number {n}", "a") for n, text in enumerate(TEXTS * 4)])
    rewriter.free = 2
    words = (sys.executable, "-m", "assistant.cli", "data", "expand", "small", "--into", "large")
    stopped = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(rewriter.bodies) == 10, "two answers and eight requests on their way")
    stopped.send_signal(signal.SIGINT)
    assert stopped.stderr is not None
    for line in stopped.stderr:  # a busy machine may be slow to take the signal
        if line.startswith("stopping;"):
            break
    rewriter.go_on.set()
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    kept = re.search(r"(\d+) of 24 questions are answered and kept; the same command goes on", said)
    assert kept, said
    assert 10 <= int(kept[1]) == len(rewriter.bodies) <= 24
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_at_once_are_told_apart(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    store(home, [labelled(text, "a") for text in TEXTS])
    rewriter.free = 2
    words = (sys.executable, "-m", "assistant.cli", "data", "expand", "small", "--into", "large")
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(rewriter.bodies) == 6, "the first one's requests")
    assert "'small' is being expanded by another process" in brogue("data", "expand", "small", "--into", "b").stderr
    rewriter.go_on.set()
    assert first.wait(60) == 0


def test_a_question_that_the_engine_refuses_costs_only_its_own_rewordings(
    brogue: Run, home: Home, rewriter: Rewriter
) -> None:
    store(home, [labelled(text, "a") for text in TEXTS])
    rewriter.status[TEXTS[0]] = 400
    assert brogue("data", "expand", "small", "--into", "large").returncode == 0
    assert set(added(home)) == set(TEXTS[1:])
    rewriter.status[TEXTS[1]] = 503
    done = brogue("data", "expand", "small", "--into", "again")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "brogue: not this one"
    assert not (home.datasets / "again").exists()


def test_a_preview_shows_what_would_stay_and_why_the_rest_goes(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    store(home, [labelled(text, "a") for text in TEXTS])
    for text in TEXTS:
        rewriter.script[text] = [f"Tell me please: {text}", "Nothing of that"]
    done = brogue("data", "expand", "small", "--preview", "2")
    assert done.stdout.count("+ Tell me please: ") == 2
    assert done.stdout.count("- Nothing of that  (strays from its question)") == 2
    assert "2 of 4 rewordings would be added; nothing was written" in done.stdout
    assert [card.name for card in home.datasets.iterdir()] == ["small"]
    assert not home.runs.exists()
    assert json.loads(brogue("data", "expand", "small", "--preview", "2", "--json").stdout)["counts"]["kept"] == 2


@pytest.mark.usefixtures("rewriter")
def test_only_so_many_questions_are_a_sample_that_more_of_them_continue(brogue: Run, home: Home) -> None:
    store(home, [labelled(text, "a") for text in TEXTS])
    few, more = set[str](), set[str]()
    for number, found in ((2, few), (4, more)):
        assert brogue("data", "expand", "small", "--into", f"l{number}", "--only", str(number)).returncode == 0
        found |= set(added(home, f"l{number}"))
    assert (len(few), len(more)) == (2, 4)
    assert few < more


def test_rewordings_are_not_reworded_again(brogue: Run, home: Home, rewriter: Rewriter) -> None:
    store(home, [labelled(text, "a") for text in TEXTS[:2]])
    assert brogue("data", "expand", "small", "--into", "large").returncode == 0
    rewriter.bodies.clear()
    rewriter.script |= {text: [f"Would you say {text}, thank you"] for text in TEXTS[:2]}
    assert brogue("data", "expand", "large", "--into", "larger").returncode == 0
    assert len(rewriter.bodies) == 2
    assert {len(found) for found in added(home, "larger").values()} == {2}


@pytest.mark.usefixtures("rewriter")
def test_mistakes_are_answered_in_one_line(brogue: Run, home: Home) -> None:
    store(home, [labelled(text, "a") for text in TEXTS])
    store(home, [LabelledRecord(tokens=("In", "York"), tags=("O", "B"))], name="tagged")
    store(home, [InstructionRecord(prompt="word " * 200, response="b")], name="long")
    store(home, [labelled(TEXTS[0], "a")], {TEXTS[0]: "test"}, name="exam")
    for words, line in (
        (("small",), "wanted --into NEW for the grown dataset, or --preview 5"),
        (("none", "--into", "x"), "no dataset 'none'; have: exam, long, small, tagged"),
        (("small", "--into", "small"), "dataset 'small' exists already"),
        (("small", "--into", "No Name"), "'No Name' cannot name a dataset"),
        (("small", "--into", "x", "--with", "big"), "no model 'big'; have: reed, small-1b. See: brogue status"),
        (("tagged", "--into", "x"), "'tagged' holds tokens and their tags, which a reworded sentence would not fit"),
        (("long", "--into", "x"), "'long' has no question of up to 150 words in its train split"),
        (("exam", "--into", "x"), "'exam' has no question of up to 150 words in its train split"),
    ):
        done = brogue("data", "expand", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert done.stderr.startswith(f"brogue: {line}"), done.stderr
    write_text(home.settings_file, "[gateway]\nport = 9\n")
    assert "cannot reach the gateway" in brogue("data", "expand", "small", "--into", "x").stderr


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_base_model_writes_rewordings_that_can_be_used(brogue: Run, up_home: Home) -> None:
    """How many is printed: it says more of the model than of us."""
    done = brogue("data", "expand", "reed-voice", "--preview", "30", "--json", home=up_home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(json.dumps(found["counts"]))
    for variation in found["variations"]:
        if variation["fault"] is None:
            print(f"{variation['question']}  →  {variation['text']}")
    assert found["counts"]["asked"] == 30
    assert found["counts"]["kept"] > 0
    words = ("data", "expand", "reed-voice", "--into", "grown-by-test", "--only", "30", "--replace")
    done = brogue(*words, home=up_home)
    assert done.returncode == 0, done.stderr
    grown, source = (sum(load_card(up_home, name).records.values()) for name in ("grown-by-test", "reed-voice"))
    assert grown > source
