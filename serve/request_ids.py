"""The id of the request that is being answered: in its answer's header, in the log and in the audit log."""

import re
import uuid
from contextvars import ContextVar

HEADER = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """The id of the request that this task answers; none outside of one."""
    return _CURRENT.get()


def begin_request(given: str | None) -> str:
    """The id of a request that begins here: the one that its client gave, if it is one, else a new one."""
    found = given if given is not None and _SANE.fullmatch(given) else f"req-{uuid.uuid4().hex}"
    _CURRENT.set(found)
    return found
