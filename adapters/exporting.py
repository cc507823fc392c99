"""Give a version away: as PEFT saved it (for PEFT, vLLM, llama.cpp's converter) or merged into its base model.

The target's name says what is written: `.tar.gz`, `.tgz` and `.zip` are archives with one folder in them, any other
name is a folder. Nothing is overwritten, and what is at the target is whole.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModel
from adapters.importing import ARCHIVES
from adapters.lora_config import CONFIG
from adapters.registry import CARD, AdapterCard, file_hashes
from adapters.validation import WEIGHTS, problems, read_config, refuse
from data.errors import BrogueError
from data.home import new_folder

_FORMATS = {".tar.gz": "gztar", ".tgz": "gztar", ".zip": "zip"}


def export_version(card: AdapterCard, version: Path, base: BaseModel, target: Path, merge: bool = False) -> list[str]:
    """Write the version in the folder `version` to `target`; returns what a person should know of it, a line each."""
    if target.exists() or target.is_symlink():
        raise BrogueError(f"{target} exists already; choose another name for --to, or remove it")
    refuse(card.name, problems(version, base, None, card))
    if merge and card.served == "soft-prompt":
        raise BrogueError(
            f"{card.name} is a soft prompt: it stands before each prompt and changes no weights; leave --merge away"
        )
    write = _write_merged if merge else _write_adapter
    suffix = next((s for s in ARCHIVES if target.name.lower().endswith(s)), None)
    try:
        if suffix is None:
            with new_folder(target) as folder:
                write(card, version, base, folder)
        else:
            _write_archive(target, suffix, f"{card.adapter}-{card.version}", lambda f: write(card, version, base, f))
    except OSError as error:
        raise BrogueError(
            f"cannot write {target} ({error.strerror or error}); choose another place for --to"
        ) from error
    return [] if merge else _cautions(card, version)


def _write_adapter(card: AdapterCard, version: Path, base: BaseModel, folder: Path) -> None:
    shutil.copyfile(version / WEIGHTS, folder / WEIGHTS)
    # PEFT and llama.cpp's converter find the base model by this name: a hub id goes anywhere, a folder on this machine.
    named = base.name if "/" in base.name else base.path
    _write_json(folder / CONFIG, read_config(version) | {"base_model_name_or_path": named})
    card = card.model_copy(update={"files": file_hashes(folder)})
    _write_json(folder / CARD, card.model_dump(mode="json"))
    what = {"soft-prompt": "A soft prompt in PEFT's format.", "merged": f"{card.method} in PEFT's format."}
    described = _readme(card, base, what.get(card.served, "A LoRA adapter in PEFT's format."))
    (folder / "README.md").write_text(described, encoding="utf-8")


def _write_merged(card: AdapterCard, version: Path, base: BaseModel, folder: Path) -> None:
    from adapters.merging import merge

    try:
        merge(base.path, version, folder)
    except BrogueError as error:
        raise BrogueError(f"{card.name} cannot be merged: {error}") from error
    what = "A whole model: the base model with the adapter merged in."
    (folder / "README.md").write_text(_readme(card, base, what), encoding="utf-8")


def _write_archive(target: Path, suffix: str, stem: str, write: Callable[[Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / "content" / stem
        folder.mkdir(parents=True)
        write(folder)
        made = shutil.make_archive(str(Path(temporary) / "archive"), _FORMATS[suffix], folder.parent, stem)
        Path(made).rename(target)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable by others, unlike what `data.home` writes into the home; the folder as a whole appears at once."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _cautions(card: AdapterCard, version: Path) -> list[str]:
    if card.served == "soft-prompt":
        return [
            "a soft prompt is used by PEFT and by Brogue; to vLLM its vectors are given before each prompt's "
            "(prompt_embeds), llama.cpp takes none"
        ]
    if card.served == "merged":
        return [f"what {card.method} trained is read by PEFT only: for vLLM or llama.cpp add --merge"]
    config = read_config(version)
    if config.get("use_rslora") or config.get("rank_pattern") or config.get("alpha_pattern"):
        return [
            "llama.cpp knows one plain scale for a whole adapter, this one has rank-stabilised or per-module scales: "
            "for llama.cpp add --merge"
        ]
    return []


def _readme(card: AdapterCard, base: BaseModel, what: str) -> str:
    """What somebody who gets only this folder must know to use it."""
    prompt = "none" if card.system_prompt is None else json.dumps(card.system_prompt, ensure_ascii=False)
    facts = {
        "version": card.name,
        "base model": f"{base.name} (sha256 of its weights {base.sha256[:16]}…)",
        "recipe and method": f"{card.recipe}, {card.method}, rank {card.rank}",
        "dataset": f"{card.dataset} {card.dataset_digest[:16]}".strip(),
        "system prompt it was trained with": prompt,
        "created": card.created,
        **{score.replace("_", " "): f"{value:.4f}" for score, value in card.scores.items()},
    }
    lines = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    return f"# {card.name}\n\n{what} Written by Brogue.\n\n{lines}"
