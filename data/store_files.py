"""Uploaded files: a row of each in the store, its bytes in `<home>/files/<id>`, written whole or not at all.

The bytes come before the row and go after it: a kill in between leaves bytes that no row names, which `sweep` removes.
"""

import hashlib
import os
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from data.artefacts import Artefacts
from data.errors import BrogueError, UnknownName
from data.files import StoredFile, is_id, new_id
from data.home import Home, sha256_of
from data.judgements import now
from data.settings_jobs import FileSettings
from data.sharing import Sharing
from data.store import Store
from data.store_pages import Page, page
from data.store_schema import FileRow
from data.store_text import storable

MIB = 1024 * 1024
_LEFT_S = 3600  # bytes that no row names are left alone for so long: they may be just being written
_LONGEST = 255  # characters of a file's name


class TooMuch(BrogueError):
    """The file, or all of the owner's together, would be too large."""


class Files:
    """The uploaded files of one home; where several homes share artefacts, those of all.

    Every method may wait for the disk, the network or the store: call off the event loop.
    """

    def __init__(self, store: Store, home: Home, limits: FileSettings | None = None) -> None:
        self._store, self._home, self._limits = store, home, limits or FileSettings()

    def add(self, owner: str | None, filename: str, purpose: str, source: BinaryIO,
            limited: bool = True) -> StoredFile:  # fmt: skip
        """Keep what `source` holds. Raises `TooMuch`, and `BrogueError` for a file without content."""
        self._home.files.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self._home.files, prefix=".new.")
        try:
            with os.fdopen(handle, "wb") as file:
                size, sha256 = self._copy(source, file)
            row = FileRow(id=new_id("file"), created=now(), owner=owner, filename=plain_name(filename),
                          purpose=purpose, size=size, sha256=sha256)  # fmt: skip
            if self._artefacts is not None:
                self._artefacts.put(Path(temporary))
            os.replace(temporary, self._home.files / row.id)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        try:
            with self._store.writing() as session:
                if limited:
                    self._refuse_too_many(session, owner, size)
                session.add(row)
        except BaseException:
            (self._home.files / row.id).unlink(missing_ok=True)
            raise
        return _file(row)

    def get(self, id: str) -> StoredFile:
        """The file of that id. Raises `UnknownName`."""
        with self._store.reading() as session:
            row = session.get(FileRow, id) if is_id(id, "file") else None
            if row is None:
                raise unknown_file(id)
            return _file(row)

    def path(self, id: str) -> Path:
        """Where its bytes are. Raises `UnknownName` if they are gone."""
        file = self.get(id)
        path = self._home.files / file.id
        if not path.is_file():
            if self._artefacts is None:
                raise unknown_file(id)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._artefacts.get(file.sha256, path)  # it was uploaded to another gateway
            path.chmod(0o600)
        return path

    def listed(self, owner: str | None, purpose: str | None, limit: int, after: str | None,
               oldest_first: bool = False) -> Page[StoredFile]:  # fmt: skip
        """A page of an owner's files (none: of everybody's), the newest first unless told otherwise."""
        query = select(FileRow)
        if owner is not None:
            query = query.where(FileRow.owner == owner)
        if purpose is not None:
            query = query.where(FileRow.purpose == storable(purpose))
        with self._store.reading() as session:
            rows = page(session, query, FileRow, after, limit, oldest_first)
            return Page([_file(row) for row in rows.items], rows.more)

    def remove(self, id: str) -> None:
        """Delete a file for good. Raises `UnknownName`."""
        with self._store.writing() as session:
            row = session.get(FileRow, id) if is_id(id, "file") else None
            if row is None:
                raise unknown_file(id)
            session.delete(row)
        (self._home.files / id).unlink(missing_ok=True)
        self._forget(row.sha256)

    def measured(self, id: str) -> None:
        """Note size and hash anew, after lines were taken out of the file."""
        with self._store.writing() as session:
            row = session.get(FileRow, id)
            if row is not None:
                path, before = self._home.files / id, row.sha256
                row.sha256, row.size = sha256_of(path), path.stat().st_size
                if self._artefacts is not None:
                    self._artefacts.put(path)
        if row is not None and before != row.sha256:
            self._forget(before)

    def sweep(self) -> None:
        """Remove the bytes that no row names."""
        for path in self._home.files.glob("*") if self._home.files.exists() else ():
            with self._store.reading() as session:
                known = session.get(FileRow, path.name) is not None
            if not known and time.time() - path.stat().st_mtime > _LEFT_S:
                path.unlink(missing_ok=True)

    @cached_property
    def _artefacts(self) -> Artefacts | None:
        return Sharing(self._home).artefacts()

    def _forget(self, sha256: str) -> None:
        """Delete bytes that several gateways had in common, unless another file has the same."""
        if self._artefacts is not None:
            with self._store.reading() as session:
                held = session.scalar(select(func.count()).where(FileRow.sha256 == sha256))
            if not held:
                self._artefacts.remove(sha256)

    def _copy(self, source: BinaryIO, target: BinaryIO) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        while chunk := source.read(MIB):
            size += len(chunk)
            if size > self._limits.max_mib * MIB:
                raise TooMuch(f"the file is larger than {self._limits.max_mib} MiB; split it, or raise files.max_mib")
            digest.update(chunk)
            target.write(chunk)
        if size == 0:
            raise BrogueError("the file is empty; wanted JSONL, one record a line")
        target.flush()
        os.fsync(target.fileno())
        return size, digest.hexdigest()

    def _refuse_too_many(self, session: Session, owner: str | None, size: int) -> None:
        held = session.scalar(select(func.sum(FileRow.size)).where(FileRow.owner == owner)) or 0
        if held + size > self._limits.total_mib * MIB:
            raise TooMuch(
                f"your files would take more than {self._limits.total_mib} MiB together; delete some, or raise "
                "files.total_mib"
            )


def plain_name(filename: str) -> str:
    """A client's name of a file, for showing only: its last part, without control characters."""
    last = storable(filename).replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:_LONGEST] or "file"


def unknown_file(id: str) -> UnknownName:
    """The error for a file that is not there, or not for this caller."""
    return UnknownName(f"no file '{storable(id)[:80]}'; list yours: GET /v1/files")


def _file(row: FileRow) -> StoredFile:
    return StoredFile(id=row.id, created=row.created, owner=row.owner, filename=row.filename, purpose=row.purpose,
                      size=row.size, sha256=row.sha256)  # fmt: skip
