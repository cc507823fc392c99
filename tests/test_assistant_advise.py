"""`brogue advise` as a person meets it: over the whole gateway with a fake engine, trainings that are told only."""

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters.registry import Registry
from assistant import advice_training
from assistant.advice_budget import Pace, ladder
from assistant.advice_files import Asked, Journal, Notes, Tried
from assistant.advice_types import Arm, Ready
from assistant.cli_advise import read_budget
from assistant.definitions import Assistant, get_assistant, load_assistant
from assistant.knowledge import Knowledge
from assistant.services import Child, Services
from assistant.specialist_types import SpecialistCard
from data.dataset import Row, load_card, load_rows, save_dataset
from data.errors import BrogueError
from data.home import Home, write_json, write_text
from data.records import AnyRecord, LabelledRecord, Split, record_id
from data.secrets import ENVIRONMENT
from data.settings import load_settings
from tests.advice_lab import save, told_only
from tests.conftest import run_brogue
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version
from tests.forked import Forked
from tests.loop_gateway import NamingEngine
from tests.scripted_gateway import served
from tests.tiny_models import tiny_llama

PLACES = ("aisle", "cellar", "yard")
COUNTS: dict[Split, int] = {"train": 48, "validation": 6, "test": 10}
FEW = ("--arms", "prompt,word-lr,sft-lora")
ARMS = ("--arms", "prompt,few-shot-nearest,word-lr,sft-lora,lora+few-shot")


class Clerk(NamingEngine):
    """The base model knows the place of every second thing, what was trained of nine in ten."""

    def __init__(self) -> None:
        super().__init__(words=1)

    async def _events(self, model: str, body: dict[str, Any], starts: int, word: str) -> AsyncIterator[bytes]:  # noqa: ARG002
        number = int("".join(c for c in body["messages"][-1]["content"] if c.isdigit()) or 0)
        knows = number % 2 if model == "base" else number % 10
        async for event in super()._events(model, body, starts, PLACES[number % 3] if knows else "nowhere"):
            yield event


class Shop(NamedTuple):
    """A home with a dataset, and the engine behind its gateway."""

    home: Home
    engine: Clerk

    def advise(self, *words: str) -> dict[str, Any]:
        """What a run that goes well prints as JSON."""
        done = run_brogue("advise", "--data", "places", "--json", *words, home=self.home)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def refused(self, *words: str) -> str:
        """The one line of a command that is refused."""
        done = run_brogue(*words, home=self.home)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        return str(done.stderr.strip().splitlines()[-1])


def place(number: int, split: Split) -> AnyRecord:
    text = f"Where is {split}thing number {number}? The {PLACES[number % 3][:3]} one."
    return LabelledRecord(text=text, label=PLACES[number % 3])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model called 'base', as the fake engine has it."""
    folder = tmp_path_factory.mktemp("model")
    return tiny_llama(folder).rename(folder / "base")


@pytest.fixture
def shop(base: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    monkeypatch.setattr(advice_training, "_run", told_only)
    yield from shops(home, base)


def shops(home: Home, base: Path) -> Iterator[Shop]:
    """A home whose gateway runs, until the generator is closed."""
    home.create()
    write_text(home.settings_file, f'base_model = "{base}"\n')
    save(home, "places", place, COUNTS)
    engine, me = Clerk(), Child.of(os.getpid())
    assert me is not None
    knowledge = Knowledge(home, load_settings(home.settings_file).knowledge)
    with served(FakeGateway(home, engine, knowledge, max_wait_s=20).app) as url:
        Services(supervisor=me, gateway_url=url, page_url=url, base_model="base", engine_state="ready").save(home)
        write_text(home.settings_file, f'base_model = "{base}"\n[gateway]\nport = {url.rpartition(":")[2]}\n')
        yield Shop(home, engine)


def found(advice: dict[str, Any]) -> dict[str, Any]:
    """What two runs that were asked the same have in common: not how long it took."""
    return {
        result["arm"]["name"]: (
            result["state"], result["test"] and result["test"]["main"], result["consistency"],
            [(point["rows"], point["found"]) for point in result["curve"]],
        )
        for result in advice["results"]
    }  # fmt: skip


@pytest.mark.slow  # the embedding model is loaded
def test_every_arm_is_measured_and_what_was_asked_once_is_not_asked_again(shop: Shop) -> None:
    advice = shop.advise(*ARMS)
    states = {result["arm"]["name"]: result["state"] for result in advice["results"]}
    assert set(states) == {"prompt", "few-shot-nearest", "word-lr", "sft-lora", "lora+few-shot"}
    assert set(states.values()) <= {"measured", "stopped"} and states["sft-lora"] == "measured", states
    by = {result["arm"]["name"]: result for result in advice["results"]}
    assert by["prompt"]["test"]["main"]["value"] < by["sft-lora"]["test"]["main"]["value"]
    assert [point["rows"] for point in by["word-lr"]["curve"]] == [24, 48]
    assert by["sft-lora"]["curve"][-1]["rows"] == 48 and advice["recommendation"]["arm"]
    asked = len(shop.engine.bodies)
    assert shop.advise(*ARMS) == advice
    assert json.loads(run_brogue("advice", "show", advice["id"], "--json", home=shop.home).stdout) == advice
    aimed = shop.advise(*ARMS, "--target", "accuracy=0.05")
    assert (aimed["id"], aimed["target"], found(aimed)) == (advice["id"], 0.05, found(advice))
    assert len(shop.engine.bodies) == asked, "only the verdict was worked out anew"
    listed = json.loads(run_brogue("advice", "list", "--json", home=shop.home).stdout)
    assert [(one["id"], one["dataset"]) for one in listed] == [(advice["id"], "places")]
    assert (shop.home.root / "advice" / advice["id"] / "report.html").is_file()


def test_what_the_budget_has_no_room_for_is_named_and_done_with_more_time(shop: Shop) -> None:
    short = shop.advise(*FEW, "--budget", "1s")
    states = {result["arm"]["name"]: (result["state"], result["why"]) for result in short["results"]}
    assert states["prompt"][0] == "measured", "the prompt alone is always measured"
    assert states["sft-lora"][0] == "left out" and "no time" in states["sft-lora"][1]
    assert any(line.startswith("sft-lora: no time") for line in short["left_out"])
    asked = [body for body in shop.engine.bodies if "structured_outputs" not in body]
    longer = shop.advise(*FEW, "--budget", "30m")
    assert longer["id"] == short["id"] and found(longer)["sft-lora"][0] == "measured"
    again = [body for body in shop.engine.bodies if body in asked]
    assert len(again) == len(asked), "the prompt's answers were kept"


@pytest.mark.slow
def test_a_run_that_is_interrupted_after_any_step_ends_as_one_that_was_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, left, stops = Notes.keep_tried, 0, 0

    def stopping(notes: Notes, tried: Tried) -> None:
        nonlocal left
        keep(notes, tried)
        left -= 1
        if not left:
            raise KeyboardInterrupt

    monkeypatch.setattr(Notes, "keep_tried", stopping)
    while True:
        left = stops % 3 + 1
        done = run_brogue("advise", "--data", "places", "--json", *FEW, home=shop.home)
        if done.returncode == 0:
            break
        assert done.returncode == 130, done.stderr
        stops += 1
    assert stops > 5, "each time it was a little further"
    left = 0
    forget(shop.home)
    assert found(json.loads(done.stdout)) == found(shop.advise(*FEW))


def test_an_arm_that_fails_is_named_and_tried_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise BrogueError("the disk is full")

    monkeypatch.setattr(advice_training, "_run", broken)
    words = ("--arms", "prompt,sft-lora")
    advice = shop.advise(*words)
    failed = next(result for result in advice["results"] if result["arm"]["name"] == "sft-lora")
    assert (failed["state"], failed["why"]) == ("failed", "the disk is full")
    assert "sft-lora: the disk is full" in advice["left_out"]
    monkeypatch.setattr(advice_training, "_run", told_only)
    assert found(shop.advise(*words))["sft-lora"][0] == "measured"


@pytest.mark.slow
def test_an_arm_becomes_an_assistant_with_all_that_it_is_made_of(shop: Shop) -> None:
    id = shop.advise(*ARMS)["id"]
    done = run_brogue("advise", "apply", id, "--as", "clerk", "--arm", "sft-lora", "--json", home=shop.home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["adapter"] == "clerk@1"
    clerk, registry = get_assistant(shop.home, "clerk"), Registry(shop.home)
    assert (clerk.adapter, registry.aliases("clerk")) == ("clerk", {"stable": 1})
    said = run_brogue("chat", "clerk", "Where is testthing number 4?", home=shop.home)
    assert said.stdout.strip() == PLACES[1], said.stderr
    assert shop.engine.bodies[-1]["model"].startswith("clerk@1-")

    done = run_brogue("advise", "apply", "--as", "near", "--arm", "few-shot-nearest", home=shop.home)
    assert done.returncode == 0 and "next: brogue chat near" in done.stdout, done.stderr
    near = get_assistant(shop.home, "near")
    assert near.examples_from is not None and near.examples_from.dataset == "near-examples"
    assert {row.split for row in load_rows(shop.home, "near-examples")} <= {"train", "validation"}
    assert load_card(shop.home, "near-examples").records["train"] == COUNTS["train"]
    before = len(shop.engine.bodies)
    run_brogue("advise", "apply", "--as", "small", "--arm", "word-lr", home=shop.home)
    assert get_assistant(shop.home, "small").specialist == "small"
    said = run_brogue("chat", "small", "Where is testthing number 3? The ais one.", home=shop.home)
    assert said.stdout.strip() == "aisle" and len(shop.engine.bodies) == before, said.stderr


def test_what_cannot_be_applied_is_told_in_one_line(shop: Shop) -> None:
    assert "no advice yet" in shop.refused("advise", "apply", "--as", "clerk")
    id = shop.advise("--arms", "prompt,sft-lora", "--budget", "1s")["id"]
    assert "--as NAME" in shop.refused("advise", "apply", id)
    assert "no arm 'magic'; have: prompt" in shop.refused("advise", "apply", id, "--as", "clerk", "--arm", "magic")
    line = shop.refused("advise", "apply", id, "--as", "clerk", "--arm", "sft-lora")
    assert "was not made (no time" in line
    run_brogue("advise", "apply", id, "--as", "clerk", "--arm", "prompt", home=shop.home)
    line = shop.refused("advise", "apply", id, "--as", "clerk", "--arm", "prompt")
    assert "there is an assistant 'clerk' already; add --replace" in line
    done = run_brogue("advise", "apply", id, "--as", "clerk", "--arm", "prompt", "--replace", home=shop.home)
    assert done.returncode == 0, done.stderr
    assert "a name of the advisor's own" in shop.refused("advise", "apply", id, "--arm", "prompt", "--as",
                                                         f"advice-{id}-mine")  # fmt: skip


def test_a_replaced_assistant_keeps_its_brand_and_the_adapter_of_its_name_gets_a_version(shop: Shop) -> None:
    add_version(shop.home, "clerk")
    add_assistant(shop.home, "clerk", "adapter: clerk\nbrand: {title: Our clerk}\n")
    id = shop.advise("--arms", "prompt,sft-lora")["id"]
    words = ("advise", "apply", id, "--as", "clerk", "--arm", "sft-lora")
    (shop.home.assistants / "clerk.yaml").rename(shop.home.root / "aside.yaml")
    assert "there is an adapter 'clerk' already; add --replace" in shop.refused(*words)
    (shop.home.root / "aside.yaml").rename(shop.home.assistants / "clerk.yaml")
    done = run_brogue(*words, "--replace", home=shop.home)
    assert done.returncode == 0, done.stderr
    assert load_assistant(shop.home.assistants / "clerk.yaml").brand.title == "Our clerk"
    registry = Registry(shop.home)
    assert (registry.versions("clerk"), registry.aliases("clerk")["stable"]) == ([1, 2], 2)
    assert registry.state("clerk").history[-1].who == "brogue advise apply"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--data", "nothing"), "no dataset 'nothing'; have: places"),
        (("--data", "places", "--arms", "magic"), "no arm 'magic'; have: embedding-lr"),
        (("--data", "places", "--budget", "soon"), "--budget wants a time such as 30m or 2h; found 'soon'"),
        (("--data", "places", "--target", "accuracy"), "--target wants a figure and a share of 1"),
        (("--data", "places", "--target", "accuracy=90"), "--target wants a figure and a share of 1"),
        (("--data", "places", "--target", "rouge_l=0.5"), "'rouge_l' cannot decide on places"),
        (("--data", "places", "--knowledge", "nowhere"), "nowhere: no such file or folder"),
        (("--data", "places", "--limit", "3"), "3 test records tell nothing"),
    ],
)
def test_a_mistake_is_told_in_one_line(shop: Shop, words: tuple[str, ...], line: str) -> None:
    assert line in shop.refused("advise", *words)


def test_an_engine_that_is_not_running_is_told_in_one_line(home: Home) -> None:
    done = run_brogue("advise", "--data", "places", home=home)
    assert done.returncode == 1 and done.stderr.strip().endswith("start it: brogue up"), done.stderr


@dataclass
class DieAfterSteps:
    """The process is killed when so many steps of the run are written down."""

    steps: int

    def __call__(self, _home: Home) -> None:
        keep, seen = Notes.keep_tried, list[int]()

        def last(notes: Notes, tried: Tried) -> None:
            keep(notes, tried)
            seen.append(1)
            if len(seen) == self.steps:
                os.kill(os.getpid(), signal.SIGKILL)

        Notes.keep_tried = last  # type: ignore[method-assign, assignment]


def tell_trainings(_home: Home) -> None:
    """Trainings are told only."""
    advice_training._run = told_only


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_run_that_is_killed_twice_ends_with_the_same_table(shop: Shop, tmp_path: Path) -> None:
    forked, words = Forked(tmp_path), ("advise", "--data", "places", "--json", *FEW)
    for steps in (3, 5):
        done = forked.run(words, shop.home, tell_trainings, DieAfterSteps(steps))
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = forked.run(words, shop.home, tell_trainings)
    assert done.returncode == 0, done.stderr
    forget(shop.home)
    assert found(json.loads(done.stdout)) == found(shop.advise(*FEW))


def forget(home: Home) -> None:
    """All that was made and asked for advice."""
    for name in ("advice", "adapters", "exams", "specialists"):
        shutil.rmtree(home.root / name, ignore_errors=True)


def paced(*made: tuple[str, int, float]) -> Pace:
    """What a training of so many rows took."""
    arms = [Arm(name=name, family="fine-tuned", title=name, upkeep=4, learns=True) for name in ("one", "two", "three")]
    pace = Pace(arms)
    for name, rows, seconds in made:
        ready = Ready(arm=name, rows=rows, definition=Assistant(name=name))
        pace.learn(Tried(arm=name, ready={rows: ready}, took={f"make {rows}": seconds}))
    return pace


def test_the_trained_arms_get_as_many_rows_as_there_is_time_for() -> None:
    arms, pace = ("one", "two", "three"), paced(("one", 300, 90.0))  # 30 s to start, a fifth of a second an example
    assert pace.making_s("two", 600) == pytest.approx(150)
    assert pace.making_s("two", 75) == pytest.approx(90), "a quarter of the rows is passed over four times"
    assert ladder(480, arms, pace, 0, 3600) == ((60, 120, 240, 480), 3)
    assert ladder(480, arms, pace, 0, 500) == ((240, 480), 3), "rather fewer rounds than fewer rows"
    assert ladder(480, arms, pace, 0, 290) == ((307,), 3)
    assert ladder(480, arms, pace, 0, 150) == ((480,), 1), "rather fewer arms than too few rows"
    assert ladder(480, arms, pace, 0, 20) == ((), 0)


def test_a_pace_is_drawn_from_trainings_of_two_sizes() -> None:
    pace = paced(("one", 300, 90.0), ("two", 900, 150.0))
    assert pace.making_s("three", 600) == pytest.approx(120) and pace.making_s("one", 600) == pytest.approx(150)


@pytest.mark.parametrize(("text", "minutes"), [("30m", 30), ("2h", 120), ("1h30m", 90), ("90s", 1.5), ("45", 45)])
def test_a_budget_is_read_as_people_write_it(text: str, minutes: float) -> None:
    assert read_budget(text) == minutes


def test_who_is_forgotten_goes_from_advice_and_from_small_models(home: Home) -> None:
    rows = []
    for who in ("ann", "bob"):
        record = LabelledRecord(text=f"Where does {who} live?", label="here")
        rows.append(Row(id=record_id(record), split="train", record=record, subject=who))
    save_dataset(home, "homes", rows, "made", "0", {}, None)
    for id, dataset in (("0123abcd", "homes"), ("4567abcd", "others")):
        journal = Journal(asked=Asked(data=dataset), created="2026-11-22")
        Notes(home, id).keep(journal)
        write_text(home.root / "advice" / id / "documents" / "24" / "one.txt", f"{dataset}: Where does ann live?")
        card = SpecialistCard(name=dataset, kind="nearest-answer", task="words", dataset=dataset, key="0", rows=1,
                              validation_rows=0, metric="rouge_l", validation=None, trained=0, bytes=1, seconds=1,
                              created="2026-11-22")  # fmt: skip
        write_json(home.root / "specialists" / dataset / "card.json", card.model_dump(mode="json"))
    done = run_brogue("data", "forget", "--subject", "ann", "--yes", "--json", home=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["advice"], report["specialists"]) == (["0123abcd"], ["homes"])
    assert [path.name for path in (home.root / "advice").iterdir()] == ["4567abcd"]
    assert [path.name for path in (home.root / "specialists").iterdir()] == ["others"]
