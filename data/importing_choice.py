"""How the rows of a file become records: by the format they have, else by the columns that are there.

A format is recognised by the first row (data/formats.py); columns go by their usual names, or as the user named them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats import FORMATS, GENERIC, Convert, Format, Group
from data.formats_files import FILE_TYPES
from data.records import Kind

FORMAT_NAMES = (*FILE_TYPES, *(f.name for f in FORMATS))

# Column names that are taken when none is given, in this order.
_USUAL_COLUMNS = {
    "prompt": ("prompt", "instruction", "question"),
    "response": ("response", "completion", "output", "answer"),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversation"),
    "text": ("text", "sentence", "utterance", "query"),
    "label": ("label", "category", "intent", "class"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "labels"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "tie": ("tie",),
    "replies": ("replies", "responses"),
    "ranks": ("ranks", "ranking"),
    "good": ("good",),
}
# Per kind the sets of fields that make it, in the order in which kinds are guessed; field → must it be there?
_FIELDS: dict[Kind, list[dict[str, bool]]] = {
    "preference": [{"chosen": True, "rejected": True, "prompt": False, "messages": False, "system": False,
                    "tie": False}],
    "ranking": [{"replies": True, "ranks": True, "prompt": False, "messages": False, "system": False}],
    "rated": [{"messages": True, "good": True}],
    "chat": [{"messages": True}],
    "instruction": [{"prompt": True, "response": True, "system": False}],
    "labelled": [{"text": True, "label": True}, {"tokens": True, "tags": True}],
}  # fmt: skip
# Fields that a column option can name, and so tell the kind.
COLUMN_OPTIONS = ("prompt", "response", "system", "messages", "text", "label", "chosen", "rejected")


@dataclass(frozen=True)
class Reading:
    """How the rows of a file become records."""

    kind: Kind
    name: str
    convert: Convert
    columns: dict[str, str]  # our field → the file's column; empty where the format knows
    group: Group | None = None  # what rows of this format belong together by


def choose_reading(path: Path, row: dict[str, Any], kind: Kind | None, columns: dict[str, str | None],
                   wanted: str | None) -> Reading:  # fmt: skip
    """The reading that was asked for, else the first whose format `row` has, else the one its columns tell."""
    named = {name: column for name, column in columns.items() if column is not None}
    if wanted is not None:
        return _reading(path, _format(wanted), kind)
    if not named:
        for known in FORMATS:
            if known.matches(row) and (kind is None or kind in known.kinds):
                return _reading(path, known, kind)
    for guess in [kind] if kind else _FIELDS:
        for fields in _FIELDS[guess]:
            chosen = _choose_columns(fields, named, list(row))
            if chosen is not None:
                return Reading(guess, "columns", GENERIC[guess], chosen)
    raise _no_columns(path, kind, named, list(row))


def _format(name: str) -> Format:
    found = next((known for known in FORMATS if known.name == name), None)
    if found is None:
        raise DataError(f"no format '{name}'; have: {', '.join(FORMAT_NAMES)}")
    return found


def _reading(path: Path, known: Format, kind: Kind | None) -> Reading:
    chosen = kind or next(iter(known.kinds))
    if chosen not in known.kinds:
        raise DataError(f"{path}: the format {known.name} holds {' or '.join(known.kinds)} records, not {chosen}")
    return Reading(chosen, known.name, known.kinds[chosen], {}, known.group)


def _choose_columns(fields: dict[str, bool], named: dict[str, str], there: list[str]) -> dict[str, str] | None:
    """Our fields and their columns; None where a field that has to be there has none, or a named one is no field."""
    if not named.keys() <= fields.keys() or not set(named.values()) <= set(there):
        return None
    chosen = {}
    for name, required in fields.items():
        column = named.get(name) or next((c for c in _USUAL_COLUMNS[name] if c in there), None)
        if column is not None:
            chosen[name] = column
        elif required:
            return None
    return chosen


def _no_columns(path: Path, kind: Kind | None, named: dict[str, str], there: list[str]) -> DataError:
    have = f"the columns are: {', '.join(c or '(no name)' for c in there)}"
    for column in named.values():
        if column not in there:
            return DataError(f"{path}: no column '{column}'; {have}")
    if kind is None:
        return DataError(
            f"{path}: cannot tell what its records are; {have}. Say what they are with --as ({', '.join(_FIELDS)}), "
            "and name columns such as --prompt-column and --response-column, or --text-column and --label-column"
        )
    fields = _FIELDS[kind][0]
    wrong = next((name for name in named if name not in fields), None)
    if wrong:
        return DataError(f"{path}: {kind} records have no {wrong}; drop --{wrong}-column or choose another --as")
    name = next(n for n, required in fields.items() if required and not {*_USUAL_COLUMNS[n], named.get(n)} & {*there})
    call = f"Name it with --{name}-column" if name in COLUMN_OPTIONS else "Rename it so"
    return DataError(f"{path}: no column for the {name} ({' or '.join(_USUAL_COLUMNS[name])}); {have}. {call}")
