"""Which file gave which passages, and what is to be done about the files that are there now.

Pure but for reading and writing the manifest: `plan` compares, assistant/knowledge_add.py acts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from assistant.documents import Clean, cleaner
from assistant.knowledge_files import Found, SourceFile
from data.errors import DataError
from data.home import write_text
from data.settings import Frozen

State = Literal["unchanged", "touched", "changed", "new", "gone"]


class FileEntry(Frozen):
    """What the manifest knows of one file."""

    path: str
    size: int  # bytes
    mtime_ns: int
    sha256: str  # of the content; empty while its passages are being stored
    recipe: str  # stands for everything else that passages depend on: see knowledge_add.Recipe
    passages: tuple[str, ...]  # ids


class Manifest(Frozen):
    """The files of a knowledge, by the name that their passages are cited with."""

    files: dict[str, FileEntry] = {}

    @property
    def passages(self) -> int:
        """How many there are."""
        return sum(len(entry.passages) for entry in self.files.values())


class Action(Frozen):
    """What is to be done about one file. "touched": another time, the same content."""

    state: State
    source: str
    file: SourceFile | None = None  # none: it is gone


def load_manifest(path: Path) -> Manifest:
    """The manifest at `path`, an empty one if there is none."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Manifest()
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: no list of files that can be read; remove it and add the documents again") from error


def save_manifest(path: Path, manifest: Manifest) -> None:
    """Write it whole or not at all."""
    write_text(path, manifest.model_dump_json())


def plan(
    manifest: Manifest, found: Found, recipe: str, digest: Callable[[SourceFile], str], clean: Clean | None = None
) -> list[Action]:
    """What is to be done, file by file, in the order of `found`; then what is gone from the folders looked through.

    `digest` gives a file's sha256; it is asked only where the size is the old one and the time is not. `clean` is
    applied to the names of new files, since they stand beside their passages in the prompt.
    """
    by_path = {entry.path: source for source, entry in manifest.files.items()}
    taken, actions = set(manifest.files), list[Action]()
    for file in found.files:
        source = by_path.get(file.key)
        if source is None:
            source = _name(file, taken, clean or cleaner())
            taken.add(source)
            actions.append(Action(state="new", source=source, file=file))
        else:
            actions.append(Action(state=_state(manifest.files[source], file, recipe, digest), source=source, file=file))
    there = {file.key for file in found.files}
    for source, entry in manifest.files.items():
        if entry.path not in there and found.looked_through(entry.path):
            actions.append(Action(state="gone", source=source))
    return actions


def _state(entry: FileEntry, file: SourceFile, recipe: str, digest: Callable[[SourceFile], str]) -> State:
    if entry.recipe != recipe or not entry.sha256 or entry.size != file.size:
        return "changed"
    if entry.mtime_ns == file.mtime_ns:
        return "unchanged"
    return "touched" if digest(file) == entry.sha256 else "changed"


def _name(file: SourceFile, taken: set[str], clean: Clean) -> str:
    """The name to cite a new file by: its path in what was added, with more folders in front if that is taken."""
    parts = [" ".join(clean(part).split()) or "_" for part in file.path.parts[1:]]
    for depth in range(min(file.depth, len(parts)), len(parts) + 1):
        name = "/".join(parts[-depth:])
        if name not in taken:
            return name
    return next(  # paths that differ only in what `clean` takes out
        numbered for n in range(2, len(taken) + 3) if (numbered := f"{'/'.join(parts)} ({n})") not in taken
    )
