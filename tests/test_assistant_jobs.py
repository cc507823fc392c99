"""Fine-tuning jobs from upload to answer: OpenAI's client, a real worker and real trainings of a tiny model.

Beside it a gateway over a fake engine, whose adapters say their names. What dies in the middle leaves no trace: the
weights are those of a job that was let alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from adapters.base_model import prepare
from adapters.registry import Registry
from assistant.job_models import HomeTunables
from data.dataset import load_card
from data.home import Home, write_text
from data.jobs import Found
from data.secrets import ENVIRONMENT
from data.settings import load_settings
from data.settings_jobs import FileSettings, JobSettings
from data.store_home import open_store
from data.store_jobs import Jobs
from serve.tuning import Tuning
from tests.conftest import ROOT
from tests.fakes import ADMIN_KEY
from tests.loop_gateway import gateway_of
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.slow

PATIENCE_S = 900  # a timing never fails a test
LONG: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 10, "batch_size": 2}}}


def chats(numbers: range) -> bytes:
    rows = [{"messages": [{"role": "user", "content": f"What is item {n}?"},
                          {"role": "assistant", "content": f"Item {n} is in aisle 3."}]} for n in numbers]  # fmt: skip
    return "\n".join(map(json.dumps, rows)).encode()


def pairs(numbers: range) -> bytes:
    rows = [
        {"input": {"messages": [{"role": "user", "content": f"What is item {n}?"}]},
         "preferred_output": [{"role": "assistant", "content": f"Item {n} is in aisle 3."}],
         "non_preferred_output": [{"role": "assistant", "content": "What is aisle item?"}]}
        for n in numbers
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows)).encode()


class Shop(NamedTuple):
    """A home with a tiny base model, whose gateway and workers come and go."""

    home: Home
    tuning: Tuning
    workers: "list[subprocess.Popen[bytes]]"

    @contextmanager
    def gateway(self) -> Iterator[OpenAI]:
        with gateway_of(self.home, tuning=self.tuning) as url:
            yield OpenAI(base_url=f"{url}/v1", api_key="any")

    def worker(self) -> "subprocess.Popen[bytes]":
        """A worker; a tiny model is no faster on two threads."""
        settings = load_settings(self.home.settings_file).model_dump_json()
        env = os.environ | {"BROGUE_HOME": str(self.home.root), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.home.logs.mkdir(exist_ok=True)
        with (self.home.logs / "jobs.log").open("ab") as log:
            worker = subprocess.Popen([sys.executable, "-m", "assistant.job_worker", settings], env=env, stdout=log,
                                      stderr=log, start_new_session=True)  # fmt: skip
        self.workers.append(worker)
        return worker

    @contextmanager
    def working(self) -> Iterator[None]:
        worker = self.worker()
        yield
        worker.terminate()
        assert worker.wait(120) == 0

    def found(self, id: str) -> Found:
        store = open_store(self.home)
        try:
            return Jobs(store).get(id).found
        finally:
            store.close()

    def wait(self, what: str, true: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := true()):
            log = self.home.logs / "jobs.log"
            assert time.monotonic() < deadline, f"{what} did not come: {log.read_text() if log.exists() else ''}"
            time.sleep(0.05)
        return found

    def ended(self, client: OpenAI, job: FineTuningJob) -> FineTuningJob:
        """The job when it is over."""

        def over() -> FineTuningJob | None:
            now = client.fine_tuning.jobs.retrieve(job.id)
            return now if now.status in ("succeeded", "failed", "cancelled") else None

        return self.wait("the job's end", over)  # type: ignore[no-any-return]

    def killed(self, job: FineTuningJob, steps: int) -> None:
        """Kill its training when it has done so many steps more."""
        begin = self.found(job.id).step
        self.wait(f"step {begin + steps}", lambda: self.found(job.id).step >= begin + steps)
        process = self.found(job.id).process
        assert process is not None
        os.kill(process[0], signal.SIGKILL)

    def weights(self, name: str | None) -> str:
        return Registry(self.home).resolve(str(name)).files["adapter_model.safetensors"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def shop(home: Home, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    workers: list[subprocess.Popen[bytes]] = []
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny}"\n[jobs]\nrestarts = 2\n')
    base = prepare(str(tiny), home, print)
    tunables = HomeTunables(home, "base", base.sha256)
    yield Shop(home, Tuning(FileSettings(), JobSettings(), tunables), workers)
    for worker in workers:  # where a test failed
        worker.terminate()
        worker.wait(60)


def messages(client: OpenAI, job: FineTuningJob) -> list[str]:
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    return [event.message for event in reversed(events) if event.type == "message" and event.level != "warn"]


def test_the_quickstart_with_a_training_and_a_worker_that_are_killed_and_a_gateway_that_is_restarted(
    shop: Shop,
) -> None:
    with shop.gateway() as client:
        training = client.files.create(file=("mine.jsonl", chats(range(40))), purpose="fine-tune")
        validation = client.files.create(file=("held.jsonl", chats(range(40, 48))), purpose="fine-tune")
        create = client.fine_tuning.jobs.create
        calm, rough = (
            create(model="base", training_file=training.id, validation_file=validation.id, suffix=suffix, seed=3,
                   method=LONG) for suffix in ("calm", "rough")
        )  # fmt: skip
        worker = shop.worker()
        done = shop.ended(client, calm)
        assert done.status == "succeeded", (done.error, messages(client, calm))
        name = str(done.fine_tuned_model)
        reply = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "What is item 3?"}])
        assert reply.choices[0].message.content == f"{name}@1 {name}@1", "it answers at once"
        assert messages(client, calm) == [
            f"Created fine-tuning job: {calm.id}", f"Validating training file: {training.id}",
            "Files validated, moving job to queued state", "Fine-tuning job started",
            f"New fine-tuned model created: {name}", "The job has successfully completed",
        ]  # fmt: skip
        assert shop.home.datasets.joinpath(name).is_dir() and load_card(shop.home, name).records["validation"] == 8
        steps = [e for e in client.fine_tuning.jobs.list_events(calm.id) if e.type == "metrics"]
        told = [event.message for event in reversed(steps)]
        assert told[0].startswith("Step 2/200: training loss=") and any("validation loss=" in line for line in told)
        [results] = done.result_files
        lines = client.files.content(results).text.splitlines()
        assert lines[0].startswith("step,train_loss,") and len(lines) == 201
        [point] = client.fine_tuning.jobs.checkpoints.list(calm.id)
        assert point.fine_tuned_model_checkpoint == f"{name}@1" and point.metrics.full_valid_loss is not None
        assert done.hyperparameters.to_dict() == {"n_epochs": 10, "batch_size": 2, "learning_rate_multiplier": 1.0}
        assert done.trained_tokens and done.trained_tokens > 1000
        pairs_file = client.files.create(file=("pairs.jsonl", pairs(range(8))), purpose="fine-tune")
        better = create(model=name, training_file=pairs_file.id, method={"type": "dpo"}, seed=1)
        shop.killed(rough, 30)
        shop.wait("a new training", lambda: shop.found(rough.id).restarts == 1)
        shop.wait("40 steps more", lambda: shop.found(rough.id).step >= 70)
        worker.kill()  # its training lives on, and is stopped by the next worker
        worker.wait(10)
    with shop.gateway() as client, shop.working():
        done = shop.ended(client, rough)
        assert done.status == "succeeded", (done.error, messages(client, rough))
        assert shop.weights(done.fine_tuned_model) == shop.weights(name), "as if nothing had happened"
        assert shop.found(rough.id).restarts == 2
        said = [event.message for event in client.fine_tuning.jobs.list_events(rough.id, limit=100)]
        assert "The training was killed; it goes on from its last checkpoint (1 of 2 times)" in said
        assert any(line.startswith("The worker of the job was stopped") for line in said)
        data = [event.to_dict()["data"] for event in client.fine_tuning.jobs.list_events(rough.id, limit=100)]
        trained = [int(one["step"]) for one in data if one and "train_loss" in one][::-1]
        assert trained == sorted(set(trained)), "no step is told twice"
        done = shop.ended(client, better)
        assert done.status == "succeeded", (done.error, messages(client, better))
        card = Registry(shop.home).resolve(str(done.fine_tuned_model))
        assert (card.recipe, card.config["start"]) == ("dpo", f"{name}@1")
