"""What can go wrong around a training: one clear line each, and the last good state is kept."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters import runs
from adapters.registry import Registry
from data.home import Home, full_disk, write_text
from tests.conftest import Run, run_brogue
from tests.forked import Forked, FullDisk, Stop
from tests.tiny_models import ROWS, tiny_llama

pytestmark = pytest.mark.slow
WORDS = ("train", "a", "--data", "instruction", "--epochs", "3")


class Stopped(NamedTuple):
    """A run that was killed at its eighth step of 15, with the checkpoints of steps 3 and 6."""

    home: Home
    run: str
    forked: Forked

    @property
    def folder(self) -> Path:
        return self.home.runs / self.run

    def resume(self) -> Any:
        return self.forked.run(("runs", "resume", self.run), self.home)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    folder = tmp_path_factory.mktemp("refused")
    home, forked = Home(folder / "home"), Forked(folder)
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny_llama(folder)}"')
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(ROWS["instruction"](n)) for n in range(40)))
    words = ("data", "import", str(folder / "rows.jsonl"), "--as", "instruction", "--into", "instruction")
    assert run_brogue(*words, home=home).returncode == 0
    done = forked.run(WORDS, home, Stop(8, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL, done.stderr
    [run] = runs.all_runs(home)
    assert sorted(path.name for path in (home.runs / run.id).glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    yield Stopped(home, run.id, forked)


@pytest.fixture
def stopped(killed: Stopped, tmp_path: Path) -> Stopped:
    """A copy of it, to be broken."""
    shutil.copytree(killed.home.root, tmp_path / "copy")
    return killed._replace(home=Home(tmp_path / "copy"))


def refused(done: Any) -> str:
    """The one line that a command was refused with."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("brogue: ")]
    return str(line)


def test_another_base_model_does_not_take_a_run_up(stopped: Stopped, brogue: Run, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    other = Path(shutil.copytree(tiny_llama(tmp_path), tmp_path / "other"))
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight.add_(0.01)
    model.save_pretrained(other)
    write_text(stopped.home.settings_file, f'base_model = "{other}"')
    line = refused(brogue("runs", "resume", stopped.run, home=stopped.home))
    assert f"run {stopped.run} began with base model tiny, which has other weights than the present one, other" in line
    assert line.endswith("or train anew: brogue train a --data instruction --recipe sft")
    assert [run.id for run in runs.all_runs(stopped.home)] == [stopped.run] and runs.last_checkpoint(stopped.folder)


@pytest.mark.parametrize(
    ("lost", "first"),
    [
        (("checkpoint-6/optimizer.pt",), 4),
        (("checkpoint-6/adapter_model.safetensors", "base_scores.json", "config.json"), 4),
        (("checkpoint-6/trainer_state.json", "checkpoint-3/rng_state.pth"), 1),
    ],
    ids=["optimiser", "weights", "both"],
)
def test_of_a_folder_that_was_half_deleted_the_last_whole_checkpoint_goes_on(
    stopped: Stopped, lost: tuple[str, ...], first: int
) -> None:
    for name in lost:
        (stopped.folder / name).unlink()
    before = len(losses_of(stopped))
    done = stopped.resume()
    assert done.returncode == 0, done.stderr
    assert losses_of(stopped)[before:] == list(range(first, 16))


def losses_of(stopped: Stopped) -> list[int]:
    """The steps whose loss was written down, in the order in which they were done."""
    lines = map(json.loads, (stopped.folder / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "loss" in line]


def test_without_the_best_state_so_far_an_older_checkpoint_goes_on(stopped: Stopped) -> None:
    state = stopped.folder / "checkpoint-6" / "trainer_state.json"
    told = json.loads(state.read_text())
    assert Path(told["best_model_checkpoint"]).name == "checkpoint-6"
    state.write_text(json.dumps(told | {"best_model_checkpoint": str(stopped.folder / "checkpoint-5")}))
    assert runs.last_checkpoint(stopped.folder) == stopped.folder / "checkpoint-3"


def test_a_home_that_was_moved_finds_the_best_state_in_its_new_place(killed: Stopped, stopped: Stopped) -> None:
    newest = runs.last_checkpoint(stopped.folder)
    assert newest and newest.name == "checkpoint-6"
    said = [json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text()) for folder in
            (killed.folder, stopped.folder)]  # fmt: skip
    assert [Path(state.pop("best_model_checkpoint")).parent for state in said] == [killed.folder, stopped.folder]
    assert said[0] == said[1]


def test_of_two_trainings_of_the_same_command_one_goes_on_and_one_is_told(stopped: Stopped) -> None:
    both = [stopped.forked.start(WORDS, stopped.home) for _ in range(2)]
    done = sorted((ended() for ended in both), key=lambda done: done.returncode)
    assert done[0].returncode == 0, done[0].stderr
    assert f"this very training is running already ({stopped.run}); see: brogue runs list" in refused(done[1])
    assert Registry(stopped.home).versions("a") == [1]


@pytest.mark.parametrize(
    ("bytes", "when", "wanted"),
    [
        (60_000, "", "cannot write to the run's folder"),
        (4_000, "", "cannot write to the run's folder"),
        (4_000, "measuring the adapter", "the disk is full, or a quota or limit is reached"),
    ],
    ids=["optimiser", "weights", "version"],
)
def test_where_no_more_can_be_written_is_one_line_and_the_last_state_goes_on(
    stopped: Stopped, bytes: int, when: str, wanted: str
) -> None:
    line = refused(stopped.forked.run(WORDS, stopped.home, FullDisk(bytes, when)))
    assert wanted in line and "ake room" in line
    assert Registry(stopped.home).versions("a") == []
    assert not [path for path in stopped.home.adapters.rglob("*") if path.is_file()], "nothing half written is left"
    assert runs.last_checkpoint(stopped.folder) == stopped.folder / ("checkpoint-15" if when else "checkpoint-6")


def test_a_full_disk_is_told_from_other_errors() -> None:
    assert "No space left on device" in str(full_disk(OSError(28, "No space left on device", "x")))
    assert full_disk(RuntimeError("I/O error: Disk quota exceeded (os error 122)"))
    assert full_disk(OSError(2, "No such file or directory", "x")) is None and full_disk(ValueError("no")) is None


@pytest.mark.parametrize(
    ("kind", "row", "wanted"),
    [
        ("labelled", {"text": "What is item 3?"}, ":2: no 'label' in this record"),
        ("labelled", {"text": "What is item 3?", "label": ""}, ":2: label is empty"),
        ("rated", {"prompt": "What?", "completion": "Item 3."}, ":2: no 'label' in this record"),
        ("preference", {"prompt": "What?", "chosen": "Item 3."}, ":2: no 'rejected' in this record"),
    ],
)
def test_a_row_without_its_label_is_named_and_nothing_is_imported(
    brogue: Run, home: Home, tmp_path: Path, kind: str, row: dict[str, Any], wanted: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [ROWS[kind](1), row, ROWS[kind](2)])))
    line = refused(brogue("data", "import", str(tmp_path / "rows.jsonl"), "--as", kind, "--into", "some"))
    assert wanted in line
    assert not home.datasets.exists() or not list(home.datasets.iterdir())
