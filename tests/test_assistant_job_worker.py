"""The jobs' worker beside a gateway over a fake engine; what it trains with is a stand-in (tests/fake_training.py)."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from adapters.registry import Registry
from assistant import job_training
from assistant.job_worker import Worker, is_dead, own_name
from assistant.services import Child
from data.dataset import iter_rows
from data.home import Home
from data.jobs import Found
from data.judgements import now
from data.secrets import ENVIRONMENT
from data.settings import load_settings
from data.store_home import open_store
from data.store_jobs import Jobs
from data.store_jobs_work import Work
from tests.conftest import ROOT
from tests.fake_training import REFUSE
from tests.fakes import ADMIN_KEY, add_assistant
from tests.loop_gateway import gateway_of
from tests.test_data_store_jobs import set_row

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "tests.fake_training")


def chat(question: str = "Hi", answer: str = "Hello") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def pair(question: str) -> dict[str, Any]:
    return {"input": {"messages": [{"role": "user", "content": question}]},
            "preferred_output": [{"role": "assistant", "content": "Hello"}],
            "non_preferred_output": [{"role": "assistant", "content": "Go away"}]}  # fmt: skip


GOOD = [chat(f"Question {n}", f"Answer {n}") for n in range(3)]


class Desk:
    """A home with a gateway, a client, and workers that come and go."""

    def __init__(self, home: Home, client: OpenAI) -> None:
        self.home, self.client = home, client
        self.jobs = client.fine_tuning.jobs
        self.store = open_store(home)

    def upload(self, rows: list[Any]) -> str:
        content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
        return self.client.files.create(file=("chats.jsonl", content), purpose="fine-tune").id

    def create(self, rows: list[Any] = GOOD, model: str = "base", **more: Any) -> FineTuningJob:
        return self.jobs.create(model=model, training_file=self.upload(rows), **more)

    @contextmanager
    def working(self) -> Iterator[Worker]:
        worker = Worker(self.home, load_settings(self.home.settings_file), self.store)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join()

    def found(self, job: FineTuningJob) -> Found:
        return Jobs(self.store).get(job.id).found

    def status(self, job: FineTuningJob) -> str:
        return str(self.jobs.retrieve(job.id).status)

    def ended(self, job: FineTuningJob) -> FineTuningJob:
        wait_until(lambda: self.status(job) in ("succeeded", "failed", "cancelled"))
        return self.jobs.retrieve(job.id)

    def told(self, job: FineTuningJob, kind: str = "message") -> list[str]:
        return [event.message for event in self.jobs.list_events(job.id, limit=100) if event.type == kind][::-1]

    def fate(self, job: FineTuningJob, what: str, steps: str) -> None:
        """At which steps the job's training `dies`, or at which it `holds` (none: it goes on)."""
        path = self.home.root / f"{Jobs(self.store).get(job.id).asked.name}.{what}"
        path.write_text(steps) if steps else path.unlink()

    def held(self, job: FineTuningJob, step: int) -> int:
        """The training's process, held at this step."""
        self.fate(job, "holds", str(step))
        wait_until(lambda: self.found(job).step == step)
        process = self.found(job).process
        assert process is not None
        return process[0]


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def desk(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(job_training, "COMMAND", COMMAND)
    home.create()
    home.settings_file.write_text("[jobs]\nrestarts = 1\n")
    with gateway_of(home) as url:
        desk = Desk(home, OpenAI(base_url=f"{url}/v1", api_key="any"))
        yield desk
        desk.store.close()


def test_a_job_goes_from_files_to_a_model_that_answers(desk: Desk) -> None:
    held = desk.upload([chat("Held out")])
    job = desk.create(suffix="acme", validation_file=held, seed=11,
                      hyperparameters={"n_epochs": 2, "batch_size": 1})  # fmt: skip
    with desk.working():
        done = desk.ended(job)
    assert done.status == "succeeded", (done.error, desk.told(job))
    name = str(done.fine_tuned_model)
    assert name == f"ft-acme-{name[-8:]}"
    reply = desk.client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
    assert reply.choices[0].message.content == f"{name}@1 {name}@1"
    assert desk.told(job) == [
        f"Created fine-tuning job: {job.id}", f"Validating training file: {job.training_file}",
        "Files validated, moving job to queued state", "Fine-tuning job started",
        f"New fine-tuned model created: {name}", "The job has successfully completed",
    ]  # fmt: skip
    steps = desk.told(job, "metrics")
    assert steps[0] == "Step 1/40: training loss=4.00" and steps[-2:] == [
        "Step 40/40: training loss=0.10", "Step 40/40: validation loss=0.12"
    ] and len(steps) == 42  # fmt: skip
    rows = [(row.split, row.record.messages[0].content) for row in iter_rows(desk.home, name)]  # type: ignore[union-attr]
    assert rows == [*(("train", f"Question {n}") for n in range(3)), ("validation", "Held out")]
    words = Registry(desk.home).resolve(name).config["words"]
    assert {key: words[key] for key in ("--epochs", "--batch-size", "--seed", "--recipe")} == {
        "--epochs": "2", "--batch-size": "1", "--seed": "11", "--recipe": "sft"
    }  # fmt: skip
    assert (done.trained_tokens, done.hyperparameters.n_epochs) == (400, 4), "as it was trained, says the version"
    lines = desk.client.files.content(done.result_files[0]).text.splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert lines[20] == "20,0.2,,0.25," and len(lines) == 41
    [point] = desk.jobs.checkpoints.list(job.id)
    assert (point.step_number, point.metrics.valid_loss) == (40, 0.125)
    assert Registry(desk.home).state(name).history[-1].why == f"fine-tuning job {job.id}"


def test_pairs_are_learnt_by_dpo_from_the_assistants_prompt(desk: Desk) -> None:
    add_assistant(desk.home, "plain", "system_prompt: Be plain.\n")
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}
    job = desk.create([pair("One"), pair("Two")], "plain", method=method)
    with desk.working():
        done = desk.ended(job)
    assert done.status == "succeeded", (done.error, desk.told(job))
    words = Registry(desk.home).resolve(str(done.fine_tuned_model)).config["words"]
    assert (words["--recipe"], words["--beta"], "--epochs" in words) == ("dpo", "0.3", False)
    assert done.method is not None and done.method.dpo is not None and done.method.dpo.hyperparameters is not None
    assert done.method.dpo.hyperparameters.n_epochs == 4


FAULTY: list[tuple[list[Any], str, str]] = [
    ([*GOOD, chat("Four", "")], "line 4: ", "turn 2 is empty"),
    ([*GOOD, '{"messages": ['], "line 4: ", "not valid JSON"),
    ([GOOD[0], {"messages": [{"role": "user", "content": "x"}]}], "line 2: ", "the last turn is not by 'assistant'"),
    ([GOOD[0]], "", "it holds 1 examples; wanted at least 2"),
    ([pair("One"), pair("Two")], "", "looks like preference; the method 'supervised' wants"),
    ([{"a": 1}], "", "cannot tell what its records are"),
    ([chat() | {"tools": [{"type": "function"}]}, chat()], "line 1: ", "'tools' cannot be learnt from here"),
    ([{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]}],
     "line 1: ", "has the weight 0"),
]  # fmt: skip


def test_a_fault_in_a_file_ends_the_job_with_its_line(desk: Desk) -> None:
    made = [desk.create(rows) for rows, _, _ in FAULTY[:4]]
    held = desk.create(validation_file=desk.upload([GOOD[0], "{"]))
    with desk.working():
        failed = [desk.ended(job) for job in made]
        made += [desk.create(rows) for rows, _, _ in FAULTY[4:]]
        failed += [desk.ended(job) for job in made[4:]]
        other = desk.ended(held)
    for job, (_, line, said) in zip(failed, FAULTY, strict=True):
        assert job.status == "failed" and job.error is not None and job.fine_tuned_model is None
        assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file"), job.error
        assert job.error.message.startswith("chats.jsonl") and line in job.error.message, job.error
        assert said in job.error.message and str(desk.home.root) not in job.error.message, job.error
        assert "--" not in job.error.message, "no advice for who types commands"
        assert desk.told(job)[-1] == f"The job failed: {job.error.message}"
    assert other.error is not None and other.error.param == "validation_file" and "line 2" in other.error.message
    assert [path.name for path in desk.home.datasets.glob("*")] == [], "nothing half made is left"


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_but_not_for_ever(desk: Desk) -> None:
    once, twice = desk.create(), desk.create()
    desk.fate(once, "dies", "12")
    desk.fate(twice, "dies", "8 16")
    with desk.working():
        assert desk.ended(once).status == "succeeded"
        failed = desk.ended(twice)
    assert "The training was killed; it goes on from its last checkpoint (1 of 1 times)" in desk.told(once)
    steps = [int(line.split("/")[0].removeprefix("Step ")) for line in desk.told(once, "metrics") if "training" in line]
    assert steps == list(range(1, 41)), "each step is told once"
    assert failed.status == "failed" and failed.error is not None
    assert (failed.error.code, "killed 2 times" in failed.error.message) == ("training_killed", True)


def test_a_worker_that_ends_lets_go_and_the_next_one_goes_on(desk: Desk) -> None:
    job = desk.create()
    with desk.working():
        desk.held(job, 8)
    assert desk.status(job) == "running" and Jobs(desk.store).get(job.id).worker is None
    before = desk.found(job)
    assert before.step == 8 and before.process is None
    with desk.working():
        assert desk.ended(job).status == "succeeded"
    assert desk.found(job).restarts == 0, "nobody was killed"
    assert Registry(desk.home).versions(str(desk.jobs.retrieve(job.id).fine_tuned_model)) == [1]


def test_what_a_killed_worker_left_behind_is_stopped_and_taken_over(desk: Desk) -> None:
    job, gone = desk.create(), desk.create()
    name = own_name().rsplit(":", 2)[0] + ":999999999:1.5:queued"  # of a worker that died on this machine
    with desk.working() as worker:
        wait_until(lambda: desk.found(job).dataset and desk.found(gone).dataset)
        worker.stop()
    left, dead = [], Work(desk.store, name)
    for one in (job, gone):
        set_row(desk.store, one.id, status="running", worker=name, beat=now())
        training = job_training.Process(desk.home, load_settings(desk.home.settings_file), Jobs(desk.store).get(one.id))
        assert dead.note(one.id, "running", process=training.named)
        left.append(training)
    desk.jobs.cancel(gone.id)
    with desk.working():
        assert desk.ended(job).status == "succeeded"
    assert all(training.ended() for training in left)
    assert desk.found(job).restarts == 1 and desk.status(gone) == "cancelled"
    assert Registry(desk.home).versions(Jobs(desk.store).get(gone.id).asked.name) == []
    assert list(desk.home.datasets.glob("*")) == [desk.home.datasets / Jobs(desk.store).get(job.id).asked.name]


def test_a_paused_job_keeps_its_checkpoint_and_a_cancelled_one_nothing(desk: Desk) -> None:
    job = desk.create()
    with desk.working():
        pid = desk.held(job, 6)
        desk.jobs.pause(job.id)
        wait_until(lambda: Jobs(desk.store).get(job.id).worker is None)
        assert Child.of(pid) is None, "its training has ended"
        desk.fate(job, "holds", "8")
        desk.jobs.resume(job.id)
        desk.held(job, 8)
        assert [line[:7] for line in desk.told(job, "metrics")] == [f"Step {n}/" for n in range(1, 9)], "it went on"
        desk.jobs.cancel(job.id)
        wait_until(lambda: Jobs(desk.store).get(job.id).worker is None)
        next_one = desk.ended(desk.create())
    assert desk.status(job) == "cancelled" and next_one.status == "succeeded"
    name = Jobs(desk.store).get(job.id).asked.name
    assert not (desk.home.datasets / name).exists() and list(desk.home.runs.glob(f"{name}-*")) == []
    assert Registry(desk.home).versions(name) == []
    assert desk.told(job)[-3:] == ["Fine-tuning job paused", "Fine-tuning job resumed", "Fine-tuning job cancelled"]


def test_a_refusal_of_the_training_is_the_jobs_error(desk: Desk) -> None:
    add_assistant(desk.home, "hopeless", f"system_prompt: {REFUSE}\n")
    job = desk.create(model="hopeless")
    with desk.working():
        failed = desk.ended(job)
    name = Jobs(desk.store).get(job.id).asked.name
    assert failed.error is not None and failed.error.code == "training_failed"
    assert failed.error.message == f"datasets/{name}: nothing can be learnt from it"


def test_a_job_waits_for_a_gateway_to_load_its_model(desk: Desk) -> None:
    job = desk.create()
    services = desk.home.services_file.read_text()
    desk.home.services_file.unlink()  # no gateway is running
    with desk.working():
        wait_until(lambda: desk.found(job).version is not None)
        time.sleep(1)
        assert desk.status(job) == "running", "it has succeeded only when it answers"
        desk.home.services_file.write_text(services)
        assert desk.ended(job).status == "succeeded"


def test_a_worker_knows_by_name_whether_another_one_lives() -> None:
    assert not is_dead(f"{own_name()}:queued")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    node = own_name().rsplit(":", 2)[0]
    assert is_dead(f"{node}:{ended.pid}:1.5:queued")
    assert not is_dead(f"another-{node}:{ended.pid}:1.5:queued") and not is_dead("strange")
