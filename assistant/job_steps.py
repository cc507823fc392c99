"""What the worker does with one fine-tuning job: look at its files, or train it until its model answers.

Each step writes down what it has done before it does the next, and does nothing twice: who takes the job up goes on.
"""

import io
import threading
import time

from adapters.registry import Registry
from assistant import job_metrics, job_training
from assistant.job_data import InvalidFile, drop_dataset, make_dataset
from assistant.job_serving import NotServed, wait_served
from assistant.job_training import Process
from data.files import RESULTS
from data.home import Home
from data.jobs import Failure, Job, JobEvent, Status
from data.settings import Settings
from data.store_files import Files
from data.store_jobs_work import Work

PERIOD_S = 0.5  # a look at the training and at the job
BEAT_S = 5.0  # a sign of life


class Step:
    """One job in the worker's hands."""

    doing: Status

    def __init__(self, home: Home, settings: Settings, files: Files, registry: Registry, work: Work, job: Job,
                 stopping: threading.Event) -> None:  # fmt: skip
        self._home, self._settings, self._files, self._registry = home, settings, files, registry
        self._work, self._job, self._stopping = work, job, stopping
        self._beat = 0.0

    @classmethod
    def fail(cls, work: Work, job: Job, code: str, message: str, param: str | None = None) -> None:
        """The job has failed."""
        failure = Failure(code=code, message=message, param=param)
        event = JobEvent(level="error", message=f"The job failed: {message}", data=failure.model_dump())
        for expected in ("validating_files", "queued", "running"):
            if work.note(job.id, expected, "failed", [event], error=failure.model_dump(), process=None):
                return

    def _goes_on(self) -> bool:
        """Whether the job is still ours, and still to be done; gives signs of life."""
        if self._stopping.is_set():
            return False
        due = time.monotonic() - self._beat >= BEAT_S
        now = self._work.beat(self._job.id) if due else self._work.look(self._job.id)
        if due:
            self._beat = time.monotonic()
        return now is not None and now.status == self.doing

    def _put_away(self) -> None:
        """Of a cancelled job nothing is kept; of a paused one all."""
        if self._work.is_dropped(self._job.id):
            put_away(self._home, self._job)


class Checking(Step):
    """The files of a new job are looked at and become its dataset."""

    doing: Status = "validating_files"

    def do(self, _died: bool) -> None:
        job = self._job
        try:
            made = make_dataset(self._home, self._files, job.asked, lambda _rows: self._beats())
        except InvalidFile as error:
            self.fail(self._work, job, error.failure.code, error.failure.message, error.failure.param)
            return
        event = JobEvent(message="Files validated, moving job to queued state",
                         data={"training_examples": made.records["train"],
                               "validation_examples": made.records["validation"]})  # fmt: skip
        if not self._work.note(job.id, self.doing, "queued", [event], dataset=made.name):
            self._put_away()

    def _beats(self) -> None:
        self._goes_on()


class Training(Step):
    """A job that is queued, or was begun before, is trained until its model answers."""

    doing: Status = "running"

    def do(self, died: bool) -> None:
        job = self._job
        job_training.stop_leftover(job.found.process)
        if not self._begin(died):
            return
        card = job_training.version_of(self._home, job)
        if card is None:
            if not self._train():
                return
            card = job_training.version_of(self._home, job)
            if card is None:
                self.fail(self._work, job, "server_error", "the training ended without a version; see its log")
                return
        lines = job_training.metrics_of(self._home, job)
        told = JobEvent(message=f"New fine-tuned model created: {job.asked.name}")
        events, step, measured = job_metrics.step_events(lines, *self._told)
        if not self._work.note(
            job.id, "running", None, [*events, *([told] if job.found.version is None else [])], version=card.name,
            step=step, measured=measured, hyperparameters=job_training.chosen(card, job), process=None,
            trained_tokens=job_metrics.trained_tokens(lines), metrics=job_metrics.kept_metrics(lines),
        ):  # fmt: skip
            self._put_away()
            if self._work.is_dropped(job.id):  # at the last moment: no alias means it yet
                self._registry.retire(card.adapter, card.version)
            return
        why = f"fine-tuning job {job.id}"
        self._registry.move(card.adapter, "stable", card.version, who=job.owner or "brogue", why=why)
        self._finish(card.adapter, card.version, job_metrics.step_metrics(lines))

    def _begin(self, died: bool) -> bool:
        """Take the job up. False if it is over: it went down with its worker too often, or a client has said so."""
        job, self._restarts = self._job, self._job.found.restarts + died
        if self._restarts > self._settings.jobs.restarts:
            self.fail(self._work, job, "training_killed", _too_often(self._restarts))
            return False
        said = "Fine-tuning job started" if job.status == "queued" and not job.found.step else None
        if job.status == "running":
            said = "The worker of the job was stopped; the job goes on from its last checkpoint"
        events = [JobEvent(level="warn" if died else "info", message=said)] if said else []
        self._told = (job.found.step, job.found.measured)
        return self._work.note(job.id, job.status, "running", events, restarts=self._restarts)

    def _train(self) -> bool:
        """Train, again after a kill. False without an end: it failed, was cancelled or paused, or we are stopped."""
        while True:
            training = Process(self._home, self._settings, self._job)
            try:
                if not self._followed(training):
                    training.stop()
                    self._put_away()
                    return False
            except BaseException:
                training.stop()
                raise
            self._tell()
            warnings = [JobEvent(level="warn", message=said) for said in training.warnings()]
            if training.done:
                return self._work.note(self._job.id, "running", None, warnings, process=None)
            if not training.was_stopped:
                reason = job_training.failure_of(self._home, self._job, training)
                self._work.note(self._job.id, "running", None, warnings)
                self.fail(self._work, self._job, "training_failed", reason)
                return False
            self._restarts += 1
            most = self._settings.jobs.restarts
            if self._restarts > most:
                self.fail(self._work, self._job, "training_killed", _too_often(self._restarts))
                return False
            said = f"The training was killed; it goes on from its last checkpoint ({self._restarts} of {most} times)"
            event = JobEvent(level="warn", message=said)
            if not self._work.note(self._job.id, "running", None, [event], restarts=self._restarts, process=None):
                self._put_away()
                return False

    def _followed(self, training: Process) -> bool:
        """Wait for its end, telling of its steps; false if the job is not to go on."""
        self._work.note(self._job.id, "running", None, process=training.named)
        while not training.ended():
            if not self._goes_on():
                return False
            self._tell()
            self._stopping.wait(PERIOD_S)
        return True

    def _tell(self) -> None:
        """Events of the steps since the last time, and when the end is to be expected."""
        lines = job_training.metrics_of(self._home, self._job)
        events, *told = job_metrics.step_events(lines, *self._told)
        if tuple(told) == self._told:
            return
        left = job_training.seconds_left(self._home, self._job)
        finish = {} if left is None else {"estimated_finish": int(time.time() + left)}
        if self._work.note(self._job.id, "running", None, events, step=told[0], measured=told[1], **finish):
            self._told = (told[0], told[1])

    def _finish(self, adapter: str, version: int, results: bytes) -> None:
        """The job has succeeded once its model answers."""
        job = self._job
        try:
            if not wait_served(self._home, adapter, version, self._goes_on):
                return
        except NotServed as error:
            self.fail(self._work, job, "model_refused", f"the engine cannot serve the model: {error}")
            return
        kept = self._files.add(job.owner, "step_metrics.csv", RESULTS, io.BytesIO(results), limited=False)
        done = JobEvent(message="The job has successfully completed")
        if not self._work.note(job.id, "running", "succeeded", [done], result_files=(kept.id,)):
            self._files.remove(kept.id)


def put_away(home: Home, job: Job) -> None:
    """Remove what a cancelled job leaves: its checkpoints and its dataset."""
    job_training.drop_run(home, job)
    drop_dataset(home, job.asked.name)


def _too_often(restarts: int) -> str:
    return (
        f"the training was killed {restarts} times; the machine may lack memory for it: try a smaller batch_size, or "
        "shorter examples"
    )
