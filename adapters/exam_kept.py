"""What was asked once and need not be asked again: `<home>/exams/kept/<model>.jsonl`, a line for each answer.

A version never changes, so what it says to a prompt under given sampling stays true, and so does how likely it finds a
text. Lines are only ever added, each by one write: a line that a kill left torn counts as not there.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.home import Home


class Kept:
    """`get` and `put` values of JSON by model and key; every model's file is read once."""

    def __init__(self, home: Home) -> None:
        self._folder = home.root / "exams" / "kept"
        self._read: dict[str, dict[str, Any]] = {}

    def get(self, model: str, key: str) -> Any | None:
        """The value, or none."""
        return self._of(model).get(key)

    def put(self, model: str, key: str, value: Any) -> None:
        """Keep a value; it is on its way to the disk when this returns."""
        self._of(model)[key] = value
        line = json.dumps([key, value], ensure_ascii=False, separators=(",", ":"))
        path = self._path(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            # A line of its own whatever a killed writer left: an empty line costs nothing.
            file.write(f"\n{line}\n".encode(errors="surrogatepass"))

    def _of(self, model: str) -> dict[str, Any]:
        if model not in self._read:
            self._read[model] = _lines(self._path(model))
        return self._read[model]

    def _path(self, model: str) -> Path:
        return self._folder / f"{model.replace('/', '--')}.jsonl"


def key_of(*what: Any) -> str:
    """24 hex digits that stand for what was asked (values of JSON)."""
    text = json.dumps(what, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:24]


def keys_of(who: Any, questions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A key for each of `who`'s answers; without a seed, a question that is given twice at a temperature has two."""
    seen: Counter[str] = Counter()
    keys = []
    for question in questions:
        key = key_of("answer", who, question)
        repeated = seen[key] if question["temperature"] and "seed" not in question else 0
        keys.append(key_of(key, repeated) if repeated else key)
        seen[key] += 1
    return keys


def _lines(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    key, value = json.loads(line)
                    found[key] = value
                except (ValueError, TypeError):
                    continue  # torn, or one of the empty lines
    except FileNotFoundError:
        pass
    return found
