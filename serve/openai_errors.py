"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

import json
from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """An answer that is an error; the gateway turns it into the response."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object; the type follows from the status as in OpenAI's reference."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status)

    def event(self) -> bytes:
        """The error as a server-sent event, for streams that have begun; OpenAI's clients raise it."""
        return f"data: {json.dumps(self.body, ensure_ascii=False)}\n\n".encode()


def engine_down(reason: str) -> ApiError:
    """The engine cannot answer now."""
    return ApiError(503, f"the engine is not available: {reason}", code="engine_unavailable")
