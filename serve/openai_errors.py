"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

import json
from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """An answer that is an error; the gateway turns it into the response."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object; the type follows from the status as in OpenAI's reference."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "authentication_error" if self.status == 401 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse(self.body, self.status, headers)

    def event(self) -> bytes:
        """The error as a server-sent event, for streams that have begun; OpenAI's clients raise it."""
        return f"data: {json.dumps(self.body, ensure_ascii=False)}\n\n".encode()


def engine_down(reason: str, retry_after_s: int | None = 10) -> ApiError:
    """The engine cannot answer now."""
    message = f"the engine is not available: {reason}"
    return ApiError(503, message, code="engine_unavailable", retry_after_s=retry_after_s)
