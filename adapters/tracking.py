"""A training's figures in TensorBoard, MLflow or Trackio as well (`[training] report_to` in brogue.toml).

transformers' integrations do the writing. What they write stays in the home folder unless the tracker's own environment
variables (MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID, …) name another place: nothing leaves the machine by itself.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapters.progress import METRICS
from data.errors import BrogueError, one_line

PROJECT = "brogue"
_FAILED = "{name} cannot be written to ({why}); mend it, or take {name} out of report_to in brogue.toml"


def check(names: Sequence[str]) -> None:
    """Raises `BrogueError` if the package of one of them is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise BrogueError(
                f"training.report_to in brogue.toml names {name}, which is not installed; install it: pip install "
                f"{name}, or take it out of report_to"
            )


class Tracker:
    """Hands log lines on to the trackers. One that fails at the start ends the training, one that fails later is left
    out and said: hours of training do not hang on it."""

    def __init__(
        self, names: Sequence[str], run: Path, model: Any, say: Callable[[str], None], arguments: Any = None
    ) -> None:
        """`model` is what is trained; `arguments`: transformers' `TrainingArguments` of the trainer, if it has any."""
        self._say, self._open = say, dict[str, Any]()
        if not names:
            return
        from transformers import TrainerState, TrainingArguments
        from transformers.integrations import get_reporting_integration_callbacks

        _stay_here(run)
        arguments = arguments or TrainingArguments(output_dir=str(run), report_to=[], use_cpu=True)
        arguments.run_name, arguments.project = run.name, PROJECT
        self._given = {"args": arguments, "control": None, "model": model}
        self._state = TrainerState(is_local_process_zero=True, is_world_process_zero=True)
        for name, callback in zip(names, get_reporting_integration_callbacks(list(names)), strict=True):
            try:
                with redirect_stdout(sys.stderr):  # stdout is the result's
                    if name == "mlflow":
                        _files_stay_here(run.parent.parent)
                    self._open[name] = callback()
                    self._open[name].on_train_begin(state=self._state, **self._given)
            except Exception as error:  # whatever the tracker's own library raises
                raise BrogueError(_FAILED.format(name=name, why=one_line(error, 160))) from error

    def log(self, step: int, figures: dict[str, Any]) -> None:
        """One log line of the trainer."""
        if self._open:
            self._state.global_step = step
            self._each("on_log", logs=dict(figures))

    def close(self) -> None:
        """The training has ended, in whatever way."""
        self._each("on_train_end")

    def _each(self, what: str, **more: Any) -> None:
        for name, callback in list(self._open.items()):
            try:
                with redirect_stdout(sys.stderr):
                    getattr(callback, what)(state=self._state, **self._given, **more)
            except Exception as error:  # whatever the tracker's own library raises
                del self._open[name]
                why = _FAILED.format(name=name, why=one_line(error, 160))
                self._say(f"warning: {why}. The training goes on; its figures are in {METRICS} of the run's folder")


def _stay_here(run: Path) -> None:
    """Where the trackers write if nobody has told them otherwise, and no statistics for their makers."""
    home = run.parent.parent
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run / "tensorboard")
    os.environ.setdefault("MLFLOW_TRACKING_URI", _database(home))
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("TRACKIO_DIR", str(home / "trackio"))


def _database(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def _files_stay_here(home: Path) -> None:
    """MLflow keeps a run's files under the folder that a command happens to run in, unless its experiment says where.

    Not for a server of the user's own, nor an experiment that is there already.
    """
    import mlflow  # type: ignore[import-not-found]

    name = os.environ["MLFLOW_EXPERIMENT_NAME"]
    if os.environ["MLFLOW_TRACKING_URI"] == _database(home) and mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, artifact_location=(home / "mlflow").as_uri())
