"""A training that is killed, killed within a save, and stopped by Ctrl-C, each at a step drawn by lot, ends as one
that was let alone: the same weights, the same figures, the same rows in each step. Real processes, a tiny model."""

import json
import random
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from adapters import runs
from adapters.registry import Registry
from data.home import Home, write_text
from tests.conftest import run_brogue
from tests.forked import DieInSave, Forked, Plant, Recorded, Stop, save_often
from tests.tiny_models import ROWS, tiny_llama

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """What a recipe is trained on here."""

    recipe: str
    data: str
    more: tuple[str, ...] = ("--epochs", "3")
    steps: int = 12
    file: int = 0  # the kill within a save: of which of the files that torch writes; 0: none

    @property
    def name(self) -> str:
        return f"{self.recipe}{'-head' if '--head' in self.more else ''}-{self.data}"


ROUNDS = ("--reward", "taste@1", "--rounds", "8", "--batch-size", "4", "--max-new-tokens", "4")
CASES = [
    Case("sft", "instruction", file=1),
    Case("instruct", "instruction"),
    Case("labelled", "labelled"),
    Case("labelled", "labelled", ("--epochs", "3", "--head"), file=2),
    Case("dpo", "preference", file=3),
    Case("kto", "rated"),
    Case("orpo", "preference"),
    Case("simpo", "preference"),
    Case("reward", "preference"),
    Case("reward", "ranking"),
    Case("ppo", "instruction", ROUNDS, 8, file=1),
    Case("rloo", "instruction", ROUNDS, 8),
    Case("grpo", "instruction", ROUNDS, 8),
]


class Shop(NamedTuple):
    """A home with a dataset of every kind and a reward model, and where its trainings are started."""

    home: Home
    forked: Forked

    def train(self, adapter: str, case: Case, *plants: Plant) -> Any:
        words = ("train", adapter, "--data", case.data, "--recipe", case.recipe, *case.more, "--seed", "5", "--json")
        return self.forked.start(words, self.home, save_often, *plants)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("interrupted")
    home, forked = Home(folder / "home"), Forked(folder)
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny_llama(folder)}"')
    for kind in sorted({case.data for case in CASES}):
        file = folder / f"{kind}.jsonl"
        file.write_text("\n".join(json.dumps(ROWS[kind](n)) for n in range(40)))
        done = run_brogue("data", "import", str(file), "--as", kind, "--into", kind, home=home)
        assert done.returncode == 0, done.stderr
    shop = Shop(home, forked)
    done = shop.train("taste", Case("reward", "preference", ("--epochs", "1")))()
    assert done.returncode == 0, done.stderr
    yield shop


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_training_that_was_killed_and_stopped_ends_as_one_that_was_not(shop: Shop, case: Case) -> None:
    lot, name = random.Random(case.name), f"a-{case.name}"
    first, last = lot.randint(3, case.steps // 2), lot.randint(case.steps // 2 + 2, case.steps - 2)
    seen, wanted = (Recorded(shop.home.root / f"{case.name}.{which}") for which in ("seen", "wanted"))
    whole = shop.train(f"whole-{case.name}", case, wanted)  # beside the others
    done = shop.train(name, case, seen, Stop(first, signal.SIGKILL))()
    assert done.returncode == -signal.SIGKILL, done.stderr
    if case.file:
        done = shop.train(name, case, seen, DieInSave(case.file))()
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = shop.train(name, case, seen, Stop(last, signal.SIGINT))()
    assert done.returncode == 1 and " kept. Go on from it with the same command" in done.stderr, done.stderr
    assert Registry(shop.home).versions(name) == [], "no half-trained version is there"
    [run] = [run for run in runs.all_runs(shop.home) if run.asked.adapter == name]
    assert run.state == "stopped"
    done = shop.forked.run(("runs", "resume", run.id, "--json"), shop.home, save_often, seen)
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads(done.stdout), json.loads(whole().stdout)
    assert ours["files"]["adapter_model.safetensors"] == theirs["files"]["adapter_model.safetensors"]
    assert ours["scores"] == theirs["scores"]
    assert seen.steps() == wanted.steps(), "each step learnt from the same rows, those that were done again too"
    done_again = len(seen.file.read_text().splitlines()) - len(wanted.file.read_text().splitlines())
    assert 0 <= done_again < case.steps, "it did not begin again"


def test_patience_counts_measurements_of_earlier_processes_too() -> None:
    from transformers import TrainerControl, TrainerState

    from adapters.trainer_watch import Patience

    state, arguments = TrainerState(), SimpleNamespace()
    for number, loss in enumerate((3.0, 2.0, 2.5, 2.4, 2.0, 2.1)):
        state.log_history += [{"loss": 1.0}, {"eval_loss": loss}]
        control = TrainerControl()
        Patience(4).on_evaluate(arguments, state, control)  # each in a process of its own
        assert control.should_training_stop == (number == 5)


def test_a_gradient_that_is_no_number_stops_before_that_state_is_saved() -> None:
    from transformers import TrainerControl, TrainerState

    from adapters.trainer_watch import Guard

    guard, control = Guard(), TrainerControl(should_save=True)
    guard.on_log(SimpleNamespace(), TrainerState(global_step=3), control, {"loss": 2.0, "grad_norm": float("nan")})
    assert guard.reason == "the gradient of step 3 is no number" and not control.should_save
