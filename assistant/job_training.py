"""A job's training: `brogue train` in a process of its own, its memory free again afterwards, and what its run tells.

The same command goes on from the last checkpoint, so a training that was killed or stopped is simply started again.
"""

import os
import subprocess
import sys
from typing import Any

from adapters import runs
from adapters.base_model import prepare
from adapters.recipes import find
from adapters.registry import AdapterCard, Registry
from assistant.services import Child
from data.errors import one_line
from data.home import Home
from data.jobs import Job, Setting
from data.settings import Settings
from serve.process import stop_process_group

COMMAND = (sys.executable, "-m", "assistant.cli")
RANK = 8  # of `brogue train`, if the engine takes as much
STOP_S = 10.0  # to let the running step end and to save


class Process:
    """The training process of one job."""

    def __init__(self, home: Home, settings: Settings, job: Job) -> None:
        self._home, self._job = home, job
        self._log = home.logs / f"job-{job.id}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, *words(home, settings, job)], env=os.environ | {"BROGUE_HOME": str(home.root)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        child = Child.of(self._process.pid)
        self.named = None if child is None else (child.pid, child.created)  # for whoever comes after us

    def ended(self) -> bool:
        """Whether it is over, in whichever way."""
        return self._process.poll() is not None

    @property
    def done(self) -> bool:
        """Whether it ended as it should."""
        return self._process.returncode == 0

    @property
    def was_stopped(self) -> bool:
        """Whether somebody ended it from outside: it can be taken up again."""
        return self._process.returncode < 0 or "training stopped; a checkpoint is kept" in self.last_line

    def stop(self) -> None:
        """Let the running step end and a checkpoint be written; what takes too long is killed."""
        if not self.ended():
            stop_process_group(self._process.pid, STOP_S)
        self._process.wait()

    @property
    def last_line(self) -> str:
        """What it said last, without paths of this machine."""
        lines = [line for line in self._lines() if line.strip()]
        said = lines[-1].removeprefix("brogue: ") if lines else f"it ended with {self._process.returncode}"
        return one_line(said.replace(f"{self._home.root}/", ""), 400)

    def warnings(self) -> list[str]:
        """What it warned of: rows that are left out, too few of them."""
        told = [line for line in self._lines() if line.startswith("warning: ") or " left out" in line]
        # Without the commands that they advise: whoever reads this asks over HTTP.
        return [one_line(line.removeprefix("warning: ").partition("; brogue ")[0]) for line in told]

    def _lines(self) -> list[str]:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []


def words(home: Home, settings: Settings, job: Job) -> list[str]:
    """What stands behind `brogue`. Raises `BrogueError` where the base model is not there."""
    asked, recipe = job.asked, "dpo" if job.asked.method == "dpo" else "sft"
    given = [
        "train", asked.name, "--data", asked.name, "--recipe", recipe, "--seed", str(asked.seed), "--not-stable",
        f"--system-prompt={asked.system_prompt or ''}",
        "--rank", str(min(RANK, settings.engine.max_lora_rank)),
    ]  # fmt: skip
    if asked.start is not None:
        given += ["--from", asked.start]
    for name, option in (("n_epochs", "--epochs"), ("batch_size", "--batch-size"), ("beta", "--beta")):
        if (value := asked.hyperparameters.get(name, "auto")) != "auto":
            given += [option, str(value)]
    if (factor := asked.hyperparameters.get("learning_rate_multiplier", "auto")) != "auto":
        base = prepare(settings.base_model, home, lambda _: None)
        given += ["--learning-rate", repr(find(recipe).peak_learning_rate(base.weight_bytes) * float(factor))]
    return given


def stop_leftover(process: tuple[int, float] | None) -> None:
    """Stop a training that a killed worker left behind."""
    child = None if process is None else Child(pid=process[0], created=process[1])
    if child is not None and child.is_alive():
        stop_process_group(child.pid, STOP_S)


def version_of(home: Home, job: Job) -> AdapterCard | None:
    """The version that came of the job, if it is there already."""
    registry = Registry(home)
    versions = registry.versions(job.asked.name)
    return registry.card(job.asked.name, versions[-1]) if versions else None


def run_of(home: Home, job: Job) -> str | None:
    """The id of the job's run."""
    found = sorted(path.parent.name for path in home.runs.glob(f"{job.asked.name}-*/{runs.RUN}"))
    return found[-1] if found else None


def drop_run(home: Home, job: Job) -> None:
    """Remove the checkpoints of a training that nothing is to come of."""
    run = run_of(home, job)
    if run is not None and runs.get(home, run).state in ("stopped", "failed"):
        runs.cancel(home, run)


def failure_of(home: Home, job: Job, training: Process) -> str:
    """Why the training failed, for the client."""
    run = run_of(home, job)
    if run is not None and (reason := runs.get(home, run).reason):
        return f"{reason}; try a lower learning_rate_multiplier"
    return training.last_line


def chosen(card: AdapterCard, job: Job) -> dict[str, Setting]:
    """The hyperparameters as they were, by OpenAI's names."""
    found: dict[str, Setting] = {"n_epochs": card.config["epochs"], "batch_size": card.config["batch_size"]}
    if job.asked.hyperparameters["learning_rate_multiplier"] == "auto":
        found["learning_rate_multiplier"] = 1.0
    return found | ({"beta": card.config["beta"]} if job.asked.method == "dpo" else {})


def seconds_left(home: Home, job: Job) -> float | None:
    """How long the training will take from now on, as its run tells."""
    run = run_of(home, job)
    progress = runs.get(home, run).progress if run is not None else None
    return progress.seconds_left if progress is not None and progress.step else None


def metrics_of(home: Home, job: Job) -> list[dict[str, Any]]:
    """The log lines of the job's run."""
    run = run_of(home, job)
    return runs.metrics(home, run) if run is not None else []
