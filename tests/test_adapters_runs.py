"""What is known of a training from outside: its figures, its curves, how far it is; in trackers too, if asked."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters import runs, tracking
from adapters.curves import panels
from adapters.progress import MEASURING, METRICS, TrainProgress, duration
from adapters.tracking import Tracker, check
from data.errors import BrogueError
from data.home import Home
from tests.conftest import Run
from tests.fakes import ADMIN_KEY, FakeGateway

PNG = b"\x89PNG\r\n"
STEP = TrainProgress(step=3, steps=60, loss=1.234, tokens_per_s=350.4, seconds_left=500)


def a_run(home: Home, recipe: str = "sft", lines: int = 12, adapter: str = "reed-voice") -> Path:
    """The folder of a run that nobody trains, with so many log lines."""
    asked = runs.asked_now(adapter, "shop", "d", "base", "0", {"recipe": recipe, "epochs": 3})
    folder = runs.folder_of(home, asked)
    with runs.running(folder, asked), (folder / METRICS).open("w") as file:
        for step in range(1, lines + 1):
            line: dict[str, Any] = {"step": step, "steps": lines, "loss": 2.0 / step}
            if recipe == "ppo":
                line |= {"reward": step / 10, "kl": step / 2, "tokens": 20.0 + step}
            file.write(json.dumps(line) + "\n")
            if recipe == "sft" and step % 4 == 0:
                file.write(json.dumps({"step": step, "steps": lines, "eval_loss": 2.5 / step}) + "\n")
    return folder


# --- curves ---


def test_reward_kl_and_length_are_drawn_where_there_are_any_and_the_loss_always(home: Home) -> None:
    a_run(home), a_run(home, "ppo")
    shown = {run.recipe: panels(runs.metrics(home, run.id)) for run in runs.all_runs(home)}
    assert [panel.title.split(" ")[0] for panel in shown["sft"]] == ["Loss"]
    assert [curve.name for curve in shown["sft"][0].curves] == ["training", "validation"]
    assert [panel.title.split(" ")[0] for panel in shown["ppo"]] == ["Reward", "KL", "Length", "Loss"]
    assert shown["ppo"][0].words == "Reward by step: reward from 0.1 to 1.2"


def test_a_long_run_is_thinned_and_what_is_no_number_is_left_out() -> None:
    lines: list[dict[str, Any]] = [{"step": step, "loss": float(step % 2)} for step in range(10_000)]
    [panel] = panels(lines)
    assert len(panel.curves[0].steps) == 400 and set(panel.curves[0].values) == {0.48, 0.52}, "means of 25"
    [panel] = panels([{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": "x"}])
    assert panel.curves[0].steps == (1,)
    assert panels([{"step": 1, "loss": float("inf")}]) == []


@pytest.mark.parametrize("recipe", ["sft", "ppo"])
def test_show_names_the_picture_in_the_runs_folder_and_draws_it_anew_when_there_is_more(
    home: Home, brogue: Run, recipe: str
) -> None:
    folder = a_run(home, recipe)
    shown = brogue("runs", "show", folder.name)
    assert f"curves: {folder / 'curves.png'}" in shown.stdout
    first = (folder / "curves.png").read_bytes()
    assert first.startswith(PNG) and len(first) > 10_000
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps({"step": 13, "steps": 13, "loss": 9.0}) + "\n")
    as_json = json.loads(brogue("runs", "show", folder.name, "--json").stdout)
    assert as_json["curves"] == str(folder / "curves.png") and len(as_json["metrics"]) > 12
    assert (folder / "curves.png").read_bytes() != first


def test_a_run_without_figures_has_no_picture(home: Home, brogue: Run) -> None:
    folder = a_run(home, lines=0)
    shown = brogue("runs", "show", folder.name)
    assert shown.returncode == 0 and "curves" not in shown.stdout


# --- how far it is ---


def test_progress_is_told_in_words() -> None:
    assert STEP.words == "loss 1.234, 350 tokens/s, 8 min left"
    told = STEP.model_copy(update={"figures": {"reward": 0.5, "KL": 3.21}, "tokens_per_s": 0})
    assert told.words == "loss 1.234, reward 0.50, KL 3.21, 8 min left"
    assert [duration(s) for s in (3.2, 99, 600, 12_000)] == ["3 s", "99 s", "10 min", "3 h 20 min"]


def test_a_run_that_goes_on_says_how_far_it_is_and_one_that_ended_does_not(home: Home, brogue: Run) -> None:
    told: list[TrainProgress] = []
    folder = a_run(home)
    with runs.running(folder, runs.get(home, folder.name).asked):
        assert runs.get(home, folder.name).progress is None
        note = runs.noting(folder, told.append)
        note(STEP)
        note(STEP.model_copy(update={"step": 4}))  # within the same second: told, but not written
        assert runs.get(home, folder.name).progress == STEP
        assert "training 3/60: loss 1.234, 350 tokens/s, 8 min left" in brogue("runs", "show", folder.name).stdout
    assert [progress.step for progress in told] == [3, 4]
    assert runs.get(home, folder.name).progress is None


def test_without_a_terminal_a_measurement_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant import console

    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("assistant.console.time.monotonic", lambda: next(clock))
    with console.training_bar("reed-voice") as update:
        for step in range(1, 10):
            update(TrainProgress(step=step, steps=9, loss=None, tokens_per_s=0, seconds_left=9, phase=MEASURING))
        update(STEP.model_copy(update={"step": 60}))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reed-voice: measuring 3/9, 9 s left" and 2 <= len(lines) <= 5
    assert lines[-1] == "reed-voice: step 60/60, loss 1.234, 350 tokens/s, 8 min left"


def test_on_a_terminal_a_measurement_has_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from assistant import console

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with console.training_bar("reed-voice") as update:
        update(TrainProgress(step=1, steps=9, loss=None, tokens_per_s=0, seconds_left=9, phase=MEASURING))
        update(STEP)
        update(STEP.model_copy(update={"loss": None, "figures": {"reward": 1.5}}))
    assert "reed-voice, measuring" in screen.getvalue()
    assert "3/60" in screen.getvalue() and "reward 1.50" in screen.getvalue()


# --- over HTTP ---


def test_the_gateway_tells_admins_of_the_runs_and_their_curves(home: Home) -> None:
    sft, ppo = a_run(home), a_run(home, "ppo")
    empty = a_run(home, lines=0, adapter="new")
    gateway = FakeGateway(home)
    with TestClient(gateway.app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        listed = client.get("/v1/runs").json()
        assert {run["id"] for run in listed["data"]} == {sft.name, ppo.name, empty.name}
        assert {run["recipe"] for run in listed["data"]} == {"sft", "ppo"}
        one = client.get(f"/v1/runs/{ppo.name}").json()
        assert one["state"] == "stopped" and one["step"] == 12
        assert one["curves"][0]["curves"][0]["values"][0] == 0.1
        picture = client.get(f"/v1/runs/{ppo.name}/curves.png")
        assert picture.headers["content-type"] == "image/png" and picture.content.startswith(PNG)
        for path in ("nobody", "nobody/curves.png", f"{empty.name}/curves.png"):
            reply = client.get(f"/v1/runs/{path}")
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
        for path in ("", f"/{ppo.name}", f"/{ppo.name}/curves.png"):
            assert client.get(f"/v1/runs{path}", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_loss_that_is_no_number_is_null_over_http(home: Home) -> None:
    folder = a_run(home)
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps({"step": 13, "steps": 20, "loss": float("nan")}) + "\n")
    gateway = FakeGateway(home)
    with TestClient(gateway.app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        assert client.get(f"/v1/runs/{folder.name}").json()["loss"] is None


# --- trackers ---


def test_a_tracker_that_is_not_installed_is_one_line() -> None:
    with pytest.raises(BrogueError, match="names no_such_tracker, which is not installed; install it: pip install"):
        check(["no_such_tracker"])


class Written(list[Any]):
    """A stand-in for the package trackio: what is logged into it; `failing` makes it fail."""

    failing = ""

    def module(self) -> Any:
        module: Any = types.ModuleType("trackio")
        module.init = lambda **options: self._do("init", options)
        module.log = lambda figures: self._do("log", figures)
        module.finish = lambda: self._do("finish")
        module.config = types.SimpleNamespace(update=lambda *_, **__: None, __setitem__=None)
        module.context_vars = types.SimpleNamespace(current_space_id=types.SimpleNamespace(get=lambda: None))
        return module

    def _do(self, what: str, *more: Any) -> None:
        print(f"trackio: {what}")  # as it does
        if self.failing == what:
            raise ConnectionError("no tracker here")
        self.append((what, *more))


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Written:
    """transformers' integration writes into the stand-in."""
    from transformers.integrations import integration_utils

    written = Written()
    monkeypatch.setitem(sys.modules, "trackio", written.module())
    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: True)
    return written


def tracked(home: Home, said: list[str]) -> Tracker:
    return Tracker(["trackio"], home.runs / "reed-1", object(), said.append)


@pytest.mark.slow
def test_what_is_logged_reaches_the_tracker_under_the_runs_name_and_what_it_says_is_no_result(
    home: Home, trackio: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    tracker = tracked(home, said)
    tracker.log(1, {"loss": 2.0, "eval_loss": 1.0})
    tracker.close()
    assert [entry[0] for entry in trackio] == ["init", "log", "finish"] and not said
    assert (trackio[0][1]["name"], trackio[0][1]["project"], trackio[0][1]["space_id"]) == ("reed-1", "brogue", None)
    said_by_it = capsys.readouterr()
    assert "trackio: log" in said_by_it.err and not said_by_it.out
    assert trackio[1][1] == {"train/loss": 2.0, "eval/loss": 1.0, "train/global_step": 1}


@pytest.mark.slow
def test_a_tracker_that_cannot_be_reached_ends_the_training_before_it_begins(home: Home, trackio: Written) -> None:
    trackio.failing = "init"
    with pytest.raises(BrogueError, match=r"trackio cannot be written to \(no tracker here\); mend it, or take"):
        tracked(home, [])


@pytest.mark.slow
def test_a_tracker_that_fails_later_is_said_once_and_the_training_goes_on(home: Home, trackio: Written) -> None:
    said: list[str] = []
    tracker = tracked(home, said)
    trackio.failing = "log"
    for step in (1, 2):
        tracker.log(step, {"loss": 2.0})
    tracker.close()
    assert len(said) == 1 and "The training goes on; its figures are in metrics.jsonl" in said[0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_mlflow_keeps_files_in_the_home_folder_unless_it_writes_elsewhere(
    home: Home, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    made: list[tuple[str, str]] = []
    module: Any = types.ModuleType("mlflow")
    module.get_experiment_by_name = lambda name: name if made else None
    module.create_experiment = lambda name, artifact_location: made.append((name, artifact_location))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY",
                 "TRACKIO_DIR"):  # fmt: skip
        monkeypatch.setenv(name, "")  # so that what is set here ends with this test
        monkeypatch.delenv(name)
    if elsewhere:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    tracking._stay_here(home.runs / "reed-1")
    for _ in range(2):
        tracking._files_stay_here(home.root)
    assert made == ([] if elsewhere else [("brogue", (home.root / "mlflow").as_uri())])
