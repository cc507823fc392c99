"""Jobs and files in SQLite and PostgreSQL: one claim at a time, taken over from the dead, and nothing undone."""

import hashlib
import io
import json
import os
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from data.errors import UnknownName
from data.files import StoredFile
from data.home import Home
from data.jobs import Asked, Job, JobEvent
from data.judgements import now
from data.settings_jobs import FileSettings
from data.store import Store
from data.store_files import Files, TooMuch
from data.store_home import open_store
from data.store_jobs import Jobs, TooManyJobs, WrongState
from data.store_jobs_work import Work
from data.store_schema import JobRow
from tests.conftest import Run

pytest_plugins = ["tests.databases"]

SUPERVISED: dict[str, Any] = {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": "auto"}


def asked(**more: Any) -> Asked:
    given = {"model": "base", "name": "ft-x", "method": "supervised", "hyperparameters": SUPERVISED,
             "training_file": "file-1"}  # fmt: skip
    return Asked.model_validate(given | more)


def new_job(store: Store, owner: str | None = None, status: str = "queued", **more: Any) -> Job:
    job = Jobs(store).create(owner, asked(**more), 100)
    set_row(store, job.id, status=status)
    return Jobs(store).get(job.id)


def set_row(store: Store, id: str, **values: Any) -> None:
    with store.writing() as session:
        session.execute(update(JobRow).where(JobRow.id == id).values(**values))


def messages(store: Store, id: str) -> list[str]:
    return [event.message for event in reversed(Jobs(store).events(id, 100, None).items)]


def test_a_job_is_kept_as_it_was_asked_and_pages_of_it_are_stable(store: Store) -> None:
    jobs = Jobs(store)
    made = [jobs.create("ann", asked(metadata={"n": str(n % 2), "\x00": "\ud800"}), 100) for n in range(5)]
    jobs.create("bob", asked(), 100)
    ids = [job.id for job in reversed(made)]
    first = jobs.listed("ann", 2, None)
    assert [job.id for job in first.items] == ids[:2] and first.more
    rest = jobs.listed("ann", 10, ids[1])
    assert [job.id for job in rest.items] == ids[2:] and not rest.more
    odd = jobs.listed("ann", 1, None, lambda job: (job.asked.metadata or {})["n"] == "1")
    assert [job.id for job in odd.items] == [made[3].id] and odd.more
    assert len(jobs.listed(None, 10, None).items) == 6
    with pytest.raises(TooManyJobs, match="5 jobs are unfinished"):
        jobs.create("ann", asked(), 5)
    with pytest.raises(UnknownName):
        jobs.get("ftjob-\x00")
    assert messages(store, made[0].id) == [
        f"Created fine-tuning job: {made[0].id}", "Validating training file: file-1"
    ]  # fmt: skip


def test_of_many_workers_one_gets_a_job_and_each_job_goes_to_one(store: Store) -> None:
    wanted = {new_job(store).id for _ in range(12)}
    got: list[str] = []

    def work(name: str) -> None:
        mine = Work(store, name)
        while (claimed := mine.claim(["queued"])) is not None:
            got.append(claimed[0].id)
            mine.note(claimed[0].id, "queued", "succeeded")

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    [thread.start() for thread in threads], [thread.join(60) for thread in threads]
    assert sorted(got) == sorted(wanted)


def test_the_oldest_comes_first_unless_one_has_begun(store: Store) -> None:
    old, begun = new_job(store), new_job(store, status="running")
    work = Work(store, "w")
    order = []
    while (claimed := work.claim(["queued", "running"])) is not None:
        order.append(claimed[0].id)
        work.note(claimed[0].id, claimed[0].status, "failed")
    assert order == [begun.id, old.id]


def test_a_claim_holds_until_its_worker_is_dead_or_silent(store: Store) -> None:
    job = new_job(store, status="running")
    first = Work(store, "first")
    assert first.claim(["running"]) is not None
    assert Work(store, "second").claim(["running"]) is None
    took = Work(store, "second", is_dead=lambda name: name == "first").claim(["running"])
    assert took is not None and took == (Jobs(store).get(job.id), True)
    assert first.beat(job.id) is None and first.look(job.id) is None, "it learns that it has lost the job"
    assert not first.note(job.id, "running", "failed")
    set_row(store, job.id, beat=now() - timedelta(minutes=5))
    assert Work(store, "third").claim(["running"]) is not None
    Work(store, "first").release(job.id)
    assert Jobs(store).get(job.id).worker == "third", "what is another's cannot be let go"
    Work(store, "third").release(job.id)
    again = Work(store, "fourth").claim(["running"])
    assert again is not None and again[1] is False, "it was let go in order"


def test_what_a_client_says_is_not_undone_by_the_worker(store: Store) -> None:
    jobs, work = Jobs(store), Work(store, "w")
    job = new_job(store, status="running")
    work.claim(["running"])
    assert work.note(job.id, "running", None, [JobEvent(message="Step 1/2")], step=1)
    assert jobs.pause(job.id).status == "paused"
    assert not work.note(job.id, "running", "succeeded", [JobEvent(message="too late")])
    assert jobs.resume(job.id).status == "validating_files", "its files were not looked at to the end"
    set_row(store, job.id, status="running")
    assert jobs.cancel(job.id).status == "cancelled" and jobs.get(job.id).finished is not None
    for steer in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(WrongState, match="its status is cancelled"):
            steer(job.id)
    assert messages(store, job.id)[2:] == [
        "Step 1/2", "Fine-tuning job paused", "Fine-tuning job resumed", "Fine-tuning job cancelled"
    ]  # fmt: skip
    dropped = Work(store, "next", is_dead=lambda name: name == "w").claim_dropped()
    assert dropped is not None and dropped.id == job.id
    trained = new_job(store, status="running")
    work.claim(["running"])
    assert work.note(trained.id, "running", version="ft-x@1")
    with pytest.raises(WrongState, match="is trained"):
        jobs.cancel(trained.id)


def test_an_owners_files_together_have_a_limit_and_leftovers_go(store: Store, home: Home) -> None:
    files = Files(store, home, FileSettings(total_mib=1))

    def add(owner: str | None, size: int) -> StoredFile:
        return files.add(owner, "a.jsonl", "fine-tune", io.BytesIO(b"x" * size))

    kept = add("ann", 700_000)
    assert kept.sha256 == hashlib.sha256(b"x" * 700_000).hexdigest()
    with pytest.raises(TooMuch, match="more than 1 MiB together"):
        add("ann", 700_000)
    add("bob", 700_000), add(None, 700_000)
    for name, age in (("file-" + "z" * 24, 7200), (".new.torn", 7200), (".new.now", 0)):
        (home.files / name).write_bytes(b"x")
        os.utime(home.files / name, (os.stat(home.files).st_mtime - age,) * 2)
    files.sweep()
    assert len(list(home.files.iterdir())) == 4 and (home.files / ".new.now").exists()
    (home.files / kept.id).write_bytes(b"less")
    files.measured(kept.id)
    assert files.get(kept.id).size == 4


def test_who_runs_the_machine_sees_and_cancels_everybodys_jobs(home: Home, brogue: Run) -> None:
    store = open_store(home)
    job = new_job(store, "ann", metadata={"for": "acme"})
    new_job(store, "bob", "succeeded")
    store.close()
    listed = brogue("jobs", "list").stdout
    assert "ann" in listed and "bob" in listed and job.id in listed
    assert len(json.loads(brogue("jobs", "list", "--limit", "1", "--json").stdout)) == 1
    shown = brogue("jobs", "show", job.id).stdout
    assert f"{job.id}: queued, ft-x" in shown and f"Created fine-tuning job: {job.id}" in shown
    assert brogue("jobs", "cancel", job.id).stdout == f"{job.id}: cancelled\n"
    again = brogue("jobs", "cancel", job.id)
    assert again.returncode == 1 and "its status is cancelled" in again.stderr
    assert json.loads(brogue("jobs", "show", job.id, "--json").stdout)["events"][-1]["message"].endswith("cancelled")
