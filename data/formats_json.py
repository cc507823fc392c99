"""JSON and JSONL, read row by row with their line numbers (as data/formats_text.py does it).

An object in which a key stands twice is refused: one of the two values would be lost without a word.
"""

import json
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats_text import MAX_RECORD, MIB, Rows, decode, lines

MAX_JSON = 512 * MIB  # an array is read as a whole, lines are not


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key '{next(n for n in names if names.count(n) > 1)}' stands twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats)


def jsonl_rows(path: Path) -> Rows:
    """One object a line."""
    for number, line in lines(path):
        if line.strip():
            try:
                value = _DECODER.decode(line)
                yield number, "wanted an object, found str" if isinstance(value, str) else value
            except json.JSONDecodeError as error:
                yield number, f"not valid JSON ({error.msg} at column {error.colno})"
            except ValueError as error:
                yield number, str(error)
            except RecursionError:
                yield number, "nested too deeply for a record"


def json_rows(path: Path) -> Rows:
    """The objects of an array, or of the arrays and objects that an object holds; JSONL by another name too."""
    if path.stat().st_size > MAX_JSON:
        raise DataError(f"{path}: larger than {MAX_JSON // MIB} MiB; write it as JSONL, one object a line")
    text = decode(path, path.read_bytes(), 1)
    if _is_jsonl(text):
        yield from jsonl_rows(path)
        return
    position = _skip(text, 0)
    if text[position : position + 1] == "[":
        yield from _JsonText(path, text).items(position)
    elif text[position : position + 1] == "{":
        yield from _JsonText(path, text).members(position)
    else:
        raise DataError(f"{path}: wanted a JSON array of objects; for one object a line name the file .jsonl")


def _is_jsonl(text: str) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    if not (first.startswith("{") and rest.lstrip().startswith("{")):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _skip(text: str, position: int, over: str = " \t\r\n") -> int:
    while position < len(text) and text[position] in over:
        position += 1
    return position


class _JsonText:
    """JSON taken apart value by value, so that every row's line is known. `end` is where the last value ended."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.end = path, text, 0
        self._line, self._counted = 1, 0

    def line(self, position: int) -> int:
        """The line of `position`; asked for growing positions, it counts each line once."""
        self._line += self.text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def value(self, position: int) -> Any:
        """The value that begins at `position`."""
        try:
            value, self.end = _DECODER.raw_decode(self.text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path}:{error.lineno}: not valid JSON ({error.msg})") from error
        except ValueError as error:
            raise DataError(f"{self.path}:{self.line(position)}: {error}") from error
        except RecursionError:
            raise DataError(f"{self.path}:{self.line(position)}: nested too deeply for a record") from None
        if self.end - position > MAX_RECORD:
            raise DataError(f"{self.path}:{self.line(position)}: a record of over {MAX_RECORD // MIB} MiB; cut it")
        return value

    def items(self, position: int) -> Rows:
        """The elements of the array that begins at `position`; a pair of texts is a text and its label."""
        position = _skip(self.text, position + 1)
        while self.text[position : position + 1] != "]":
            line = self.line(position)
            value = self.value(position)
            pair = isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
            yield line, {"text": value[0], "label": value[1]} if pair else [value] if isinstance(value, str) else value
            position = _skip(self.text, self.end, " \t\r\n,")
        self.end = position + 1

    def members(self, position: int) -> Rows:
        """The rows in an object's values: objects are rows, arrays hold rows, anything else is none."""
        found = 0
        position = _skip(self.text, position + 1)
        while self.text[position : position + 1] != "}":
            key = self.value(position)
            position = _skip(self.text, self.end)
            if not isinstance(key, str) or self.text[position : position + 1] != ":":
                raise DataError(f"{self.path}:{self.line(position)}: not valid JSON (a key and a colon were wanted)")
            position = _skip(self.text, position + 1)
            if self.text[position : position + 1] == "[":
                for row in self.items(position):
                    found += isinstance(row[1], dict)
                    yield row
            else:
                line, value = self.line(position), self.value(position)
                if isinstance(value, dict):
                    found += 1
                    yield line, value
            position = _skip(self.text, self.end, " \t\r\n,")
        if not found:
            raise DataError(f"{self.path}: wanted a JSON array of objects; for one object a line name the file .jsonl")
