"""The runs of training under `<home>/runs/`: what each was asked, how far it came, whether it runs now. Pure files.

A run's folder is named by a hash of what was asked, so that the same command takes an unfinished one up again. While
it runs, its process holds a lock there, which the kernel lets go of when the process dies.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from adapters import processes
from adapters.holding import held, holder
from adapters.progress import METRICS, TrainProgress
from data.errors import BrogueError, unknown
from data.home import Home, write_json
from data.settings import Frozen

RUN, END, DONE, LOCK, CURVE = "run.json", "end.json", "done", "lock", "curves.png"
PROGRESS = "progress.json"  # while it runs
_PARTS = ("adapter_model*", "optimizer*", "scheduler*", "rng_state*")  # of a checkpoint
State = Literal["running", "stopped", "failed", "done"]


class Asked(Frozen):
    """What a run was asked to do."""

    adapter: str
    dataset: str
    dataset_digest: str
    base_model: str
    base_sha256: str
    config: dict[str, Any]
    created: str


class Run(Frozen):
    """A run as it stands."""

    id: str
    state: State
    asked: Asked
    step: int
    steps: int | None
    loss: float | None
    version: str | None = None  # what came of it
    reason: str | None = None  # why it failed
    pid: int | None = None
    progress: TrainProgress | None = None  # of one that runs, as it was told last

    @property
    def recipe(self) -> str:
        return str(self.asked.config.get("recipe", ""))


def folder_of(home: Home, asked: Asked) -> Path:
    """The folder of this very training: an unfinished one of equal settings is taken up again."""
    # An option that a later Brogue adds is none, false or empty until it is given: older unfinished runs go on.
    given = {
        name: value for name, value in asked.config.items() if not (value is None or value is False or value == {})
    }
    what = [asked.adapter, asked.dataset_digest, asked.base_sha256, given]
    stem = f"{asked.adapter}-{hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]}"
    number = 1
    while (home.runs / f"{stem}-{number}" / DONE).exists():
        number += 1
    return home.runs / f"{stem}-{number}"


@contextmanager
def running(run: Path, asked: Asked) -> Iterator[None]:
    """This process trains in `run`; another that wants the same is refused. How it ends is written down.

    Of several that train together the first one holds the run.
    """
    if not processes.is_main():
        processes.wait()
        yield
        return
    with held(run / LOCK, lambda: f"this very training is running already ({run.name}); see: brogue runs list"):
        if not (run / RUN).exists():
            write_json(run / RUN, asked.model_dump(mode="json"))
        (run / END).unlink(missing_ok=True)
        (run / PROGRESS).unlink(missing_ok=True)
        processes.wait()
        yield


def noting(run: Path, on_progress: Callable[[TrainProgress], None]) -> Callable[[TrainProgress], None]:
    """`on_progress`, and how far it is into the run's folder, for those who look on from another process."""
    noted = 0.0

    def note(progress: TrainProgress) -> None:
        nonlocal noted
        on_progress(progress)
        if time.monotonic() - noted >= 1:
            noted = time.monotonic()
            with suppress(OSError):  # a full disk is told where the checkpoint is written
                write_json(run / PROGRESS, progress.model_dump())

    return note


def finish(run: Path, version: str) -> None:
    """The run is complete: its checkpoints go, its metrics stay."""
    write_json(run / END, {"version": version})
    for checkpoint in run.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    (run / PROGRESS).unlink(missing_ok=True)
    (run / DONE).touch()


def fail(run: Path, reason: str) -> None:
    """The run went wrong; what was saved stays."""
    write_json(run / END, {"reason": reason})


def last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint whose best state so far is there too; those that a kill left half go."""
    complete = {}
    for folder in run.glob("checkpoint-*"):
        state = _json(folder / "trainer_state.json")  # the last file that is written
        # (Where a checkpoint has folders, as of DeepSpeed, its files have other names.)
        if state and all(any(folder.glob(part)) or any(folder.glob("*/")) for part in _PARTS):
            complete[folder] = str(state.get("best_model_checkpoint") or folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    whole = [folder for folder, best in complete.items() if run / Path(best).name in complete]
    newest = max(whole, key=lambda folder: int(folder.name.rsplit("-", 1)[1]), default=None)
    if newest and (best := run / Path(complete[newest]).name) != Path(complete[newest]):  # the home was moved
        file = newest / "trainer_state.json"
        write_json(file, _json(file) | {"best_model_checkpoint": str(best)})
    return newest


def all_runs(home: Home) -> list[Run]:
    """All runs, the newest first; folders of an older kind, which do not say what was asked, are passed over."""
    found = [run for path in home.runs.glob(f"*/{RUN}") if (run := _read(path.parent)) is not None]
    return sorted(found, key=lambda run: (run.asked.created, run.id), reverse=True)


def get(home: Home, id: str) -> Run:
    """One run, or an error that names those there are."""
    run = _read(home.runs / id) if "/" not in id and "\0" not in id else None
    if run is None:
        raise unknown("run", id, [run.id for run in all_runs(home)], "See: brogue runs list")
    return run


def cancel(home: Home, id: str) -> Run:
    """Stop a running one as Ctrl-C would (a checkpoint is kept), or drop an unfinished one with its checkpoints."""
    run = get(home, id)
    if run.state == "done":
        raise BrogueError(f"run {id} is complete ({run.version}); there is nothing to cancel")
    if run.pid is not None:
        os.kill(run.pid, signal.SIGTERM)
    else:
        shutil.rmtree(home.runs / id)
    return run


def metrics(home: Home, id: str) -> list[dict[str, Any]]:
    """The trainer's log lines by step; of a step that was done twice, the later."""
    by_step: dict[tuple[int, bool], dict[str, Any]] = {}
    try:
        lines = (home.runs / id / METRICS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # a kill cut the last line off
        by_step[(int(fields.get("step", 0)), "loss" in fields)] = fields
    return [by_step[key] for key in sorted(by_step)]


def asked_now(adapter: str, dataset: str, digest: str, base_model: str, base_sha256: str,
              config: dict[str, Any]) -> Asked:  # fmt: skip
    """What is asked for now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Asked(adapter=adapter, dataset=dataset, dataset_digest=digest, base_model=base_model,
                 base_sha256=base_sha256, config=config, created=now)  # fmt: skip


def _read(folder: Path) -> Run | None:
    try:
        asked = Asked.model_validate_json((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    end = _json(folder / END)
    pid = holder(folder / LOCK)
    done = (folder / DONE).exists()
    state: State = "done" if done else "running" if pid else "failed" if end.get("reason") else "stopped"
    trained = [line for line in metrics(Home(folder.parent.parent), folder.name) if "loss" in line]
    last = trained[-1] if trained else {}
    return Run(id=folder.name, state=state, asked=asked, step=int(last.get("step", 0)), steps=last.get("steps"),
               loss=last.get("loss"), version=end.get("version"), reason=end.get("reason"), pid=pid,
               progress=_progress(folder) if state == "running" else None)  # fmt: skip


def _progress(folder: Path) -> TrainProgress | None:
    try:
        return TrainProgress.model_validate_json((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
