"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

import json
import re
from typing import Any

from starlette.responses import JSONResponse

# An absolute path of two parts or more, also in quotes; not the rest of a URL, nor a path of this API.
_PATH = re.compile(r"(?<![\w.:/~])/(?!v1/)(?:[^\s/'\":;,()<>]+/)+([^\s/'\":;,()<>]*)")


def without_paths(message: str) -> str:
    """The message with only the last part of any path of a file: where this machine keeps what is nobody's business."""
    return _PATH.sub(lambda path: f"…/{path[1]}", message)


class ApiError(Exception):
    """An answer that is an error; the gateway turns it into the response."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:  # fmt: skip
        message = without_paths(message)
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}  # of the answer, besides Retry-After

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object; the type follows from the status as in OpenAI's reference."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        retry = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse(self.body, self.status, retry | self.headers)

    def event(self) -> bytes:
        """The error as a server-sent event, for streams that have begun; OpenAI's clients raise it."""
        return f"data: {json.dumps(self.body, ensure_ascii=False)}\n\n".encode()


def engine_down(reason: str, retry_after_s: int | None = 10) -> ApiError:
    """The engine cannot answer now."""
    message = f"the engine is not available: {reason}"
    return ApiError(503, message, code="engine_unavailable", retry_after_s=retry_after_s)
