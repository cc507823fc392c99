"""The JSON schema of answers that are JSON objects, from the answers themselves. Pure."""

import json
from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]
ENUM = 20  # different texts at most are a list to choose from, if each stands there five times on average


def schema_of(answers: Sequence[str]) -> Schema | None:
    """What all `answers` have in common, closed: no fields but those that occur. None if one is no JSON object."""
    found = []
    for text in answers:
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError):
            return None
    if not found or not all(isinstance(one, dict) for one in found):
        return None
    return _of(found)


def _of(values: Sequence[Any]) -> Schema:
    """The schema that all of `values` (of JSON) fulfil; of several types, any of theirs."""
    by_type: dict[str, list[Any]] = {}
    for value in values:
        by_type.setdefault(_type(value), []).append(value)
    if {"integer", "number"} <= by_type.keys():
        by_type["number"] += by_type.pop("integer")
    schemas = [_typed(name, some) for name, some in sorted(by_type.items())]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")


def _typed(name: str, values: Sequence[Any]) -> Schema:
    if name == "object":
        fields = dict.fromkeys(key for value in values for key in value)  # in the order in which answers write them
        return {
            "type": "object",
            "properties": {key: _of([value[key] for value in values if key in value]) for key in fields},
            "required": [key for key in fields if all(key in value for value in values)],
            "additionalProperties": False,
        }
    if name == "array":
        items = [item for value in values for item in value]
        return {"type": "array"} | ({"items": _of(items)} if items else {})
    if name == "string" and len(different := dict.fromkeys(values)) <= ENUM and len(different) * 5 <= len(values):
        return {"type": "string", "enum": sorted(different)}
    return {"type": name}
