"""The loop, as a person meets it: `brogue retrain` over a tiny model, a real gateway and store, and a fake engine."""

import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters import exam_files, loop, runs
from adapters.methods import read_options
from adapters.registry import Registry
from data.dataset import load_card, load_rows
from data.home import Home, write_text
from data.judgements import AnyJudgement, Comparison, Correction, Ranking, Rating, Response
from data.records import PreferenceRecord
from data.secrets import ENVIRONMENT
from data.store_home import open_store
from tests.conftest import run_brogue
from tests.fakes import ADMIN_KEY
from tests.forked import DieAfter, Forked, die_before_the_end
from tests.loop_gateway import gateway_of
from tests.tiny_models import ROWS, tiny_llama

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
SUITE = "parts:\n  - {measure: preference, limit: 8}\n  - {measure: repetition, limit: 8}\n"
GATES = {"open": 'items: 1\nrules: ["preference.*.n >= 1"]', "shut": 'items: 1\nrules: ["preference.* >= 5"]',
         "unsure": "items: 99999\nrules: [preference.* better]"}  # fmt: skip
QUICK = ("--suite", "small", "--train-option", "epochs=1", "--json")


class Shop(NamedTuple):
    """A home with a first version, and a gateway over a fake engine that serves it."""

    home: Home

    def retrain(self, *words: str) -> Any:
        return run_brogue("retrain", "acme", *words, home=self.home)

    def done(self, *words: str) -> dict[str, Any]:
        """What a round that goes well prints as JSON."""
        done = self.retrain(*QUICK, *words)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def refused(self, *words: str) -> str:
        """The one line of a command that is refused."""
        done = self.retrain(*words)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        return str(done.stderr.strip().splitlines()[-1])

    def say(self, first: int, count: int, kind: str = "ranking") -> None:
        """So many judgements on questions numbered from `first` on."""
        store = open_store(self.home)
        for number in range(first, first + count):
            store.judge(_judged(store, number, kind))
        store.close()


def _judged(store: Any, number: int, kind: str) -> AnyJudgement:
    """A judgement of answers that are put into the store with it."""
    best = number % 2  # not always the same place, or the rater would weigh nothing
    texts = ["What?", f"Item {number}.", f"aisle {number % 7}"][1 - best : 3 - best] + ["What? What?"]
    asked = ({"role": "user", "content": f"What is item {number}?"},)
    keys = tuple(f"{kind}-{number}-{place}" for place in range(len(texts)))
    store.add_responses([Response(id=key, version="acme@1", messages=asked, text=text)
                         for key, text in zip(keys, texts, strict=True)])  # fmt: skip
    if kind == "ranking":
        return Ranking(rater="ann", shown=keys, ranks=((0, 1, 1), (1, 0, 1))[best])
    if kind == "comparison":
        return Comparison(rater="ann", shown=(keys[0], keys[1]), verdict="second" if best else "first")
    if kind == "correction":
        return Correction(rater="ann", response=keys[2], text=f"Item {number} is in aisle 3.")
    return Rating(rater="ann", response=keys[0], thumb="up")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with acme@1 and the rules for these tests; it is copied for each of them."""
    folder = tmp_path_factory.mktemp("loop")
    home = Home(folder / "home")
    home.create()
    shutil.move(tiny_llama(folder), folder / "base")  # as the fake gateway calls it
    write_text(home.settings_file, f'base_model = "{folder / "base"}"\n[loop]\nmin_judgements = 8\n')
    write_text(home.root / "suites" / "small.yaml", SUITE)
    for name, text in GATES.items():
        write_text(home.root / "gates" / f"{name}.yaml", text)
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(ROWS["instruction"](n)) for n in range(20)))
    for words in (
        ("data", "import", str(file), "--into", "acme"),
        ("train", "acme", "--data", "acme", "--epochs", "1"),
    ):
        done = run_brogue(*words, home=home)
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def shop(first: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    shutil.copytree(first.root, tmp_path / "home", dirs_exist_ok=True)
    with gateway_of(Home(tmp_path / "home")):
        yield Shop(Home(tmp_path / "home"))


def test_rankings_become_a_version_that_goes_live(shop: Shop) -> None:
    shop.say(0, 24)
    found = shop.done("--auto", "--gate", "open")
    assert (found["version"], found["verdict"], found["alias"]) == ("acme@2", "pass", "stable")
    assert list(found["steps"]) == ["collect", "reward", "train", "exam", "gate", "place"]
    registry = Registry(shop.home)
    assert registry.aliases("acme") == {"stable": 2}
    card = registry.resolve("acme")
    assert (card.recipe, card.config["start"], card.dataset) == ("dpo", "acme@1", "acme-round-1")
    assert registry.state("acme").history[-1].who == "brogue retrain"
    assert load_card(shop.home, "acme-round-1").steps[0].counts["kept"] == 24
    exam = exam_files.load(shop.home, found["steps"]["exam"]["exam"])
    assert exam.verdict is not None and exam.judge == "acme-reward@1" and exam.names["against"] == "acme@1"
    assert Path(found["report"]).is_file()


def test_what_a_verdict_leads_to(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.say(0, 12)
    shop.say(20, 6, "comparison")
    shop.say(40, 6, "correction")
    registry = Registry(shop.home)
    assert shop.done("--auto", "--gate", "unsure")["alias"] == "candidate"
    rows = load_rows(shop.home, "acme-round-1")
    assert all(isinstance(row.record, PreferenceRecord) for row in rows), "rankings stand beside comparisons as pairs"
    assert {round(row.weight, 3) for row in rows} == {1, 0.667}
    assert "nothing was said of acme since round 1" in shop.refused(*QUICK, "--auto", "--gate", "unsure")
    _trains_nothing(monkeypatch)
    assert shop.done("--auto", "--gate", "shut")["alias"] is None
    verdict = registry.verdict("acme", 2)
    assert verdict is not None and verdict.result == "fail"
    registry.move("acme", "candidate", None)
    assert shop.done("--canary", "20", "--gate", "open")["alias"] == "canary"
    plan = registry.state("acme").canary
    assert plan is not None and plan.share == 20
    text = shop.retrain(*QUICK[:-1], "--gate", "open", "--seed", "4")
    assert "acme@2 is the candidate; live: brogue adapters promote acme@2" in text.stdout, text.stderr
    assert registry.aliases("acme")["stable"] == 1


def _trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next rounds take the versions of the first one."""
    from assistant.retrain import Steps

    for step, version in (("reward", "acme-reward@1"), ("train", "acme@2")):
        monkeypatch.setattr(Steps, step, lambda *_, name=version: {"version": name, "minutes": 1, "scores": {}})


def test_ppo_learns_from_the_rounds_own_reward_model(shop: Shop) -> None:
    shop.say(0, 24)
    short = ("--train-option", "rounds=2", "--train-option", "max_new_tokens=4")
    done = shop.retrain(*QUICK[:2], "--recipe", "ppo", *short, "--auto", "--gate", "open")
    assert done.returncode == 0, done.stderr
    assert "acme@2 is stable now, instead of acme@1; back: brogue adapters rollback acme" in done.stdout
    assert Registry(shop.home).resolve("acme").config["reward"] == "acme-reward@1"


def test_thumbs_teach_sft_and_the_next_round_takes_only_what_is_new(shop: Shop) -> None:
    shop.say(0, 20, "rating")
    write_text(shop.home.root / "suites" / "small.yaml", "parts: [{measure: repetition, limit: 8}]")
    write_text(shop.home.root / "gates" / "open.yaml", 'items: 1\nrules: ["repetition.*.n >= 1"]')
    found = shop.done("--recipe", "sft", "--auto", "--gate", "open")
    assert found["alias"] == "stable" and "reward" not in found["steps"]
    shop.say(100, 16, "rating")
    again = shop.done("--recipe", "sft", "--auto", "--gate", "open")
    assert again["start"] == "acme@2" and again["steps"]["collect"]["judgements"] == 16
    shop.say(200, 9, "rating")
    assert shop.done("--recipe", "sft", "--gate", "open", "--all")["steps"]["collect"]["judgements"] == 45


def test_what_is_wrong_is_one_line_and_nothing_is_written(shop: Shop) -> None:
    shop.say(0, 3)
    line = shop.refused()
    assert "acme has 3 judgements since acme@1" in line
    assert "dpo can learn from 3 of them; wanted at least 8 (min_judgements in [loop] of brogue.toml)" in line
    assert "--recipe wants one of dpo, ppo, sft, kto; found 'x'" in shop.refused("--recipe", "x")
    assert "wanted one of --auto and --canary" in shop.refused("--auto", "--canary", "5")
    assert "no gate 'g'" in shop.refused("--gate", "g")
    assert "no suite 's'" in shop.refused("--suite", "s")
    assert "no --train-option 'epoch'; have: batch_size, beta, epochs" in shop.refused("--train-option", "epoch=2")
    assert "--train-option: epochs: Input should be" in shop.refused("--train-option", "epochs=x")
    assert "recipe 'dpo' has no use for --kl-target" in shop.refused("--train-option", "kl_target=2")
    assert "--train-option wants NAME=VALUE" in shop.refused("--train-option", "epochs")
    assert "acme has no unfinished round" in shop.refused("--drop")
    shop.home.services_file.unlink()
    assert "start it: brogue up" in shop.refused()
    assert not list((shop.home.root / "loops").glob("acme-*")) and not (shop.home.datasets / "acme-round-1").exists()


def test_a_plan_says_what_would_be_done_and_changes_nothing(shop: Shop) -> None:
    shop.say(0, 24)
    before = _files(shop.home)
    found = json.loads(shop.retrain("--plan", "--json").stdout)
    assert (found["usable"], found["start"]) == (24, "acme@1")
    assert [step["known_by"] for step in found["steps"]] == [
        "always short", "measured with three steps", "measured with three steps",
        "at most, by 32 answers and three steps", "always short", "always short",
    ]  # fmt: skip
    assert all(step["minutes"] >= 0 for step in found["steps"]) and found["unknown"] == []
    assert _files(shop.home) == before, "the answers were asked to see how long they take, and are not kept"
    shop.done("--gate", "open")
    text = shop.retrain("--plan").stdout
    assert "as in round 1" in text and "about " in text


def test_an_unfinished_round_goes_on_with_its_own_command_only(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from assistant.retrain import Steps
    from data.errors import BrogueError

    def away(*_: Any) -> Any:
        raise BrogueError("the engine is away")

    shop.say(0, 24)
    with monkeypatch.context() as broken:
        broken.setattr(Steps, "exam", away)
        assert "the engine is away" in shop.refused(*QUICK, "--gate", "open")
    [state] = loop.rounds(shop.home, "acme")
    assert (state.error, loop.where(state)) == ("the engine is away", "next: exam; it said: the engine is away")
    line = shop.refused("--recipe", "ppo")
    assert "round 1 of acme is not complete" in line and "--train-option epochs=1" in line and "--drop" in line
    made = Registry(shop.home).card("acme", 2)
    found = shop.done("--gate", "open")
    assert found["version"] == "acme@2" and Registry(shop.home).card("acme", 2) == made, "nothing was trained again"
    with loop.alone(shop.home, "acme"):
        assert f"acme is being retrained already (process {os.getpid()})" in shop.refused("--seed", "1")


def test_watching_waits_for_enough_and_goes_on_after_what_went_wrong(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant import cli_retrain

    shop.say(0, 5)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            shop.say(10, 2)  # enough to begin, not enough to learn from
        elif len(pauses) == 2:
            shop.say(20, 20)
        elif len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_retrain, "_pause", pause)
    done = shop.retrain(*QUICK, "--gate", "open", "--watch", "--every", "7")
    assert done.returncode == 130 and pauses == [cli_retrain.POLL_S, cli_retrain.AGAIN_S, cli_retrain.POLL_S]
    assert "acme has 7 judgements" in done.stderr
    assert json.loads(done.stdout)["alias"] == "candidate"


def test_a_round_that_is_killed_at_each_step_ends_as_one_that_was_not(
    first: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    forked = Forked(tmp_path)
    whole, killed = (Shop(Home(tmp_path / name)) for name in ("whole", "killed"))
    words = ("retrain", "acme", *QUICK, "--auto", "--gate", "open")
    for shop in (whole, killed):
        shutil.copytree(first.root, shop.home.root)
        shop.say(0, 24)
    with gateway_of(whole.home), gateway_of(killed.home):
        wanted = forked.start(words, whole.home)
        for plants in ((DieAfter("collect"),), (DieAfter("reward"),), (die_before_the_end,), (DieAfter("train"),),
                       (DieAfter("exam"),), (DieAfter("gate"),), (DieAfter("place"),)):  # fmt: skip
            done = forked.run(words, killed.home, *plants)
            assert done.returncode == -signal.SIGKILL, (plants, done.stderr)
        done = forked.run(words, killed.home)
        assert done.returncode == 0, done.stderr
        theirs, ours = json.loads(wanted().stdout), json.loads(done.stdout)
    for found in (ours, theirs):
        assert (found["version"], found["alias"]) == ("acme@2", "stable")
    assert ours["steps"]["train"]["scores"] == theirs["steps"]["train"]["scores"]
    assert ours["steps"]["exam"]["exam"] == theirs["steps"]["exam"]["exam"]
    states = [_end(shop.home) for shop in (whole, killed)]
    assert states[0] == states[1]
    assert states[0]["versions"] == {"acme": [1, 2], "acme-reward": [1]}, "nothing was trained twice"
    assert all(run.state == "done" for run in runs.all_runs(killed.home))
    assert [move.alias for move in Registry(killed.home).state("acme").history] == ["stable", "stable"]


def test_a_training_that_is_killed_when_its_version_is_there_does_not_make_another(first: Home, tmp_path: Path) -> None:
    home, forked = Home(tmp_path / "home"), Forked(tmp_path)
    shutil.copytree(first.root, home.root)
    words = ("train", "acme", "--data", "acme", "--epochs", "1", "--seed", "9", "--json")
    assert forked.run(words, home, die_before_the_end).returncode == -signal.SIGKILL
    made = Registry(home).card("acme", 2)
    done = forked.run(words, home)
    assert done.returncode == 0 and "acme@2 was complete already" in done.stderr, done.stderr
    assert json.loads(done.stdout) == made.model_dump(mode="json") and Registry(home).versions("acme") == [1, 2]
    assert all(run.state == "done" for run in runs.all_runs(home))


def _end(home: Home) -> dict[str, Any]:
    """What is left of a round that two of them must have in common."""
    registry = Registry(home)
    exam = exam_files.load(home, loop.rounds(home, "acme")[0].came_of("exam", "exam"))
    return {
        "versions": {name: registry.versions(name) for name in registry.adapters()},
        "weights": [registry.card(name, max(registry.versions(name))).files for name in registry.adapters()],
        "aliases": registry.aliases("acme"), "dataset": load_card(home, "acme-round-1").digest,
        "figures": [(one.name, one.arms) for one in exam.measures], "verdict": exam.verdict and exam.verdict.result,
        "runs": len(runs.all_runs(home)),
    }  # fmt: skip


def test_the_command_of_a_round_asks_for_the_same_again() -> None:
    given = {"epochs": 2, "learning_rate": 1e-4, "method_options": {"a b": "it's"}, "method": "lora"}
    asked = loop.Asked(adapter="acme", recipe="ppo", canary=5, everything=True, suite="my suite", gate="g",
                       options=given, seed=3)  # fmt: skip
    words = shlex.split(loop.words(asked))[1:]
    assert words == loop.arguments(asked)
    assert read_options([words[n + 1] for n, word in enumerate(words) if word == "--train-option"]) == given
    assert [word for word in words if word.startswith("--")][:4] == ["--recipe", "--canary", "--all", "--suite"]


def _files(home: Home) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in home.root.rglob("*")
            if path.is_file() and not path.name.startswith(("store.db", "."))}  # fmt: skip
