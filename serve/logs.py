"""The log of supervisor and gateway: as text or as JSON lines, with the request it is about, and without secrets."""

import json
import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

REQUEST: ContextVar[Mapping[str, Any] | None] = ContextVar("brogue_request", default=None)  # the ASGI scope
TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
HIDDEN = "[hidden]"
_SECRETS = (
    re.compile(r"(?i)(\bbearer\s+)[^\s\"',;]+"),
    re.compile(r"(\b\w+://[^\s/:@]+:)[^\s/@]+(?=@)"),  # a password in an address
    re.compile(r"(?i)(\b(?:api[_-]?key|password|secret|token|authorization)[\"']?\s*[=:]\s*[\"']?)(?!bearer\b)[^\s\"',;&}]+"),
    re.compile(r"(\b(?:brg|sk)-)[A-Za-z0-9_-]{8,}"),  # keys of ours and OpenAI's
)  # fmt: skip
# Attributes that every record has; what else is on one came by `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def request_id() -> str | None:
    """The id of the request that is being worked on, if there is one."""
    scope = REQUEST.get()
    found = (scope.get("state") or {}).get("request_id") if scope is not None else None
    return str(found) if found is not None else None


class Redaction:
    """Hides secrets in texts: those it is told, and whatever looks like one."""

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        words = sorted((re.escape(word) for word in known if len(word) >= 8), key=len, reverse=True)
        self._known = re.compile("|".join(words)) if words else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern in _SECRETS:
            text = pattern.sub(rf"\g<1>{HIDDEN}", text)
        return text

    def within(self, value: Any) -> Any:
        """The same of all texts in lists and mappings."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {str(name): self.within(one) for name, one in value.items()}
        return [self.within(one) for one in value] if isinstance(value, list | tuple) else value


class TextFormatter(logging.Formatter):
    """A line as people read it; a request's has its id at the end."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__(TEXT)
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        line, request = super().format(record), request_id()
        return self._redaction(line if request is None else f"{line} [{request}]")


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message; request_id, trace_id, error and what `extra` gave."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at, "level": record.levelname.lower(), "logger": record.name,
            "message": self._redaction(record.getMessage()),
        }  # fmt: skip
        scope = REQUEST.get()
        if scope is not None:
            found = {"request_id": request_id(), "trace_id": (scope.get("state") or {}).get("trace_id")}
            line |= {name: value for name, value in found.items() if value is not None}
        for name, value in vars(record).items():
            if name not in _USUAL and not name.startswith("_"):
                line[name] = self._redaction.within(value)
        if record.exc_info:
            line["error"] = self._redaction(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=lambda value: self._redaction(str(value)))


def set_up_logging(format: Literal["text", "json"], secrets: tuple[str, ...] = ()) -> None:
    """Let all loggers of this process, uvicorn's too, write to stderr. `secrets` are never shown."""
    redaction, handler = Redaction(secrets), logging.StreamHandler()
    handler.setFormatter(JsonFormatter(redaction) if format == "json" else TextFormatter(redaction))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it names every request
