"""Bytes that several homes share, each kept under its SHA-256: in a folder, or at an address such as s3://bucket/brogue.

What is there never changes, so it can be fetched at any time, by any number, and checked by its name.
"""

import os
import tempfile
from pathlib import Path

from data.errors import BrogueError
from data.home import sha256_of
from data.remote import file_system, is_remote, told


class Artefacts:
    """The bytes at one place. Every method may wait for the network: call it off the event loop."""

    def __init__(self, where: str) -> None:
        self._where = where.rstrip("/") if is_remote(where) else Path(where).absolute().as_uri()

    def put(self, source: Path) -> str:
        """Keep a file's bytes; gives their SHA-256. What is there already is not sent again."""
        sha256, size = sha256_of(source), source.stat().st_size
        where = self._place(sha256)
        files, path = file_system(where)
        with told(f"cannot write {where}"):
            # One that is shorter was cut off in the middle of its writing.
            if not files.exists(path) or files.info(path)["size"] != size:
                files.put_file(str(source), path)
        return sha256

    def get(self, sha256: str, target: Path) -> None:
        """Bring bytes to the file `target`, whole or not at all. Raises `BrogueError` for what was changed there."""
        where = self._place(sha256)
        files, path = file_system(where)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            with told(f"cannot read {where}"):
                files.get_file(path, temporary)
            if (found := sha256_of(Path(temporary))) != sha256:
                raise BrogueError(f"{where} was changed or cut off: its SHA-256 is {found[:12]}…; put it there anew")
            Path(temporary).chmod(0o644)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def remove(self, sha256: str) -> None:
        """Delete bytes for good; what is not there is no error."""
        where = self._place(sha256)
        files, path = file_system(where)
        with told(f"cannot remove {where}"):
            if files.exists(path):
                files.rm_file(path)

    def _place(self, sha256: str) -> str:
        return f"{self._where}/sha256/{sha256[:2]}/{sha256}"
