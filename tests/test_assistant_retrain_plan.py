"""How long a round of the loop will take, where none was done before: counted, and measured with a few answers."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import runs
from adapters.base_model import BaseModel, prepare
from adapters.exam import plan, run_exam
from adapters.exam_counting import counted
from adapters.exam_suites import load_suite
from adapters.registry import Registry
from assistant.exams import running
from assistant.retrain_probe import spread
from data.dataset import make_rows, save_dataset
from data.home import Home, write_text
from data.judgements import Ranking, Response
from data.records import InstructionRecord
from data.secrets import ENVIRONMENT
from data.settings import load_settings
from data.store_home import open_store
from tests.conftest import run_brogue
from tests.fakes import ADMIN_KEY, add_version
from tests.loop_gateway import gateway_of
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")
GUESS = r"at most, by \d+ answers and three steps"


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    return Path(shutil.move(tiny_llama(folder), folder / "base"))  # as the fake gateway calls it


@pytest.fixture
def shop(home: Home, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home with acme@1, 24 rankings of its answers, and a gateway that serves it."""
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    write_text(home.settings_file, f'base_model = "{base_folder}"\n[loop]\nmin_judgements = 8\n')
    add_version(home, "acme")
    parts = "parts:\n  - {measure: safety, limit: 3}\n  - {measure: task, data: acme, limit: 4}\n"
    write_text(home.root / "suites" / "plain.yaml", parts)
    write_text(
        home.root / "suites" / "answers.yaml", parts.replace("limit: 4", "limit: 4, options: {perplexity: false}")
    )
    records = [InstructionRecord(prompt=f"What is item {n}?", response=f"Item {n} is in aisle 3.") for n in range(20)]
    save_dataset(home, "acme", make_rows(records, (50, 0, 50)), "made up", "0", {}, (50, 0, 50))
    store = open_store(home)
    for number in range(24):
        keys = (f"{number}-a", f"{number}-b")
        asked = ({"role": "user", "content": f"What is item {number}?"},)
        store.add_responses([Response(id=key, version="acme@1", messages=asked, text=f"Item {key}.") for key in keys])
        store.judge(Ranking(rater="ann", shown=keys, ranks=(number % 2, 1 - number % 2)))
    store.close()
    with gateway_of(home):
        yield home


def base_of(home: Home) -> BaseModel:
    return prepare(load_settings(home.settings_file).base_model, home, lambda _: None)


def planned(home: Home, step: str, *words: str) -> dict[str, Any]:
    """What the plan says of a step."""
    done = run_brogue("retrain", "acme", "--suite", "answers", "--plan", "--json", *words, home=home)
    assert done.returncode == 0, done.stderr
    return next(one for one in json.loads(done.stdout)["steps"] if one["step"] == step)


def test_a_first_exam_and_ppo_are_reckoned_from_a_few_answers_and_steps(shop: Home) -> None:
    exam, train = planned(shop, "exam"), planned(shop, "train", "--recipe", "ppo")
    assert re.fullmatch(GUESS, exam["known_by"]) and re.fullmatch(GUESS, train["known_by"])
    assert exam["minutes"] >= 0 and train["minutes"] >= 0
    assert planned(shop, "train", "--recipe", "ppo", "--train-option", "rounds=5000")["minutes"] > train["minutes"]
    assert not (shop.root / "exams").exists(), "what was asked to see how long it takes is not kept"


def test_ppo_is_reckoned_by_the_rounds_of_an_earlier_run(shop: Home) -> None:
    base = base_of(shop)
    asked = runs.asked_now("other", "d", "digest", base.name, base.sha256, {"recipe": "ppo", "batch_size": 4})
    write_text(shop.runs / "other-1" / runs.RUN, asked.model_dump_json())
    write_text(shop.runs / "other-1" / "metrics.jsonl", '{"step": 1, "loss": 1, "seconds": 3.0}\n')
    known = planned(shop, "train", "--recipe", "ppo", "--train-option", "rounds=84")
    # A round had 8 answers and has 16 now; 84 rounds, and before and after them as many answers as in 16.
    assert (known["minutes"], known["known_by"]) == (10.0, "by the rounds of other-1")


def test_without_the_engine_a_plan_says_what_it_cannot_know(shop: Home) -> None:
    shop.services_file.unlink()
    for step in ("exam", "train"):
        found = planned(shop, step, "--recipe", "ppo")
        assert (found["minutes"], found["known_by"]) == (None, "nothing")
    said = run_brogue("retrain", "acme", "--recipe", "ppo", "--plan", home=shop).stdout
    assert "and train and exam, never done here yet; with the engine running it is measured" in said


def test_what_an_exam_would_ask_is_counted_without_what_is_kept(shop: Home) -> None:
    base, start = base_of(shop), Registry(shop).resolve("acme@1")
    before = counted(shop, base, start, load_suite(shop, "answers"), None)
    assert len(before.questions) % 3 == 0 and len(before.questions) >= 3 * 4 and before.read == []
    run_exam(shop, plan(shop, "acme@1", suite="answers"), running(shop), lambda _: None)
    after = counted(shop, base, start, load_suite(shop, "answers"), None)
    assert len(after.questions) * 3 == len(before.questions), "only the new version is asked"
    likely = counted(shop, base, start, load_suite(shop, "plain"), None)
    assert len(likely.read) == 3 * 4 and "Item" in likely.read[0]


def test_questions_are_taken_from_all_over() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]
