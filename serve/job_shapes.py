"""Fine-tuning jobs, their events and checkpoints as OpenAI's clients expect them."""

from typing import Any, Literal

from data.frozen import Frozen
from data.jobs import ENDED, Failure, Job, JobEvent, Setting

ORGANIZATION = "brogue"  # OpenAI's object has a field for it


class MethodPart(Frozen):
    """The settings of a method."""

    hyperparameters: dict[str, Setting]


class MethodObject(Frozen):
    """By which method a job trains."""

    type: Literal["supervised", "dpo"]
    supervised: MethodPart | None = None
    dpo: MethodPart | None = None


class JobObject(Frozen):
    """OpenAI's fine_tuning.job object."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: Failure | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: dict[str, Setting]
    model: str
    organization_id: str = ORGANIZATION
    result_files: tuple[str, ...]
    seed: int
    status: str
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    estimated_finish: int | None
    integrations: tuple[str, ...] = ()
    metadata: dict[str, str] | None
    method: MethodObject
    user_provided_suffix: str | None


class EventObject(Frozen):
    """OpenAI's fine_tuning.job.event object."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class CheckpointObject(Frozen):
    """OpenAI's fine_tuning.job.checkpoint object."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


class JobList(Frozen):
    """A page of jobs."""

    object: Literal["list"] = "list"
    data: tuple[JobObject, ...]
    has_more: bool


class EventList(Frozen):
    """A page of events."""

    object: Literal["list"] = "list"
    data: tuple[EventObject, ...]
    has_more: bool


class CheckpointList(Frozen):
    """A page of checkpoints."""

    object: Literal["list"] = "list"
    data: tuple[CheckpointObject, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


def job_object(job: Job) -> JobObject:
    """The job as a client sees it. `hyperparameters` that were "auto" are told as they were chosen."""
    asked, found = job.asked, job.found
    settings = asked.hyperparameters | found.hyperparameters
    part = MethodPart(hyperparameters=settings)
    method = MethodObject.model_validate({"type": asked.method, asked.method: part.model_dump()})
    running = job.status == "running"
    return JobObject(
        id=job.id, created_at=int(job.created.timestamp()), error=found.error,
        fine_tuned_model=asked.name if job.status == "succeeded" else None,
        finished_at=int(job.finished.timestamp()) if job.finished and job.status in ENDED else None,
        hyperparameters={name: value for name, value in settings.items() if name != "beta"},
        model=asked.model, result_files=found.result_files, seed=asked.seed, status=job.status,
        trained_tokens=found.trained_tokens, training_file=asked.training_file, validation_file=asked.validation_file,
        estimated_finish=found.estimated_finish if running else None, metadata=asked.metadata, method=method,
        user_provided_suffix=asked.suffix,
    )  # fmt: skip


def event_object(job: str, event: JobEvent) -> EventObject:
    """An event; its id is the job's with its number, so that a page can go on behind it."""
    assert event.created is not None  # the store has written it
    return EventObject(
        id=f"ftevent-{job.partition('-')[2]}-{event.number}", created_at=int(event.created.timestamp()),
        level=event.level, message=event.message, type=event.kind, data=event.data,
    )  # fmt: skip


def event_number(job: str, id: str) -> int | None:
    """The number of the event that has this id, if it can be one of the job's."""
    head, _, number = id.rpartition("-")
    fits = head == f"ftevent-{job.partition('-')[2]}" and number.isascii() and number.isdecimal() and len(number) < 9
    return int(number) if fits else None


def checkpoint_objects(job: Job) -> list[CheckpointObject]:
    """The states that can be used: that with the lowest validation loss, or the last one, which the job ends with."""
    found = job.found
    if job.status != "succeeded" or found.version is None or job.finished is None:
        return []
    return [CheckpointObject(
        id=f"ftckpt_{job.id.partition('-')[2]}-{found.step}", created_at=int(job.finished.timestamp()),
        fine_tuned_model_checkpoint=found.version, fine_tuning_job_id=job.id, metrics=found.metrics,
        step_number=int(found.metrics.get("step", found.step)),
    )]  # fmt: skip
