"""Fine-tuning jobs as their worker sees them: claimed by one worker, watched, and written down step by step.

A claim holds while its worker gives signs of life. Whatever the worker writes is written only while the claim is its
own and the job is in the state that it thinks it is in; so nothing it does can undo what a client has said meanwhile.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, select

from data.jobs import ENDED, Found, Job, JobEvent, Status
from data.judgements import now
from data.store import Store
from data.store_jobs import add_events, job_of
from data.store_schema import JobRow
from data.store_text import written

STALE = timedelta(seconds=60)  # without a sign of life for so long, a claim holds no more


class Work:
    """The jobs of a store, for the worker of this name. `is_dead` tells of another worker's name that it has ended."""

    def __init__(self, store: Store, worker: str, is_dead: Callable[[str], bool] = lambda _: False) -> None:
        self._store, self._worker, self._is_dead = store, worker, is_dead

    def claim(self, statuses: Sequence[Status]) -> tuple[Job, bool] | None:
        """The next job of these statuses that nobody works on, now ours; and whether another worker died with it.

        Those that had begun come first, then the oldest.
        """
        with self._store.reading() as session:  # most of the time there is none, and then nobody need wait for a lock
            waiting = [id for id, worker, beat in session.execute(_waiting(statuses)) if self._is_free(worker, beat)]
        for id in waiting:
            with self._store.writing() as session:
                # Of several workers at once each locks another row; SQLite lets one in after the other.
                query = select(JobRow).where(JobRow.id == id, JobRow.status.in_(statuses))
                row = session.scalar(query.with_for_update(skip_locked=True))
                if row is None or not self._is_free(row.worker, row.beat):
                    continue
                died = row.worker is not None
                row.worker, row.beat = self._worker, now()
                return job_of(row), died
        return None

    def claim_dropped(self) -> Job | None:
        """A job that was cancelled or paused while a worker had it that has died: it is to be tidied up after."""
        with self._store.writing() as session:
            query = select(JobRow).where(JobRow.status.in_(("cancelled", "paused")), JobRow.worker.is_not(None))
            rows = session.scalars(query.with_for_update(skip_locked=True))
            row = next((row for row in rows if self._is_free(row.worker, row.beat)), None)
            if row is None:
                return None
            row.worker, row.beat = self._worker, now()
            return job_of(row)

    def beat(self, id: str) -> Job | None:
        """Give a sign of life; the job as it stands, or none if it is not ours any more."""
        with self._store.writing() as session:
            row = session.scalar(select(JobRow).where(JobRow.id == id, JobRow.worker == self._worker).with_for_update())
            if row is None:
                return None
            row.beat = now()
            return job_of(row)

    def look(self, id: str) -> Job | None:
        """The job as it stands, or none if it is not ours any more."""
        with self._store.reading() as session:
            row = session.scalar(select(JobRow).where(JobRow.id == id, JobRow.worker == self._worker))
            return None if row is None else job_of(row)

    def is_dropped(self, id: str) -> bool:
        """Whether nothing is to come of the job: it was cancelled, or it is not there any more."""
        with self._store.reading() as session:
            row = session.get(JobRow, id)
            return row is None or row.status == "cancelled"

    def note(self, id: str, expected: Status, status: Status | None = None, events: Iterable[JobEvent] = (),
             **found: object) -> bool:  # fmt: skip
        """Write down what has come of the job; nothing, and false, if it is not ours or not `expected` any more.

        `found`: fields of `Found`. `status`: what it is from now on; one that has ended is let go.
        """
        with self._store.writing() as session:
            query = select(JobRow).where(JobRow.id == id, JobRow.worker == self._worker, JobRow.status == expected)
            row = session.scalar(query.with_for_update())
            if row is None:
                return False
            changed = Found.model_validate(job_of(row).found.model_dump() | found)
            row.found, row.beat = written(changed.model_dump(mode="json"), None), now()
            add_events(session, row, events)
            if status is not None:
                row.status = status
            if row.status in ENDED:
                row.finished, row.worker, row.beat = now(), None, None
            return True

    def release(self, id: str) -> None:
        """Let go of a job, for whoever takes it up next."""
        with self._store.writing() as session:
            row = session.get(JobRow, id, with_for_update=True)
            if row is not None and row.worker == self._worker:
                row.worker = row.beat = None
                row.found = row.found | {"process": None}

    def _is_free(self, worker: str | None, beat: datetime | None) -> bool:
        # What this very worker holds and does not work on was left by an error of its own.
        return worker is None or worker == self._worker or _is_old(beat) or self._is_dead(worker)


def _is_old(beat: datetime | None) -> bool:
    return beat is None or beat < now() - STALE


def _waiting(statuses: Sequence[Status]) -> Select[str, str | None, datetime | None]:
    columns = select(JobRow.id, JobRow.worker, JobRow.beat).where(JobRow.status.in_(statuses))
    return columns.order_by(JobRow.status != "running", JobRow.created, JobRow.id)
