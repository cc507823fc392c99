"""From a job's uploaded files to its dataset: checked by the importer as any file of a user's, faults named by line.

The dataset is one like others, named as the model that will come of it; so `brogue data show`, `trace` and `forget`
find it. The training file's records are its train split, the validation file's its validation split.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from data.dataset import DatasetCard, Row, save_dataset
from data.errors import BrogueError, DataError, UnknownName
from data.formats_json import jsonl_rows
from data.home import Home
from data.importing import Found, Imported, stream_file
from data.jobs import Asked, Failure, Method
from data.records import Kind, Split, record_id
from data.store_files import Files

KINDS: dict[Method, tuple[Kind, ...]] = {"supervised": ("chat", "instruction"), "dpo": ("preference",)}
FEWEST = 2
_LOOKS: dict[Method, str] = {
    "supervised": '{"messages": [{"role": "user", …}, {"role": "assistant", …}]}',
    "dpo": '{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
}
_UNUSED = ("tools", "functions", "tool_calls", "function_call")  # what a job here could not learn from


class InvalidFile(BrogueError):
    """A file of a job that cannot be learnt from."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=f"invalid_{param}", message=message, param=param)


def make_dataset(home: Home, files: Files, asked: Asked, tell: Callable[[int], None]) -> DatasetCard:
    """The job's dataset, made anew. Raises `InvalidFile`. `tell` is called with the number of rows now and then."""
    parts = [_Part(files, asked, "training_file", asked.training_file, "train", tell)]
    if asked.validation_file is not None:
        parts.append(_Part(files, asked, "validation_file", asked.validation_file, "validation", tell))

    def rows() -> Iterator[Row]:
        for part in parts:
            yield from part.rows()

    try:
        first = parts[0]
        return save_dataset(home, asked.name, rows(), first.filename, first.imported.sha256, {}, None, replace=True,
                            origin=f"uploaded for the fine-tuning job of {asked.name}")  # fmt: skip
    except InvalidFile:
        raise
    except DataError as error:  # two files of different kinds, such as conversations and single questions
        raise InvalidFile(parts[-1].param, parts[-1].said(str(error))) from error


def drop_dataset(home: Home, name: str) -> None:
    """Remove the dataset of a job that nothing came of."""
    folder, gone = home.datasets / name, home.datasets / f".new.{name}.dropped"  # cleared by anybody after a kill
    if folder.is_dir():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


class _Part:
    """One of the two files. It is looked at when it is made; its rows are read later."""

    def __init__(self, files: Files, asked: Asked, param: str, id: str, split: Split,
                 tell: Callable[[int], None]) -> None:  # fmt: skip
        self.param, self._method, self._split = param, asked.method, split
        try:
            self.filename, self._path = files.get(id).filename, files.path(id)
        except UnknownName as error:
            raise InvalidFile(param, f"{param}: {id} was deleted before it could be read") from error
        self.imported: Imported = Imported()
        with _as_invalid(self):
            for line, row in jsonl_rows(self._path):
                _refuse_unused(line, row)
            self.imported, self._found = stream_file(self._path, None, {}, "jsonl", tell)
            if self.imported.kind not in KINDS[self._method]:
                raise DataError(
                    f"its first record looks like {self.imported.kind}; the method '{self._method}' wants "
                    f"{_LOOKS[self._method]} in each line"
                )

    def rows(self) -> Iterator[Row]:
        """The rows to be saved. Raises `InvalidFile` at the first fault."""
        with _as_invalid(self):
            for one in self._found:
                self._refuse_faults()
                yield self._row(one)
            self._refuse_faults()
            if self._split == "train" and self.imported.kept < FEWEST:
                raise DataError(f"it holds {self.imported.kept} examples; wanted at least {FEWEST}")

    def said(self, message: str) -> str:
        """A complaint for the client: its own name of the file, no path of ours."""
        told = message.removeprefix(f"{self._path}: ")
        for advice in ("; nothing was imported", ". Say what they are"):  # for who types the command
            told = told.partition(advice)[0]
        told = re.sub(rf"{re.escape(str(self._path))}:(\d+)", r"line \1", told).replace(str(self._path), "the file")
        return f"{self.filename}{', ' if told.startswith('line ') else ': '}{told}"

    def _refuse_faults(self) -> None:
        if self.imported.faults:
            raise DataError(self.imported.faults[0])

    def _row(self, one: Found) -> Row:
        return Row(id=record_id(one.record), split=self._split, record=one.record, weight=one.weight)


@contextmanager
def _as_invalid(part: _Part) -> Iterator[None]:
    """In this block a `DataError` becomes an `InvalidFile` of that part."""
    try:
        yield
    except DataError as error:
        raise InvalidFile(part.param, part.said(str(error))) from error
    except FileNotFoundError as error:
        raise InvalidFile(part.param, f"{part.filename} was deleted while it was being read") from error


def _refuse_unused(line: int, row: Any) -> None:
    """Refuse what OpenAI's format can say and training here would pass over without a word."""
    if not isinstance(row, dict):
        return  # the importer says what is wrong with it
    messages = [row, *_messages(row)]
    for message in messages:
        if (name := next((name for name in _UNUSED if message.get(name)), None)) is not None:
            raise DataError(f"line {line}: '{name}' cannot be learnt from here; leave it out")
        if message is not row and message.get("weight") not in (None, 1):
            raise DataError(
                f"line {line}: a message has the weight {message['weight']}; every answer of a conversation is learnt "
                "here, so leave weight out, or split the conversation"
            )


def _messages(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    inputs = row.get("input")
    before = inputs.get("messages") if isinstance(inputs, dict) else None
    for messages in (row.get("messages"), before, row.get("preferred_output"), row.get("non_preferred_output")):
        if isinstance(messages, list):
            yield from (message for message in messages if isinstance(message, dict))
