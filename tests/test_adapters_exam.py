"""`brogue exam` as a person meets it: over a real gateway with the fake engine, which says each version's name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from adapters import exam, exam_files, measures
from adapters.exam_asking import Gateway
from adapters.registry import Registry
from assistant.services import Child, Services
from data.dataset import make_rows, save_dataset
from data.home import Home, write_text
from data.records import InstructionRecord
from data.store_home import open_store
from tests.conftest import Run
from tests.exam_probe import NAME, WHERE
from tests.fakes import ADMIN_KEY, FakeEngine, add_version
from tests.feedback_gateway import feedback_gateway
from tests.tiny_models import tiny_llama

ITEMS = 30
WANTED = "reed-voice@2 reed-voice@2"


class Place(NamedTuple):
    """A home with reed-voice@1 (stable) and @2, a dataset whose test records want @2's words, and what answers."""

    home: Home
    engine: FakeEngine
    url: str

    def asked(self, model: str) -> int:
        """How many questions a model's engine got."""
        return sum(body["model"].startswith(model) for body in self.engine.bodies)

    def kept(self, name: str) -> Path:
        """The file of what a version said."""
        [path] = (self.home.root / "exams" / "kept").glob(f"{name}*.jsonl")
        return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model called 'base', as the fake engine has it."""
    folder = tmp_path_factory.mktemp("model")
    return tiny_llama(folder).rename(folder / "base")


@pytest.fixture
def furnished(home: Home, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with versions, a dataset and a suite, in which nothing runs."""
    for _ in range(2):
        add_version(home, "reed-voice")
    _furnish(home, tiny, monkeypatch)
    return home


def _furnish(home: Home, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(home.settings_file, f'base_model = "{tiny}"\n')
    records = [InstructionRecord(prompt=f"Question {n}?", response=WANTED) for n in range(ITEMS)]
    save_dataset(home, "answers", make_rows(records, (0, 0, 100)), "answers.jsonl", "0", {}, (0, 0, 100))
    write_text(home.root / "suites" / "small.yaml", f"parts: [{{measure: {NAME}, data: answers}}]\n")
    monkeypatch.setitem(measures.MEASURES, NAME, WHERE)


def _running(home: Home, url: str) -> None:
    """So that the commands find a gateway."""
    mine = Child.of(os.getpid())
    assert mine is not None
    Services(supervisor=mine, gateway_url=url, page_url=url, base_model="base").save(home)


@pytest.fixture
def place(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    engine = FakeEngine()
    with feedback_gateway(tmp_path, engine=engine) as (url, home, key):
        _furnish(home, tiny, monkeypatch)
        _running(home, url)
        monkeypatch.setenv("BROGUE_ADMIN_KEY", key)
        yield Place(home, engine, url)


def test_a_version_its_predecessor_and_the_base_answer_the_same_prompts(place: Place, brogue: Run) -> None:
    done = brogue("exam", "reed-voice@2", "--suite", "small", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["names"] == {"version": "reed-voice@2", "against": "reed-voice@1", "base": "base"}
    [figure] = found["measures"]
    assert (figure["name"], figure["n"]) == ("probe.right", ITEMS)
    assert {arm: one["value"] for arm, one in figure["arms"].items()} == {"version": 1, "against": 0, "base": 0}
    assert figure["over"]["against"]["low"] > 0.8
    assert [one["answers"]["against"] for one in found["better"]] == ["reed-voice@1 reed-voice@1"] * 10
    assert found["worse"] == []
    assert place.asked("reed-voice@1") == place.asked("reed-voice@2") == place.asked("base") == ITEMS
    prompts = {json.dumps(body["messages"]) for body in place.engine.bodies}
    assert len(prompts) == ITEMS, "every arm sees the same, the base too: the version's own system prompt"
    assert all(body["temperature"] == 0 for body in place.engine.bodies)


def test_an_exam_leaves_figures_a_report_and_a_verdict(place: Place, brogue: Run) -> None:
    done = brogue("exam", "reed-voice@2", "--suite", "small")
    assert done.returncode == 0, done.stderr
    assert "reed-voice@2 against reed-voice@1" in " ".join(done.stdout.split())
    [id] = exam_files.ids(place.home)
    assert exam_files.report_path(place.home, id).is_file()
    verdict = Registry(place.home).verdict("reed-voice", 2)
    assert verdict is not None
    assert verdict.exam == id
    listed = json.loads(brogue("exams", "list", "--json").stdout)
    assert [one["id"] for one in listed] == [id]
    assert brogue("exams", "show", id).stdout == done.stdout


def test_nothing_of_an_exam_is_taken_for_what_people_asked(place: Place, brogue: Run) -> None:
    with httpx.Client(base_url=place.url, headers={"x-brogue-exam": "reed-voice@2"}) as client:
        body = {"model": "base", "messages": [{"role": "user", "content": "Hello?"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 401, "only with the admin key"
        client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        reply = client.post("/v1/chat/completions", json=body | {"model": "reed"})
        assert reply.headers["x-brogue-version"] == "reed-voice@2", "an assistant by the version that is examined"
        client.headers["x-brogue-exam"] = "base"
        reply = client.post("/v1/chat/completions", json=body | {"model": "reed"})
        assert reply.json()["choices"][0]["message"]["content"] == "base base"
        del client.headers["x-brogue-exam"]
        by_people = client.post("/v1/chat/completions", json=body).headers["x-brogue-response-id"]
        assert brogue("exam", "reed-voice@2", "--suite", "small").returncode == 0
        counted = {one["version"]: one["answers"] for one in client.get("/v1/adapters/reed-voice").json()["versions"]}
        assert counted == {1: 0, 2: 0}
        client.post("/v1/feedback/ratings", json={"response_id": by_people, "rating": 1})  # waits for the store
    store = open_store(place.home)
    assert [response.id for response in store.responses()] == [by_people]
    store.close()


def test_the_same_exam_is_read_and_measured_again_without_asking_again(place: Place, brogue: Run) -> None:
    first = brogue("exam", "reed-voice@2", "--suite", "small", "--json")
    asked = len(place.engine.bodies)
    again = brogue("exam", "reed-voice@2", "--suite", "small", "--json")
    anew = brogue("exam", "reed-voice@2", "--suite", "small", "--json", "--again")
    assert len(place.engine.bodies) == asked
    assert json.loads(first.stdout)["created"] == json.loads(again.stdout)["created"]
    assert json.loads(first.stdout)["measures"] == json.loads(anew.stdout)["measures"]
    assert brogue("exam", "reed-voice@1", "--against", "reed-voice@2", "--suite", "small").returncode == 0
    assert len(place.engine.bodies) == asked, "what a version said is kept for every exam that it takes part in"


def test_after_a_kill_only_what_is_missing_is_asked(place: Place, brogue: Run) -> None:
    def stop(text: str) -> None:
        if "answers 15/" in text:
            raise KeyboardInterrupt

    asked = exam.plan(place.home, "reed-voice@2", suite="small")
    with pytest.raises(KeyboardInterrupt):
        exam.run_exam(place.home, asked, Gateway(place.url, ADMIN_KEY, at_once=1), stop)
    assert exam_files.ids(place.home) == []
    kept = place.kept("reed-voice@2")
    kept.write_bytes(kept.read_bytes()[:-20])  # the last of 15 lines is torn
    place.engine.bodies.clear()
    done = brogue("exam", "reed-voice@2", "--suite", "small", "--json")
    assert done.returncode == 0, done.stderr
    assert place.asked("reed-voice@2") == ITEMS - 14
    assert json.loads(done.stdout)["measures"][0]["arms"]["version"]["value"] == 1


def test_the_stable_version_is_compared_with_the_one_before_it(furnished: Home) -> None:
    assert exam.plan(furnished, "reed-voice@1", suite="small").against is None
    Registry(furnished).move("reed-voice", "stable", 2)
    against = exam.plan(furnished, "reed-voice", suite="small").against
    assert against is not None
    assert against.name == "reed-voice@1"


SUITES = {
    "unknown-measure": "parts: [{measure: taste}]",
    "unknown-key": "parts: [{measure: probe, datum: answers}]",
    "unknown-data": "parts: [{measure: probe, data: nowhere}]",
    "no-file": "parts: [{measure: probe, data: nowhere.jsonl}]",
    "twice": "parts: [{measure: probe, data: answers}, {measure: probe, data: answers}]",
    "empty": "parts: []",
    "words": "probe",
    "broken": "parts: [",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reed-voice@2", "--suite", "nowhere"], "no suite 'nowhere'; have: broken, default"),
        (["reed-voice@2", "--suite", "./nowhere.yaml"], "nowhere.yaml: no such suite"),
        (["reed-voice@2", "--suite", "unknown-measure"], "no measure 'taste'; have: "),
        (["reed-voice@2", "--suite", "unknown-key"], "unknown key 'parts.0.datum'"),
        (["reed-voice@2", "--suite", "unknown-data"], "no dataset 'nowhere'; have: answers"),
        (["reed-voice@2", "--suite", "no-file"], "there is no file"),
        (["reed-voice@2", "--suite", "twice"], "two parts are called 'probe'"),
        (["reed-voice@2", "--suite", "empty"], "no parts; wanted at least one of:"),
        (["reed-voice@2", "--suite", "words"], "wanted 'parts:'"),
        (["reed-voice@2", "--suite", "broken"], "not readable as YAML"),
        (["reed-voice@2", "--suite", "small", "--gate", "nowhere"], "no gate 'nowhere'"),
        (["reed-voice@2", "--suite", "small", "--judge", "reed-voice@1"], "reed-voice@1 is no reward model"),
        (["reed-voice@2", "--against", "reed-voice@2"], "cannot be examined against itself"),
        (["reed-voice@9"], "no version 'reed-voice@9'"),
    ],
)
def test_what_cannot_be_examined_is_told_in_one_line_before_anything_is_asked(
    furnished: Home, brogue: Run, words: list[str], said: str
) -> None:
    for name, text in SUITES.items():
        write_text(furnished.root / "suites" / f"{name}.yaml", text)
    done = brogue("exam", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.usefixtures("furnished")
def test_without_an_engine_an_exam_says_how_to_start_it(brogue: Run) -> None:
    done = brogue("exam", "reed-voice@2", "--suite", "small")
    assert (done.returncode, done.stderr) == (
        1, "brogue: an exam asks the engine, which is not running; start it: brogue up\n"
    )  # fmt: skip


def test_a_gateway_that_went_away_is_told_in_one_line(furnished: Home, brogue: Run) -> None:
    nowhere = "http://127.0.0.1:9"
    _running(furnished, nowhere)
    done = brogue("exam", "reed-voice@2", "--suite", "small")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"brogue: cannot reach the gateway at {nowhere}; start it: brogue up"


def test_an_engine_that_refuses_a_version_ends_the_exam_with_its_reason(place: Place, brogue: Run) -> None:
    place.engine.refuse = {"reed-voice@2"}
    done = brogue("exam", "reed-voice@2", "--suite", "small")
    assert done.returncode == 1
    assert "reed-voice@2 cannot be examined" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("furnished")
def test_a_folder_of_jsonl_files_is_a_suite(tmp_path: Path, brogue: Run) -> None:
    folder = tmp_path / "mine"
    write_text(folder / "shop.jsonl", _jsonl([{"prompt": "Open?", "response": "Yes."}]))
    write_text(folder / "taste.jsonl", _jsonl([{"prompt": "Open?", "chosen": "Yes, dear.", "rejected": "Yes."}]))
    write_text(folder / "capitals.jsonl", _jsonl([{"question": "France?", "choices": ["Paris", "Rome"], "answer": 0}]))
    done = brogue("exams", "suites", "--suite", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    [suite] = json.loads(done.stdout)["suites"]
    assert [(part["name"], part["measure"]) for part in suite["parts"]] == [
        ("capitals", "forgetting"), ("shop", "task"), ("taste", "preference")
    ]  # fmt: skip
    write_text(folder / "odd.jsonl", _jsonl([{"colour": "red"}]))
    done = brogue("exams", "suites", "--suite", str(folder))
    assert "odd.jsonl: cannot tell which measure takes lines with colour" in done.stderr


@pytest.mark.usefixtures("place")
def test_a_suites_own_file_is_found_beside_it(tmp_path: Path, brogue: Run) -> None:
    records = [{"prompt": f"How about {n}?", "response": WANTED} for n in range(5)]
    write_text(tmp_path / "my" / "lines.jsonl", _jsonl(records))
    text = f"name: mine\nparts: [{{measure: {NAME}, name: own, data: lines.jsonl}}]"
    write_text(tmp_path / "my" / "suite.yaml", text)
    done = brogue("exam", "reed-voice@2", "--suite", "my/suite.yaml", "--limit", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [figure] = json.loads(done.stdout)["measures"]
    assert (figure["name"], figure["n"]) == ("own.right", 3)


def test_without_a_suite_the_home_decides_what_is_asked(furnished: Home, brogue: Run) -> None:
    found = json.loads(brogue("exams", "suites", "reed-voice@2", "--json").stdout)
    assert any("no dataset with answers and test records" in line for line in found["left_out"])
    records = [InstructionRecord(prompt=f"Why {n}?", response="Because.") for n in range(5)]
    save_dataset(furnished, "reed-voice-more", make_rows(records, (0, 0, 100)), "a.jsonl", "0", {}, (0, 0, 100))
    found = json.loads(brogue("exams", "suites", "reed-voice@2", "--json").stdout)
    parts = {part["measure"]: part["data"] for part in found["suites"][-1]["parts"]}
    assert parts["task"] == parts["cost"] == "reed-voice-more"
    assert {"forgetting", "safety", "voice"} <= set(parts)
    assert any("no held-out judgements" in line for line in found["left_out"])
    assert exam.plan(furnished, "reed-voice@2").lenient
    write_text(furnished.root / "suites" / "default.yaml", f"parts: [{{measure: {NAME}, data: answers}}]")
    own = exam.plan(furnished, "reed-voice@2")
    assert ([part.measure for part in own.suite.parts], own.lenient) == ([NAME], False), "it takes the place of ours"


def _jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
