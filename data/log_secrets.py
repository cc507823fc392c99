"""Keys never reach a log: whatever a program says, what looks like one is left out of it."""

import logging
import re
from collections.abc import Callable, Sequence

_KEY = re.compile(r"\b(?:brg|sk)-[A-Za-z0-9_-]{8,}")  # ours, and OpenAI's
_ADDRESS = re.compile(r"(\b\w+://[^\s/:@]+:)[^\s/@]+(?=@)")  # a password in a URL
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s'\",;]+")
_FIELD = re.compile(r"(?i)((?:api[_-]?key|password|token|secret)[\"']?\s*[=:]\s*[\"']?)[^\s'\"&,;}]+")
LEFT_OUT = "[left out]"


class NoSecrets(logging.Filter):
    """For a log's handlers: leaves keys, bearers, passwords and these secrets out of messages and tracebacks.

    `request_id` tells what the id of the present request is; it becomes a field of the record.
    """

    def __init__(self, secrets: Sequence[str] = (), request_id: Callable[[], str | None] = lambda: None) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if len(secret) >= 8]  # shorter ones are words of messages
        self._request_id = request_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Nothing is dropped, only changed."""
        record.msg, record.args = self.text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.text(record.exc_text)
        record.request_id = self._request_id() or "-"
        return True

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, LEFT_OUT)
        text = _BEARER.sub(rf"\1{LEFT_OUT}", _KEY.sub(LEFT_OUT, text))
        return _FIELD.sub(rf"\1{LEFT_OUT}", _ADDRESS.sub(rf"\1{LEFT_OUT}", text))
