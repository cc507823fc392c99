"""The advisor's trainings: each is `brogue train` in a process of its own, as anybody could type it.

Its memory is free again afterwards, and it is what people would do: the same command makes the same version. A training
goes on from its checkpoint after a kill; one that outlived a killed advisor is waited for.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from adapters import runs
from adapters.registry import AdapterCard, Registry
from assistant.advice_lab import Lab
from data.dataset import DatasetCard
from data.errors import BrogueError, one_line
from data.settings import Frozen

_LOOK_S = 1.0
_PATIENCE_S = 120  # to save a checkpoint


class Training(Frozen):
    """What is trained."""

    adapter: str
    recipe: str
    method: str = "lora"
    system_prompt: str | None = None


def train(lab: Lab, wanted: Training, dataset: DatasetCard) -> AdapterCard:
    """The version of the adapter that learnt from `dataset`; trained if it is not there. Raises `BrogueError`.

    It does not become stable, so nobody is answered by it who does not name it.
    """
    while (pid := _running(lab, wanted, dataset)) is not None:
        lab.tell(f"{wanted.adapter} is being trained already (process {pid}); waiting for it")
        time.sleep(_LOOK_S)
    found = _trained(lab, wanted, dataset)
    if found is not None:
        return found
    _run(lab, wanted, dataset)
    found = _trained(lab, wanted, dataset)
    if found is None:
        raise BrogueError(f"the training of {wanted.adapter} has ended without a version; see {_log(lab, wanted)}")
    return found


def command(lab: Lab, wanted: Training, dataset: DatasetCard) -> list[str]:
    """What stands behind `brogue`."""
    return [
        "train", wanted.adapter, "--data", dataset.name, "--recipe", wanted.recipe, "--method", wanted.method,
        "--seed", str(lab.seed), "--not-stable", f"--system-prompt={wanted.system_prompt or ''}",
    ]  # fmt: skip


def learnt(lab: Lab, card: AdapterCard) -> tuple[int, int]:
    """(numbers that were trained, bytes) of a version, as its files have them."""
    from safetensors import safe_open

    folder, count = Registry(lab.home).folder(card.adapter, card.version), 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  # it is no mapping
        for shape in shapes:
            size = 1
            for side in shape:
                size *= side
            count += size
    return count, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _run(lab: Lab, wanted: Training, dataset: DatasetCard) -> None:
    log = _log(lab, wanted)
    log.parent.mkdir(parents=True, exist_ok=True)
    # A session of its own: Ctrl-C reaches it once, by us, and it can save a checkpoint in peace.
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "assistant.cli", *command(lab, wanted, dataset)], stdin=subprocess.DEVNULL,
            stdout=said, stderr=said, start_new_session=True, env=os.environ | {"BROGUE_HOME": str(lab.home.root)},
        )  # fmt: skip
    told = ""
    try:
        while process.poll() is None:
            if (now := _how_far(lab, wanted, dataset)).partition("%")[0] != told:
                told = now.partition("%")[0]
                lab.tell(now)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
    except BaseException:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
        raise BrogueError(f"{wanted.adapter} could not be trained: {one_line(last.removeprefix('brogue: '))}")


def _how_far(lab: Lab, wanted: Training, dataset: DatasetCard) -> str:
    """In tenths of the way, so that a log of it stays readable."""
    run = _run_of(lab, wanted, dataset)
    what = f"training on {dataset.records['train']} records"
    if run is None or run.progress is None:
        return f"{what}: loading"
    progress = run.progress
    tenths = 10 * progress.step // max(1, progress.steps)
    return f"{what}: {progress.phase}, {10 * tenths}%, {progress.words}"


def _running(lab: Lab, wanted: Training, dataset: DatasetCard) -> int | None:
    run = _run_of(lab, wanted, dataset)
    return run.pid if run is not None else None


def _run_of(lab: Lab, wanted: Training, dataset: DatasetCard) -> runs.Run | None:
    """The run of this very training that goes on now."""
    for path in lab.home.runs.glob(f"{wanted.adapter}-*/{runs.RUN}"):
        run = runs.get(lab.home, path.parent.name)
        asked = (run.asked.adapter, run.asked.dataset_digest)
        if run.state == "running" and asked == (wanted.adapter, dataset.digest):
            return run
    return None


def _trained(lab: Lab, wanted: Training, dataset: DatasetCard) -> AdapterCard | None:
    registry = Registry(lab.home)
    for version in reversed(registry.versions(wanted.adapter)):
        card = registry.card(wanted.adapter, version)
        same = (card.dataset_digest, card.base_sha256, card.recipe, card.method, card.config.get("seed"))
        if same == (dataset.digest, lab.base.sha256, wanted.recipe, wanted.method, lab.seed) and (
            (card.config.get("system_prompt") or None) == ((wanted.system_prompt or "").strip() or None)
        ):
            return card
    return None


def _log(lab: Lab, wanted: Training) -> Path:
    return lab.folder / "logs" / f"{wanted.adapter}.log"
