"""Uploaded files as OpenAI's API shows them, and as they are kept. data/store_files.py keeps them."""

import re
import secrets
import string
from typing import Literal

from pydantic import AwareDatetime

from data.frozen import Frozen

TRAINING, RESULTS = "fine-tune", "fine-tune-results"  # purposes: what jobs learn from, and what they leave
_LETTERS = string.ascii_lowercase + string.digits
_ID = re.compile(r"[a-z]{2,12}-[a-z0-9]{24}")


class FileObject(Frozen):
    """OpenAI's file object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    expires_at: int | None = None
    status_details: str | None = None


class StoredFile(Frozen):
    """A file that is here."""

    id: str
    created: AwareDatetime
    owner: str | None  # none: uploaded while nobody had to say who they are
    filename: str  # as the client calls it; never a path of ours
    purpose: str
    size: int  # bytes
    sha256: str

    @property
    def shown(self) -> FileObject:
        """The file as a client sees it."""
        return FileObject(id=self.id, bytes=self.size, created_at=int(self.created.timestamp()),
                          filename=self.filename, purpose=self.purpose)  # fmt: skip


def new_id(kind: str) -> str:
    """An id that nobody can guess, such as file-0j3k… or ftjob-…"""
    return f"{kind}-{''.join(secrets.choice(_LETTERS) for _ in range(24))}"


def is_id(text: str, kind: str) -> bool:
    """Whether a client's text can be such an id at all: only then is it looked for."""
    return text.startswith(f"{kind}-") and _ID.fullmatch(text) is not None
