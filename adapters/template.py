"""What in a text a base model could take for the marks of its chat template; without transformers."""

import json
import re
from pathlib import Path
from typing import Any

# Marks that some families write in their templates without having them as tokens: <|user|>, [INST], <<SYS>>.
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<</?[A-Z_]{2,20}>>|\[/?[A-Z_]{2,30}\]|<\w{1,20}_of_turn>")


def template_tokens(folder: Path | str) -> tuple[str, ...]:
    """The special tokens of the base model in `folder`, and the marks in its chat template, sorted.

    What cannot be read gives none: `prepare` has looked at the model before.
    """
    folder = Path(folder)
    tokenizer, config = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
    added = [*_dicts(tokenizer.get("added_tokens")), *_dicts(config.get("added_tokens_decoder"))]
    found = {str(token.get("content", "")) for token in added if token.get("special")}
    named = (value for key, value in config.items() if key.endswith("_token"))
    found |= {str(value.get("content", "")) if isinstance(value, dict) else value for value in named if value}
    templates = [str(config.get("chat_template", ""))]
    templates += [file.read_text(encoding="utf-8", errors="replace") for file in folder.glob("*.jinja")]
    found |= {mark for template in templates for mark in _MARK.findall(template)}
    return tuple(sorted(token for token in found if isinstance(token, str) and token.strip()))


def chat_templates(folder: Path | str) -> dict[str, str]:
    """The chat templates of the base model in `folder` by name ("default", "tool_use", …), as transformers finds them.

    Files of their own come before what tokenizer_config.json holds. What cannot be read gives none.
    """
    folder = Path(folder)
    named = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    files = {"default": folder / "chat_template.jinja"} | named
    if found := {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}:
        return found
    held = _json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(held, str):
        return {"default": held}
    return {str(template["name"]): str(template["template"]) for template in _dicts(held)}


def _dicts(values: Any) -> list[dict[str, Any]]:
    """The objects in a list, or among the values of an object."""
    values = values.values() if isinstance(values, dict) else values or []
    return [value for value in values if isinstance(value, dict)]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
