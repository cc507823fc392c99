"""Fine-tuning jobs: what was asked, what came of it, what happened. data/store_jobs.py keeps them.

A job goes validating_files → queued → running → succeeded, failed or cancelled; from the first three it can be paused.
"""

from typing import Any, Literal

from pydantic import AwareDatetime

from data.frozen import Frozen

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
Method = Literal["supervised", "dpo"]
Level = Literal["info", "warn", "error"]
Setting = int | float | Literal["auto"]


class Asked(Frozen):
    """What is to be trained; it does not change."""

    model: str  # as the client named it
    name: str  # of the adapter that comes of it, and of its dataset
    method: Method
    hyperparameters: dict[str, Setting]  # OpenAI's names
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int = 0
    metadata: dict[str, str] | None = None
    start: str | None = None  # `name@n`: the version that training goes on from; none: the base model
    system_prompt: str | None = None


class Failure(Frozen):
    """Why a job failed, in OpenAI's shape."""

    code: str
    message: str
    param: str | None = None


class Found(Frozen):
    """What came of a job so far."""

    dataset: str | None = None  # once the files are validated
    process: tuple[int, float] | None = None  # of the training: its id and when it began
    restarts: int = 0  # so many times the training was killed
    step: int = 0  # the last one that is told of by an event
    measured: int = 0  # and the last one after which validation rows were measured
    hyperparameters: dict[str, Setting] = {}  # as they were chosen
    estimated_finish: int | None = None
    version: str | None = None  # once it is trained; it may not answer yet
    trained_tokens: int | None = None
    metrics: dict[str, float] = {}  # of the step whose weights the version has, by OpenAI's names
    result_files: tuple[str, ...] = ()
    error: Failure | None = None


class Job(Frozen):
    """A job as it stands."""

    id: str
    created: AwareDatetime
    owner: str | None
    status: Status
    asked: Asked
    found: Found
    finished: AwareDatetime | None = None
    worker: str | None = None


class JobEvent(Frozen):
    """Something that happened to a job."""

    number: int = 0  # its place among the job's events; the store gives it
    created: AwareDatetime | None = None
    level: Level = "info"
    kind: Literal["message", "metrics"] = "message"
    message: str
    data: dict[str, Any] = {}
