"""The advisor's arms over the whole gateway with a fake engine: what is made, what is asked, what never gets about."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.exam_types import Part
from adapters.registry import Registry
from assistant import advice_training
from assistant.advice_arms import arms_for, find, make
from assistant.advice_figures import measure
from assistant.advice_lab import Lab
from assistant.advice_room import ArmRoom
from assistant.advice_task import read_records, read_task
from assistant.advice_training import Training, train
from assistant.advice_types import Arm, Ready
from assistant.specialists import kinds_for
from assistant.starter import point_stable_at_base
from data.dataset import load_rows
from data.errors import BrogueError
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
)
from data.settings import EngineSettings, Settings
from data.store_home import open_store
from tests.advice_lab import ID, AtWork, at_work, running, save, told_only
from tests.conftest import Run
from tests.fakes import ADMIN_KEY, add_version
from tests.tiny_models import tiny_llama

PLACES = ("aisle", "cellar", "yard")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model called 'base', as the fake engine has it."""
    folder = tmp_path_factory.mktemp("model")
    return tiny_llama(folder).rename(folder / "base")


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would train; each makes a version at once."""
    commands: list[list[str]] = []

    def run(lab: Lab, wanted: Training, dataset: Any) -> None:
        commands.append(advice_training.command(lab, wanted, dataset))
        told_only(lab, wanted, dataset)

    monkeypatch.setattr(advice_training, "_run", run)
    return commands


def labelled(number: int, split: Split) -> AnyRecord:
    return LabelledRecord(text=f"Where is {split}thing number {number}?", label=PLACES[number % len(PLACES)])


def instruction(number: int, split: Split) -> AnyRecord:
    said = f"It is {split}answer {number}, on the shelf beside the {PLACES[number % 3]} door, all year round."
    return InstructionRecord(prompt=f"Where is {split}thing number {number}?", response=said)


def pair(number: int, split: Split) -> AnyRecord:
    asked = (Message(role="user", content=f"Where is {split}thing number {number}?"),)
    return PreferenceRecord(messages=asked, chosen=f"In the {PLACES[number % 3]}, of course.", rejected="No.")


def tagged(number: int, split: Split) -> AnyRecord:
    return LabelledRecord(tokens=("Ann", "saw", f"{split}thing{number}"), tags=("B-person", "O", "O"))


def talk(number: int, split: Split) -> AnyRecord:
    asked = f"Hello, I am {split}{number}."
    said = ("user", asked), ("assistant", "Hello!"), ("user", "Where is it?"), ("assistant", f"In aisle {number}.")
    return ChatRecord(messages=tuple(Message(role=role, content=text) for role, text in said))


@pytest.fixture
def places(home: Home, base: Path) -> Iterator[AtWork]:
    """Texts with three labels."""
    save(home, "places", labelled)
    with at_work(home, base, "places") as found:
        yield found


@pytest.fixture
def answers(home: Home, base: Path) -> Iterator[AtWork]:
    """Questions with answers in words."""
    save(home, "answers", instruction)
    with at_work(home, base, "answers") as found:
        yield found


def arms_of(found: AtWork) -> list[Arm]:
    lab = found.lab
    return arms_for(lab.task, found.known, lab.settings, lab.knowledge is not None)


def made(found: AtWork, *names: str) -> dict[str, Ready]:
    """Arms and what they need, all of them if none is named."""
    ready: dict[str, Ready] = {}
    for arm in arms_of(found):
        if not names or arm.name in names:
            ready[arm.name] = make(found.lab, arm, found.known, ready)
    return ready


def figures(found: AtWork, ready: Ready, rows: Any) -> Any:
    return measure(found.lab.task, ArmRoom(found.lab, ready, rows), rows, 0)


# --- which arms there are ---


@pytest.mark.parametrize(("make_record", "wanted"), [
    (labelled, "prompt prompt-constrained few-shot-nearest few-shot-nearest-constrained "
               "few-shot-fixed few-shot-fixed-constrained sft-lora lora+few-shot soft-prompt instruct-lora ia3 "
               "ln-tuning rag rag-constrained"),
    (tagged, "prompt few-shot-nearest few-shot-fixed sft-lora lora+few-shot soft-prompt instruct-lora ia3 "
             "ln-tuning"),
    (talk, "prompt few-shot-nearest few-shot-fixed sft-lora lora+few-shot soft-prompt ia3 "
           "ln-tuning rag"),
    (pair, "prompt few-shot-nearest few-shot-fixed dpo-lora"),
])  # fmt: skip
def test_every_kind_of_task_has_arms_of_its_own(home: Home, make_record: Any, wanted: str) -> None:
    save(home, "some", make_record)
    task = read_task(home, "some")
    found = arms_for(task, read_records(home, task, limit=None), Settings(), knowledge=False)
    names = [arm.name for arm in found]
    assert set(names) == {*wanted.split(), *kinds_for(task)}
    for number, arm in enumerate(found):
        assert set(arm.needs) <= set(names[:number]), f"{arm.name} stands before what it needs"


def test_documents_bring_rag_forward_and_lora_with_rag_with_it(home: Home) -> None:
    save(home, "answers", instruction)
    task = read_task(home, "answers")
    found = arms_for(task, read_records(home, task, limit=None), Settings(), knowledge=True)
    names = [arm.name for arm in found]
    assert names.index("rag") == 1
    assert find(found, "lora+rag").needs == ("sft-lora", "rag")


def test_without_engines_of_their_own_no_method_is_tried_that_takes_one(home: Home) -> None:
    save(home, "answers", instruction)
    task = read_task(home, "answers")
    settings = Settings(engine=EngineSettings(max_own_engines=0))
    names = {arm.name for arm in arms_for(task, read_records(home, task, limit=None), settings, knowledge=False)}
    assert "sft-lora" in names
    assert not names & {"ia3", "ln-tuning"}


# --- what is made of what ---


def test_no_test_record_is_in_anything_that_arms_are_made_of_and_no_answer_in_what_is_asked(answers: AtWork) -> None:
    lab, records, bodies = answers.lab, answers.records, answers.engine.bodies
    ready = made(answers, *(arm.name for arm in arms_of(answers) if arm.name != "extract"))  # it fits other records
    asked = [
        one for one in ready.values() if one.definition.adapter is None or one.arm in ("sft-lora", "lora+few-shot")
    ]
    for one in asked:
        figures(answers, one, records.validation)
    seen = json.dumps(bodies)
    assert "trainanswer 3" in seen, "examples and passages are shown"
    assert "testthing" not in seen
    assert "testanswer" not in seen
    assert "validationanswer" not in seen, "what is chosen on is no example either"
    ours = [path for path in lab.home.root.rglob("*") if path.is_file() and "datasets/answers" not in str(path)]
    assert len([path for path in ours if b"trainanswer 3" in path.read_bytes()]) >= 5
    assert [path for path in ours if b"testthing" in path.read_bytes() or b"testanswer" in path.read_bytes()] == []

    bodies.clear()
    for one in asked:
        figures(answers, one, records.test)
    generating = [one for one in asked if one.definition.specialist is None]
    assert len(bodies) == len(generating) * len(records.test)
    assert "testanswer" not in json.dumps(bodies)
    for body in bodies:
        *before, last = [message["content"] for message in body["messages"]]
        assert last.count("testthing") == 1, "the question itself"
        assert "testthing" not in json.dumps(before)


def test_test_records_that_are_handed_over_as_training_records_are_refused(places: AtWork) -> None:
    wrong = places.known._replace(train=[*places.known.train, places.records.test[0]])
    with pytest.raises(AssertionError, match="test is never learnt from"):
        make(places.lab, arms_of(places)[0], wrong, {})


def test_what_was_made_before_is_not_made_again(places: AtWork, trainings: list[list[str]]) -> None:
    names = [arm.name for arm in arms_of(places) if arm.name != "encoder"]  # which takes its time
    first = made(places, *names)
    asked, trained = len(places.engine.bodies), len(trainings)
    assert trained == 5
    assert made(places._replace(lab=places.again()), *names) == first
    assert (len(places.engine.bodies), len(trainings)) == (asked, trained)


def test_of_fewer_records_an_arm_is_another_one(places: AtWork, trainings: list[list[str]]) -> None:
    few = places.known._replace(train=places.known.train[:8])
    arms = arms_of(places)
    ready = made(places, "prompt-constrained")
    for name in ("embedding-lr", "sft-lora"):
        small, whole = (make(places.lab, find(arms, name), some, ready) for some in (few, places.known))
        assert small.definition.name == f"advice-{ID}-{name}-8"
        assert (small.rows, whole.rows) == (8, 24)
    assert [words[3] for words in trainings] == [f"advice-{ID}-8", f"advice-{ID}-24"]
    assert {row.split for row in load_rows(places.lab.home, f"advice-{ID}-8")} == {"train", "validation"}
    assert make(places.lab, find(arms, "sft-lora"), few, ready).definition.adapter == f"advice-{ID}-sft-lora@1"


def test_an_arm_makes_what_it_needs_where_that_is_not_there(places: AtWork, trainings: list[list[str]]) -> None:
    ready = make(places.lab, find(arms_of(places), "lora+few-shot"), places.known, {})
    assert ready.definition.adapter == f"advice-{ID}-sft-lora@1"
    assert ready.definition.examples_from is not None
    assert len(trainings) == 1


# --- instructions ---


def test_the_instruction_that_does_best_on_validation_is_chosen(places: AtWork) -> None:
    engine = places.engine
    engine.says = "aisle"
    chat = engine._chat

    async def obeys(body: dict[str, Any]) -> httpx.Response:
        right = next(row.record for row in places.records.validation if question(row.record) == _last(body))
        assert isinstance(right, LabelledRecord)
        engine.says = right.label if "You sort texts" in body["messages"][0]["content"] else "nonsense"
        return await chat(body)

    engine._chat = obeys  # type: ignore[method-assign]
    places.lab.gateway = places.lab.gateway._replace(at_once=1)
    found = made(places, "prompt")["prompt"]
    assert found.definition.system_prompt is not None
    assert found.definition.system_prompt.startswith("You sort texts")
    assert found.notes == ("instruction: explicit (6 validation records: short 0.000, explicit 1.000)",)
    assert {_last(body) for body in engine.bodies} == {question(row.record) for row in places.records.validation}


def _last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


# --- how it is asked ---


def test_an_arm_says_itself_whether_its_answers_are_held_to_the_labels(places: AtWork) -> None:
    ready = made(places, "prompt", "prompt-constrained")
    places.engine.bodies.clear()
    for name, form in (("prompt", None), ("prompt-constrained", {"choice": list(PLACES)})):
        room = ArmRoom(places.lab, ready[name], places.records.test)
        room.answers("version", [[{"role": "user", "content": "x"}]], structured_outputs={"choice": ["y"]})
        assert places.engine.bodies.pop().get("structured_outputs") == form


def test_every_arm_can_be_asked_through_the_gateway_and_nothing_of_it_is_kept_there(places: AtWork) -> None:
    ready = made(places, "prompt", "prompt-constrained", "embedding-lr", "few-shot-nearest", "sft-lora")
    rows = places.records.test
    for one in ready.values():
        assert figures(places, one, rows).n == len(rows)
    assert figures(places, ready["embedding-lr"], rows).seconds_p50 > 0
    store = open_store(places.lab.home)
    assert store.responses() == []
    store.close()
    answered = [body["model"] for body in places.engine.bodies]
    assert sum(model.startswith(f"advice-{ID}-sft-lora@1") for model in answered) == len(rows)
    with httpx.Client(base_url=places.lab.gateway.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert [name for name in listed if name.startswith("advice")] == []


def test_an_answer_is_asked_once_as_long_as_the_definition_is_the_same(places: AtWork) -> None:
    ready = made(places, "prompt")["prompt"]
    prompts = [[{"role": "user", "content": f"{n}?"}] for n in range(3)]
    ArmRoom(places.lab, ready, []).answers("version", prompts)
    asked = len(places.engine.bodies)
    other = places.lab.define(f"advice-{ID}-other", arms_of(places)[0], system_prompt=ready.definition.system_prompt)
    ArmRoom(places.again(), ready.model_copy(update={"definition": other}), []).answers("version", prompts)
    assert len(places.engine.bodies) == asked, "another name makes no other answer"
    changed = places.lab.define(ready.definition.name, arms_of(places)[0], system_prompt="Another one.")
    ArmRoom(places.lab, ready.model_copy(update={"definition": changed}), []).answers("version", prompts)
    assert len(places.engine.bodies) == asked + 3
    assert places.engine.bodies[-1]["messages"][0]["content"] == "Another one."


def test_a_question_that_is_refused_counts_as_wrong_unless_all_are(
    places: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, told = made(places, "prompt")["prompt"], list[str]()
    monkeypatch.setattr(places.lab, "tell", told.append)
    chat = places.engine._chat

    async def short_only(body: dict[str, Any]) -> httpx.Response:
        if "long" in _last(body):
            return httpx.Response(400, json={"error": {"message": "the prompt is longer than 512 tokens"}})
        return await chat(body)

    monkeypatch.setattr(places.engine, "_chat", short_only)
    prompts = [[{"role": "user", "content": text}] for text in ("short", "a long one")]
    answers = ArmRoom(places.lab, ready, []).answers("version", prompts)
    assert [answer.finish_reason for answer in answers] == ["stop", "refused"]
    assert any(line.startswith("1 of 2 questions are refused, which counts as a wrong answer: ") for line in told)
    with pytest.raises(BrogueError, match="the prompt is longer than 512 tokens"):
        ArmRoom(places.lab, ready, []).answers("version", prompts[1:])


def test_a_room_gives_its_own_records_whatever_split_is_asked_for(places: AtWork) -> None:
    room = ArmRoom(places.lab, made(places, "prompt")["prompt"], places.records.validation)
    part = Part(measure="task", data="places", limit=4, options={"split": "train"})
    assert room.rows(part) == places.records.validation[:4]


def test_of_pairs_likelihoods_are_asked_behind_the_whole_prompt(home: Home, base: Path) -> None:
    save(home, "pairs", pair)
    with at_work(home, base, "pairs") as found:
        told: list[Any] = []

        class Likely:
            def of(self, card: Any, system: Any, prompts: Any, texts: Any, take: Any) -> None:
                told.extend((card, system, prompt, text) for prompt, text in zip(prompts, texts, strict=True))
                for number in range(len(texts)):
                    take(number, [-1.0])

        found.lab.__dict__["likelihoods"] = Likely()
        ready = make(found.lab, find(arms_of(found), "few-shot-fixed"), found.known, {})
        told.clear()
        room, asked = ArmRoom(found.lab, ready, []), [{"role": "user", "content": "Where?"}]
        for _ in range(2):
            assert room.likelihoods("version", [asked, None], ["Here.", "There."]) == [[-1.0], [-1.0]]
        [(_, _, prompt, text), (_, _, nothing, _)] = told
        assert (text, nothing) == ("Here.", None)
        roles = [message["role"] for message in prompt if message["role"] != "system"]
        assert roles == ["user", "assistant"] * 5 + ["user"], "five examples, then the question"


# --- trainings ---


def test_what_the_advisor_trains_is_what_the_plain_command_trains(places: AtWork, trainings: list[list[str]]) -> None:
    made(places, "prompt-constrained", "sft-lora", "instruct-lora")
    first, second = trainings
    plain = ["train", f"advice-{ID}-sft-lora", "--data", f"advice-{ID}-24", "--recipe", "labelled", "--method", "lora"]
    assert first[: len(plain)] == plain
    assert "--not-stable" in first
    assert second[3] == f"advice-{ID}-24-instructions"
    assert "--system-prompt=" in first
    assert second[-1].startswith("--system-prompt=You sort texts."), "with another instruction than the recipe's own"
    assert [row.record.kind for row in load_rows(places.lab.home, second[3])] == ["instruction"] * 30


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_version_that_is_only_tried_out_never_becomes_stable(home: Home, base: Path, brogue: Run) -> None:
    write_text(home.settings_file, f'base_model = "{base}"\n')
    save(home, "places", labelled)
    words = ["train", "tried", "--data", "places", "--recipe", "labelled", "--epochs", "1"]
    done = brogue(*words, "--not-stable", "--system-prompt", "Say where.")
    assert done.returncode == 0, done.stderr
    registry = Registry(home)
    assert registry.card("tried", 1).system_prompt == (
        "Say where.\n\nAnswer with the label of the text only. Labels: aisle, cellar, yard."
    )
    assert registry.aliases("tried") == {}
    refused = brogue(*words, "--system-prompt", "x", "--assistant", "reed")
    assert (refused.returncode, refused.stderr) == (
        1, "brogue: wanted one of --system-prompt and --assistant; found both\n"
    )  # fmt: skip


def test_a_start_makes_nothing_stable_that_was_not_meant_to_be(places: AtWork) -> None:
    home = places.lab.home
    made(places, "sft-lora")
    add_version(home, "reed", base=places.lab.base.sha256)
    assert point_stable_at_base(home, places.lab.base) == []
    assert Registry(home).aliases(f"advice-{ID}-sft-lora") == {}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_plain_commands_train_the_same_versions_and_find_the_same_figures(
    places: AtWork, monkeypatch: pytest.MonkeyPatch, brogue: Run
) -> None:
    home, registry = places.lab.home, Registry(places.lab.home)
    few = places.known._replace(train=places.known.train[:8])

    def here(lab: Lab, wanted: Training, dataset: Any) -> None:  # in the place of a process of its own, which is slow
        done = brogue(*advice_training.command(lab, wanted, dataset))
        assert done.returncode == 0, done.stderr

    monkeypatch.setattr(advice_training, "_run", here)
    monkeypatch.setenv("BROGUE_ADMIN_KEY", ADMIN_KEY)
    running(home, places.lab.gateway.url)
    write_text(home.root / "suites" / "own.yaml", "parts: [{measure: task, data: places}]\n")
    places.engine.says = "cellar"
    for name, recipe in (("sft-lora", "labelled"), ("instruct-lora", "instruct")):
        arm = make(places.lab, find(arms_of(places), name), few, {})
        card = registry.card(f"advice-{ID}-{name}", 1)
        told = f"--system-prompt={card.config['system_prompt'] or ''}"
        done = brogue("train", f"my-{name}", "--data", card.dataset, "--recipe", recipe, told)
        assert done.returncode == 0, done.stderr
        mine = registry.card(f"my-{name}", 1)
        assert mine.files["adapter_model.safetensors"] == card.files["adapter_model.safetensors"]
        assert mine.system_prompt == arm.definition.system_prompt
        exam = brogue("exam", f"my-{name}@1", "--suite", "own", "--json")
        assert exam.returncode == 0, exam.stderr
        [accuracy] = [one for one in json.loads(exam.stdout)["measures"] if one["name"] == "task.accuracy"]
        main = figures(places, arm, places.records.test).main
        assert accuracy["arms"]["version"] == main.model_dump()
        assert main.value > 0


def test_a_training_that_fails_is_told_in_its_own_words(
    places: AtWork, monkeypatch: pytest.MonkeyPatch, brogue: Run
) -> None:
    dataset = places.lab.dataset(places.known)
    wanted = Training(adapter=f"advice-{ID}-x", recipe="dpo")
    refused = brogue(*advice_training.command(places.lab, wanted, dataset)).stderr
    monkeypatch.undo()
    with pytest.raises(BrogueError) as error:
        train(places.lab, wanted, dataset)
    assert str(error.value) == f"advice-{ID}-x could not be trained: {refused.removeprefix('brogue: ').strip()}"
    assert "holds labelled records; the recipe 'dpo' takes preference" in refused
