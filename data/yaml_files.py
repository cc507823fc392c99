"""YAML files that people write: a mapping, or one line that says what is wrong."""

from pathlib import Path
from typing import Any

import yaml

from data.errors import BrogueError, one_line


def read_mapping(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping in the YAML file at `path`. `wanted` says what it should hold, for a person. Raises `BrogueError`."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BrogueError(f"{path}: not readable as YAML: {one_line(error, 160)}") from error
    if not isinstance(raw, dict):
        raise BrogueError(f"{path}: wanted {wanted}, found {type(raw).__name__}")
    return raw
