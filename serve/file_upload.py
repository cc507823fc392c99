"""Reading an upload (multipart/form-data) as it comes: what is too large is refused before all of it is here."""

from collections.abc import AsyncGenerator

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve.openai_errors import ApiError

MIB = 1024 * 1024
_BESIDE = 64 * 1024  # bytes of the form's other fields and of what is written around them
_FIELDS = 8


async def read_form(request: Request, max_mib: int) -> FormData:
    """The form's fields, the file in a temporary one. Raises `ApiError` for what is no such form, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, f"wanted a form (multipart/form-data) with file and purpose; found '{kind[:80]}'")
    limit = max_mib * MIB + _BESIDE
    if int(_digits(request.headers.get("content-length", ""))) > limit:
        raise _too_large(max_mib)
    parser = MultiPartParser(request.headers, _counted(request, limit, max_mib), max_files=1, max_fields=_FIELDS)
    try:
        return await parser.parse()
    except ClientDisconnect as error:
        raise ApiError(400, "the connection broke before all of the form was here", code="invalid_form") from error
    except (MultiPartException, KeyError, ValueError, HTTPException) as error:
        said = getattr(error, "message", "") or "it is not whole"
        raise ApiError(400, f"the form cannot be read: {said}", code="invalid_form") from error


def file_of(form: FormData) -> UploadFile:
    """The form's file, or one line that says what was found in its place."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "wanted 'file': a part of the form with a filename and the file's content", param="file")
    return file


async def _counted(request: Request, limit: int, max_mib: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise _too_large(max_mib)
        yield chunk


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdecimal() and len(text) < 20 else "0"


def _too_large(max_mib: int) -> ApiError:
    message = f"the file is larger than {max_mib} MiB; split it, or let an admin raise files.max_mib"
    return ApiError(413, message, code="file_too_large", param="file")
