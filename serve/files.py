"""OpenAI's /v1/files: what fine-tuning jobs learn from, and the figures that they leave.

A file belongs to whoever uploaded it; for others it does not exist. Its content is looked at when a job wants it.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from data.errors import BrogueError
from data.files import TRAINING, FileObject, StoredFile
from data.frozen import Frozen
from data.store import StoreDown
from data.store_files import MIB, Files, TooMuch, unknown_file
from serve.file_upload import file_of, read_form
from serve.identity import Caller
from serve.openai_errors import ApiError
from serve.tuning import Door, require_role, whose

_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["file", "purpose"], "properties": {
        "file": {"type": "string", "format": "binary"}, "purpose": {"type": "string", "enum": [TRAINING]},
    },
}}}}}  # fmt: skip


class FileList(Frozen):
    """A page of files."""

    object: Literal["list"] = "list"
    data: tuple[FileObject, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FileDeleted(Frozen):
    """A file that is not there any more."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_routes(door: Door) -> APIRouter:
    """The routes under /v1/files."""
    routes = APIRouter(prefix="/v1/files", tags=["files"])
    client = door.access.client

    def files() -> Files:
        return Files(door.recorder.store(), door.home, door.tuning.files)

    def found(id: str, caller: Caller) -> StoredFile:
        file = files().get(id)
        if not caller.may_see(file.owner):
            raise unknown_file(id)
        return file

    @routes.post("", openapi_extra=_FORM)
    async def upload(request: Request, caller: Annotated[Caller, Depends(client)]) -> FileObject:
        """Upload a JSONL file for fine-tuning: a form with `file` and `purpose`, which is "fine-tune"."""
        require_role(caller, door.tuning)
        form = await read_form(request, door.tuning.files.max_mib)
        try:
            given = file_of(form)
            _check_fields(dict(form))
            kept = await asyncio.to_thread(_add, files, caller.owner, given.filename or "", given.file)
        finally:
            await form.close()
        return kept.shown

    @routes.get("")
    async def listed(
        caller: Annotated[Caller, Depends(client)], purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000, order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> FileList:  # fmt: skip
        """Your files, the newest first; `after` is the id of the last one of the page before."""
        found = await asyncio.to_thread(
            lambda: files().listed(whose(caller), purpose, limit, after, oldest_first=order == "asc")
        )
        shown = tuple(file.shown for file in found.items)
        ends = (shown[0].id, shown[-1].id) if shown else (None, None)
        return FileList(data=shown, has_more=found.more, first_id=ends[0], last_id=ends[1])

    @routes.get("/{id}")
    async def one(id: str, caller: Annotated[Caller, Depends(client)]) -> FileObject:
        """One of your files."""
        return (await asyncio.to_thread(found, id, caller)).shown

    @routes.get("/{id}/content", response_class=StreamingResponse,
                responses={200: {"content": {"application/octet-stream": {}}}})  # fmt: skip
    async def content(id: str, caller: Annotated[Caller, Depends(client)]) -> StreamingResponse:
        """Its bytes, as they were uploaded."""
        path = await asyncio.to_thread(lambda: files().path(found(id, caller).id))
        return StreamingResponse(_chunks(path), media_type="application/octet-stream",
                                 headers={"content-disposition": f'attachment; filename="{id}"'})  # fmt: skip

    @routes.delete("/{id}")
    async def delete(id: str, caller: Annotated[Caller, Depends(client)]) -> FileDeleted:
        """Delete a file for good. A job whose files were validated has what it needs."""
        await asyncio.to_thread(lambda: files().remove(found(id, caller).id))
        return FileDeleted(id=id)

    return routes


def _add(files: Callable[[], Files], owner: str | None, filename: str, source: BinaryIO) -> StoredFile:
    try:
        return files().add(owner, filename, TRAINING, source)
    except StoreDown:
        raise
    except TooMuch as error:
        raise ApiError(413, str(error), code="file_too_large", param="file") from error
    except BrogueError as error:
        raise ApiError(400, str(error), code="invalid_file", param="file") from error


def _check_fields(fields: dict[str, Any]) -> None:
    purpose = fields.get("purpose")
    if purpose != TRAINING:
        said = f"found '{purpose[:40]}'" if isinstance(purpose, str) else "found none"
        raise ApiError(400, f"wanted purpose '{TRAINING}', the only one there is here; {said}", param="purpose")
    for name in fields.keys() - {"file", "purpose"}:
        message = f"'{name[:40]}' is not known here; wanted file and purpose. Files stay until they are deleted"
        raise ApiError(400, message, code="unknown_parameter", param=name[:80])


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            yield chunk
