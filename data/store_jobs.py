"""Fine-tuning jobs in the store, as clients see and steer them. data/store_jobs_work.py has the worker's side.

A client's word counts at once: a job that is cancelled or paused has that status when the call returns, and the worker,
which looks at it every moment, stops what it does.
"""

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName
from data.files import is_id, new_id
from data.jobs import ENDED, Asked, Job, JobEvent, Status
from data.judgements import now
from data.store import Store
from data.store_pages import Page, page
from data.store_schema import JobEventRow, JobRow
from data.store_text import storable, written

_WAITING: tuple[Status, ...] = ("validating_files", "queued", "running", "paused")
_MANY = 200  # jobs looked at together where they are filtered by their metadata


class WrongState(BrogueError):
    """The job is in no state in which this can be done."""


class TooManyJobs(BrogueError):
    """The owner has as many unfinished jobs as they may have."""


class Jobs:
    """The jobs of a store. Every method is one transaction: call off the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, owner: str | None, asked: Asked, most: int) -> Job:
        """A new job, whose files are looked at next. Raises `TooManyJobs` for one more than `most` unfinished ones."""
        with self._store.writing() as session:
            query = select(func.count()).select_from(JobRow)
            waiting = session.scalar(query.where(JobRow.owner == owner, JobRow.status.in_(_WAITING))) or 0
            if waiting >= most:
                raise TooManyJobs(f"{waiting} jobs are unfinished; wait until one has ended, or cancel one")
            row = JobRow(id=new_id("ftjob"), created=now(), owner=owner, status="validating_files",
                         asked=written(asked.model_dump(mode="json"), None), found={})  # fmt: skip
            session.add(row)
            session.flush()
            add_events(session, row, [
                JobEvent(message=f"Created fine-tuning job: {row.id}"),
                JobEvent(message=f"Validating training file: {asked.training_file}"),
            ])  # fmt: skip
            return job_of(row)

    def get(self, id: str) -> Job:
        """The job of that id. Raises `UnknownName`."""
        with self._store.reading() as session:
            return job_of(known_job(session, id))

    def listed(self, owner: str | None, limit: int, after: str | None,
               wanted: Callable[[Job], bool] | None = None) -> Page[Job]:  # fmt: skip
        """A page of an owner's jobs (none: of everybody's), the newest first; of them those that are `wanted`."""
        query = select(JobRow)
        if owner is not None:
            query = query.where(JobRow.owner == owner)
        with self._store.reading() as session:
            if wanted is None:
                rows = page(session, query, JobRow, after, limit)
                return Page([job_of(row) for row in rows.items], rows.more)
            found: list[Job] = []
            while True:
                rows = page(session, query, JobRow, after, _MANY)
                found += filter(wanted, map(job_of, rows.items))
                if not rows.more or len(found) > limit:
                    return Page(found[:limit], len(found) > limit)
                after = rows.items[-1].id

    def events(self, id: str, limit: int, before: int | None) -> Page[JobEvent]:
        """A page of a job's events, the newest first; of number below `before`. Raises `UnknownName`."""
        with self._store.reading() as session:
            known_job(session, id)
            query = select(JobEventRow).where(JobEventRow.job_id == id)
            if before is not None:
                query = query.where(JobEventRow.number < before)
            found = list(session.scalars(query.order_by(JobEventRow.number.desc()).limit(limit + 1)))
            return Page([_event(row) for row in found[:limit]], len(found) > limit)

    def cancel(self, id: str) -> Job:
        """End a job for good. Raises `WrongState` for one that has ended, or is trained already."""
        return self._move(id, "cancel", _WAITING, "cancelled", "Fine-tuning job cancelled")

    def pause(self, id: str) -> Job:
        """Stop a job; what it has learnt is kept. Raises `WrongState`."""
        return self._move(id, "pause", _WAITING[:3], "paused", "Fine-tuning job paused")

    def resume(self, id: str) -> Job:
        """Let a paused job go on where it was. Raises `WrongState`."""
        return self._move(id, "resume", ("paused",), "queued", "Fine-tuning job resumed")

    def remove(self, ids: Iterable[str]) -> None:
        """Delete jobs with their events; a worker that has one stops and puts away what it made."""
        with self._store.writing() as session:
            for id in ids:
                session.execute(delete(JobRow).where(JobRow.id == id))

    def _move(self, id: str, what: str, possible: Sequence[str], to: Status, said: str) -> Job:
        with self._store.writing() as session:
            row = known_job(session, id, lock=True)
            job = job_of(row)
            if row.status not in possible:
                raise WrongState(f"cannot {what} job {id}: its status is {row.status}")
            if job.found.version is not None:
                raise WrongState(f"cannot {what} job {id}: its model is trained and is just being loaded")
            row.status = to
            if to == "queued" and job.found.dataset is None:
                row.status = "validating_files"
            if to in ENDED:
                row.finished = now()
            add_events(session, row, [JobEvent(message=said)])
            return job_of(row)


def known_job(session: Session, id: str, lock: bool = False) -> JobRow:
    """The job's row, or `UnknownName`."""
    row = session.get(JobRow, id, with_for_update=lock) if is_id(id, "ftjob") else None
    if row is None:
        raise unknown_job(id)
    return row


def unknown_job(id: str) -> UnknownName:
    """The error for a job that is not there, or not for this caller."""
    return UnknownName(f"no fine-tuning job '{storable(id)[:80]}'; list yours: GET /v1/fine_tuning/jobs")


def add_events(session: Session, row: JobRow, events: Iterable[JobEvent]) -> None:
    """Append to the job's events. Its row must be new or locked, so that no number is given twice."""
    query = select(func.max(JobEventRow.number)).where(JobEventRow.job_id == row.id)
    number = session.scalar(query) or 0
    for one in events:
        number += 1
        session.add(JobEventRow(job_id=row.id, number=number, created=now(), level=one.level, kind=one.kind,
                                message=storable(one.message), data=one.data))  # fmt: skip
    session.flush()


def job_of(row: JobRow) -> Job:
    """The row as a job."""
    return Job.model_validate({
        "id": row.id, "created": row.created, "owner": row.owner, "status": row.status, "asked": row.asked,
        "found": row.found, "finished": row.finished, "worker": row.worker,
    })  # fmt: skip


def _event(row: JobEventRow) -> JobEvent:
    return JobEvent.model_validate({
        "number": row.number, "created": row.created, "level": row.level, "kind": row.kind, "message": row.message,
        "data": row.data,
    })  # fmt: skip
