"""OpenAI's /v1/fine_tuning/jobs. The gateway only reads and writes the store; a worker of its own does the work.

A job belongs to whoever created it; for others it does not exist.
"""

import asyncio
import re
import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request

from adapters.registry import Registry
from data.errors import BrogueError, UnknownName
from data.files import TRAINING, new_id
from data.jobs import Asked, Job
from data.store import StoreDown
from data.store_files import Files, unknown_file
from data.store_jobs import Jobs, TooManyJobs, WrongState, unknown_job
from serve.identity import Caller
from serve.job_request import SUFFIX, JobRequest
from serve.job_shapes import (
    CheckpointList,
    EventList,
    JobList,
    JobObject,
    checkpoint_objects,
    event_number,
    event_object,
    job_object,
)
from serve.openai_errors import ApiError
from serve.tuning import Door, Start, require_role, whose

_METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)
Limit = Annotated[int, Query(ge=1, le=100)]


def job_routes(door: Door) -> APIRouter:
    """The routes under /v1/fine_tuning/jobs."""
    routes = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
    desk = _Desk(door)
    _add_jobs(routes, desk, door)
    _add_steering(routes, desk, door)
    _add_pages(routes, desk, door)
    return routes


def _add_jobs(routes: APIRouter, desk: "_Desk", door: Door) -> None:
    client = door.access.client

    @routes.post("")
    async def create(wanted: JobRequest, caller: Annotated[Caller, Depends(client)]) -> JobObject:
        """Create a job. `model`: the base model, an assistant, or an adapter or version to go on from."""
        require_role(caller, door.tuning).require_model(wanted.model)
        return job_object(await asyncio.to_thread(desk.create, caller, wanted))

    @routes.get("")
    async def listed(
        request: Request, caller: Annotated[Caller, Depends(client)], after: str | None = None, limit: Limit = 20
    ) -> JobList:
        """Your jobs, the newest first. `metadata[k]=v` asks for those with that, `metadata=null` for those without."""
        wanted = {m[1]: value for key, value in request.query_params.items() if (m := _METADATA.fullmatch(key))}
        none = request.query_params.get("metadata") == "null"
        found = await asyncio.to_thread(desk.listed, caller, limit, after, wanted, none)
        return JobList(data=tuple(map(job_object, found.items)), has_more=found.more)

    @routes.get("/{id}")
    async def one(id: str, caller: Annotated[Caller, Depends(client)]) -> JobObject:
        """One of your jobs."""
        return job_object(await asyncio.to_thread(desk.found, id, caller))


def _add_steering(routes: APIRouter, desk: "_Desk", door: Door) -> None:
    client = door.access.client

    @routes.post("/{id}/cancel")
    async def cancel(id: str, caller: Annotated[Caller, Depends(client)]) -> JobObject:
        """End a job for good; what it has learnt so far goes."""
        return job_object(await asyncio.to_thread(desk.steer, id, caller, "cancel"))

    @routes.post("/{id}/pause")
    async def pause(id: str, caller: Annotated[Caller, Depends(client)]) -> JobObject:
        """Stop a job; its checkpoint is kept."""
        return job_object(await asyncio.to_thread(desk.steer, id, caller, "pause"))

    @routes.post("/{id}/resume")
    async def resume(id: str, caller: Annotated[Caller, Depends(client)]) -> JobObject:
        """Let a paused job go on from its checkpoint."""
        return job_object(await asyncio.to_thread(desk.steer, id, caller, "resume"))


def _add_pages(routes: APIRouter, desk: "_Desk", door: Door) -> None:
    client = door.access.client

    @routes.get("/{id}/events")
    async def events(
        id: str, caller: Annotated[Caller, Depends(client)], after: str | None = None, limit: Limit = 20
    ) -> EventList:
        """What happened to a job, the newest first."""
        job = await asyncio.to_thread(desk.found, id, caller)
        before = None if after is None else event_number(job.id, after) or 0  # an unknown one has none behind it
        found = await asyncio.to_thread(desk.jobs.events, job.id, limit, before)
        return EventList(data=tuple(event_object(job.id, event) for event in found.items), has_more=found.more)

    @routes.get("/{id}/checkpoints")
    async def checkpoints(
        id: str, caller: Annotated[Caller, Depends(client)], after: str | None = None, limit: Limit = 10
    ) -> CheckpointList:
        """The states of a job that can be used as models."""
        found = checkpoint_objects(await asyncio.to_thread(desk.found, id, caller)) if after is None else []
        shown = tuple(found[:limit])
        ends = (shown[0].id, shown[-1].id) if shown else (None, None)
        return CheckpointList(data=shown, has_more=len(found) > limit, first_id=ends[0], last_id=ends[1])


class _Desk:
    """What the routes do with the store. Every method waits for it: call in a thread."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @property
    def jobs(self) -> Jobs:
        """The jobs of the store."""
        return Jobs(self._door.recorder.store())

    def found(self, id: str, caller: Caller) -> Job:
        """The job, if it is there for the caller."""
        job = self.jobs.get(id)
        if not caller.may_see(job.owner):
            raise unknown_job(id)
        return job

    def listed(self, caller: Caller, limit: int, after: str | None, metadata: dict[str, str], none: bool) -> Any:
        """A page of the caller's jobs."""
        if none and metadata:
            raise ApiError(400, "wanted metadata=null or metadata[k]=v, not both", param="metadata")

        def fits(job: Job) -> bool:
            return not job.asked.metadata if none else metadata.items() <= (job.asked.metadata or {}).items()

        return self.jobs.listed(whose(caller), limit, after, fits if none or metadata else None)

    def steer(self, id: str, caller: Caller, how: Literal["cancel", "pause", "resume"]) -> Job:
        """Cancel, pause or resume. (Not 409: clients try such a request again.)"""
        job, jobs = self.found(id, caller), self.jobs
        try:
            return {"cancel": jobs.cancel, "pause": jobs.pause, "resume": jobs.resume}[how](job.id)
        except WrongState as error:
            raise ApiError(400, str(error), code="invalid_job_state") from error

    def create(self, caller: Caller, wanted: JobRequest) -> Job:
        """Create a job from a request, once it is clear that it could be done."""
        for param in ("training_file", "validation_file"):
            self._check_file(caller, param, getattr(wanted, param))
        if wanted.suffix is not None and not re.fullmatch(SUFFIX, wanted.suffix):
            message = "suffix: lower-case letters, digits, '.', '_' and '-' only, a letter or digit first; found "
            raise ApiError(400, f"{message}'{wanted.suffix}'", code="invalid_suffix", param="suffix")
        start = self._start(wanted.model)
        method = wanted.wanted
        asked = Asked(
            model=wanted.model, name=self._name(wanted.suffix or start.stem), method=method.type,
            hyperparameters=method.hyperparameters, training_file=wanted.training_file,
            validation_file=wanted.validation_file, suffix=wanted.suffix,
            seed=secrets.randbelow(2**31) if wanted.seed is None else wanted.seed, metadata=wanted.metadata,
            start=start.version, system_prompt=start.system_prompt,
        )  # fmt: skip
        try:
            return self.jobs.create(caller.owner, asked, self._door.tuning.jobs.waiting)
        except TooManyJobs as error:
            raise ApiError(429, str(error), code="too_many_jobs") from error

    def _check_file(self, caller: Caller, param: str, id: str | None) -> None:
        if id is None:
            return
        files = Files(self._door.recorder.store(), self._door.home)
        try:
            file = files.get(id)
            if not caller.may_see(file.owner):
                raise unknown_file(id)
        except UnknownName as error:
            raise ApiError(404, f"{param}: {error}", code="file_not_found", param=param) from error
        if file.purpose != TRAINING:
            message = f"{param}: {id} has the purpose '{file.purpose}'; wanted one uploaded with '{TRAINING}'"
            raise ApiError(400, message, code="invalid_purpose", param=param)

    def _start(self, model: str) -> Start:
        try:
            return self._door.tuning.models.start(model)
        except StoreDown:
            raise
        except UnknownName as error:
            raise ApiError(404, str(error), code="model_not_found", param="model") from error
        except BrogueError as error:
            raise ApiError(400, str(error), code="model_not_available", param="model") from error

    def _name(self, stem: str) -> str:
        """A name for the new model that no adapter has."""
        taken = set(Registry(self._door.home).adapters())
        while (name := f"ft-{stem}-{new_id('x')[2:10]}") in taken:
            pass
        return name
