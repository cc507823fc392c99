"""What the routes of files and of fine-tuning jobs are built with."""

from dataclasses import dataclass
from typing import Protocol

from data.home import Home
from data.settings_jobs import FileSettings, JobSettings
from serve.identity import Access, Caller
from serve.openai_errors import ApiError
from serve.recorder import Recorder


@dataclass(frozen=True)
class Start:
    """What a training begins with."""

    version: str | None  # `name@n`; none: the base model
    system_prompt: str | None
    stem: str  # by which the new model is called where the client gives no suffix


class Tunable(Protocol):
    """What a client may name as the `model` of a job. Called in a thread."""

    def start(self, model: str) -> Start:
        """What it stands for. Raises `UnknownName`, and `BrogueError` for what cannot be trained."""


@dataclass(frozen=True)
class Tuning:
    """Files and jobs, as far as the gateway has them: limits, and what may be trained."""

    files: FileSettings
    jobs: JobSettings
    models: Tunable


@dataclass(frozen=True)
class Door:
    """Who comes in, and where the things are."""

    access: Access
    recorder: Recorder
    home: Home
    tuning: Tuning


def require_role(caller: Caller, tuning: Tuning) -> Caller:
    """The caller, if they may upload files and start jobs; else 403. While the system is open everybody may."""
    if not caller.is_open and not caller.may(tuning.jobs.role):
        message = f"files and fine-tuning jobs need the role '{tuning.jobs.role}' (jobs.role); ask an admin"
        raise ApiError(403, message, code="role")
    return caller


def whose(caller: Caller) -> str | None:
    """Whose things a list shows: the caller's, or everybody's (none) where nobody's are hidden from them."""
    return None if caller.may_see(None) else caller.owner or ""
