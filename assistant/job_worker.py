"""The worker of fine-tuning jobs: a process beside the gateway that takes one job after the other from the store.

Started by the supervisor as `python -m assistant.job_worker SETTINGS_JSON`, and again when it dies. One thread looks at
files as soon as a job is created, the other trains. Whoever dies, this worker, a training or all of the machine: the
job is in the store, its dataset and the run's checkpoints are in the home, and the next worker goes on from there.
"""

import logging
import os
import platform
import signal
import sys
import threading

from adapters.registry import Registry
from assistant.job_steps import Checking, Training, put_away
from assistant.job_training import stop_leftover
from assistant.services import Child
from data.errors import BrogueError
from data.home import Home
from data.jobs import Job, Status
from data.settings import Settings
from data.store import Store, StoreDown
from data.store_files import Files
from data.store_home import open_store
from data.store_jobs_work import Work

_LOG = logging.getLogger("brogue.jobs")
PERIOD_S = 0.5  # a look for jobs
_BACK_OFF_S = 5.0  # when the store is away


class Worker:
    """Works on the jobs of one home until it is stopped."""

    def __init__(self, home: Home, settings: Settings, store: Store) -> None:
        self._home, self._settings, self._store = home, settings, store
        self._files = Files(store, home, settings.files)
        self._registry = Registry(home)
        self._stopping = threading.Event()
        self._name = own_name()

    def run(self) -> None:
        """Until `stop`."""
        self._files.sweep()
        self._tidy()
        checking = threading.Thread(target=self._loop, args=("validating_files",), name="files")
        checking.start()
        self._loop("queued", "running")
        checking.join()

    def stop(self) -> None:
        """Let go of the jobs; what is being trained goes on from its checkpoint."""
        self._stopping.set()

    def _tidy(self) -> None:
        """What a client stopped after the worker before us had died."""
        work = Work(self._store, f"{self._name}:tidy", is_dead)
        while (job := work.claim_dropped()) is not None:
            stop_leftover(job.found.process)
            if job.status == "cancelled":
                put_away(self._home, job)
            work.release(job.id)

    def _loop(self, *statuses: Status) -> None:
        work = Work(self._store, f"{self._name}:{statuses[0]}", is_dead)
        while not self._stopping.is_set():
            try:
                claimed = work.claim(statuses)
                if claimed is None:
                    self._stopping.wait(PERIOD_S)
                    continue
                self._work(work, *claimed)
            except StoreDown as error:
                _LOG.warning("%s", error)
                self._stopping.wait(_BACK_OFF_S)
            except Exception:  # a bug must not end the worker; the job is taken up again, or has failed
                _LOG.exception("a job could not be worked on")
                self._stopping.wait(_BACK_OFF_S)

    def _work(self, work: Work, job: Job, died: bool) -> None:
        step = Checking if job.status == "validating_files" else Training
        try:
            step(self._home, self._settings, self._files, self._registry, work, job, self._stopping).do(died)
        except StoreDown:
            raise
        except Exception as error:
            _LOG.exception("job %s", job.id)
            said = str(error) if isinstance(error, BrogueError) else "something broke in the worker; see its log"
            step.fail(work, job, "server_error", said)
            raise
        finally:
            work.release(job.id)


def own_name() -> str:
    """By which other workers know this one, and can tell that it has died."""
    me = Child.of(os.getpid())
    return f"{platform.node()}:{os.getpid()}:{me.created if me else 0}"


def is_dead(name: str) -> bool:
    """Whether a worker of this machine has ended; of others nobody knows here, their claims become stale."""
    try:
        node, pid, created, _ = name.rsplit(":", 3)
        return node == platform.node() and not Child(pid=int(pid), created=float(created)).is_alive()
    except ValueError:
        return False


def main() -> None:
    """Work until SIGTERM; the one argument is the effective settings as JSON."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home, settings = Home.from_environment(), Settings.model_validate_json(sys.argv[1])
    try:
        worker = Worker(home, settings, open_store(home, settings.store))
    except BrogueError as error:
        sys.exit(f"brogue: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()


if __name__ == "__main__":
    main()
