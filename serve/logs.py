"""The log of supervisor and gateway: as text or as JSON lines, with the request it is about, and without secrets."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from data.log_secrets import NoSecrets
from serve.request_ids import request_id

TRACE: ContextVar[str | None] = ContextVar("brogue_trace", default=None)  # the id of the request's trace
TEXT = "%(asctime)s %(name)s %(levelname)s %(request_id)s %(message)s"
# Attributes that every record has; what else is on one came by `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "request_id"}


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message; request_id, trace_id, error and what `extra` gave.

    For a handler that has `secrets` as its filter: message and traceback come without secrets.
    """

    def __init__(self, secrets: NoSecrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        if (found := getattr(record, "request_id", "-")) != "-":
            line["request_id"] = found
        if (trace := TRACE.get()) is not None:
            line["trace_id"] = trace
        given = {k: v for k, v in vars(record).items() if k not in _USUAL and not k.startswith("_")}
        line |= self._within(given)
        if record.exc_text:
            line["error"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=lambda value: self._secrets.text(str(value)))

    def _within(self, value: Any) -> Any:
        """The same without secrets, in lists and mappings too."""
        if isinstance(value, str):
            return self._secrets.text(value)
        if isinstance(value, Mapping):
            return {str(name): self._within(one) for name, one in value.items()}
        return [self._within(one) for one in value] if isinstance(value, list | tuple) else value


def set_up_logging(format: Literal["text", "json"], secrets: Sequence[str] = ()) -> None:
    """Let all loggers of this process, uvicorn's too, write to stderr. `secrets` are never shown."""
    handler, hidden = logging.StreamHandler(), NoSecrets(secrets, request_id)
    handler.addFilter(hidden)
    handler.setFormatter(JsonFormatter(hidden) if format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it names every request
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it speaks whenever a store is opened
