"""Bring an adapter that was made elsewhere into the registry: LoRA, a soft prompt, or another of PEFT's kinds.

In: a folder that PEFT saved (also a Hugging Face download, with whatever else lies in it) or an archive of one. Out: a
version like a trained one. Only the two files that count are copied; they are checked before the version exists. What
the engine takes neither as LoRA nor as a soft prompt is merged into the base model once, to see that it can be. An
adapter that `brogue adapters export` wrote brings its card along, so its base model is known by its hash.
"""

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModel
from adapters.lora_config import CONFIG, unserved
from adapters.methods import METHODS
from adapters.other_folders import SOFT_PROMPTS
from adapters.registry import CARD, AdapterCard, Registry, Served, file_hashes
from adapters.validation import PICKLES, WEIGHTS, missing_problem, pickle_problem, problems, read_config, refuse
from data.errors import BrogueError, one_line
from data.home import Home, write_json

ARCHIVES = (".tar.gz", ".tgz", ".zip")
IMPORTED = "imported"


def import_adapter(
    source: Path,
    adapter: str,
    base: BaseModel,
    max_rank: int | None,
    home: Home,
    system_prompt: str | None = None,
    same_base: bool = False,
) -> tuple[AdapterCard, list[str]]:
    """The next version of `adapter` from `source`, and the names of the files that were left behind."""
    with _opened(source) as opened, Registry(home).new_version(adapter) as (version, folder):
        found = _peft_folder(source, opened)
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(found / name, folder / name)  # follows links: a hub's cache holds nothing else
        brought = _brought_card(found, base if same_base else None)
        how = brought.served if brought is not None else _how(folder)
        refuse(str(source), problems(folder, base, max_rank, brought, same_base, how))
        if how == "merged":
            _try_merging(source, base, folder)
        card = _new_card(brought, folder, found, base, adapter, version)
        if system_prompt is not None:
            card = card.model_copy(update={"system_prompt": system_prompt})
        write_json(folder / CARD, card.model_dump(mode="json"))
        left = sorted(p.name for p in found.iterdir() if p.name not in (CONFIG, WEIGHTS, CARD))
    return card, left


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """`source` as a folder; an archive is unpacked for the time being."""
    if source.is_dir():
        yield source
        return
    if not source.exists():
        raise BrogueError(f"no folder or archive {source}; wanted a folder that PEFT saved (with {CONFIG})")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            shutil.unpack_archive(source, temporary, filter=None if source.suffix == ".zip" else "data")
        except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise BrogueError(
                f"{source} is no folder and cannot be unpacked ({one_line(error, 120)}); wanted a folder that PEFT "
                f"saved or an archive of one ({', '.join(ARCHIVES)})"
            ) from error
        yield Path(temporary)


def _peft_folder(source: Path, opened: Path) -> Path:
    """The one folder in `opened` that holds an adapter: itself, or somewhere below (archives, a hub's cache)."""
    holders = [opened] if (opened / CONFIG).is_file() else sorted(p.parent for p in opened.rglob(CONFIG))
    if len(holders) > 1:
        names = ", ".join(str(p.relative_to(opened)) for p in holders[:4])
        raise BrogueError(f"{source} holds {len(holders)} adapters ({names}); name one of these folders")
    folder = holders[0] if holders else opened
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        return folder  # a pickle beside them is left behind
    pickles = [p.name for p in sorted(folder.glob("adapter_model*")) if p.suffix in PICKLES]
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    refuse(str(source), [*map(pickle_problem, pickles)] or [*map(missing_problem, missing)])
    return folder


def _brought_card(folder: Path, same_base: BaseModel | None) -> AdapterCard | None:
    """The card of an adapter that Brogue exported; its base model is taken to be `same_base` if that is given."""
    try:
        card = AdapterCard.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # none there, or somebody else's file of that name
    if same_base is None:
        return card
    return card.model_copy(update={"base_model": same_base.name, "base_sha256": same_base.sha256})


def kind_of(card: AdapterCard) -> str:
    """What a version's folder holds, and how it is served, for a person."""
    if card.served == "soft-prompt":
        return f"soft prompt ({card.method})"
    if card.served == "merged":
        return f"{card.method}, merged into an engine of its own"
    return f"LoRA of rank {card.rank}"


def _how(folder: Path) -> Served:
    """How what somebody else made can be served, by PEFT's configuration."""
    try:
        config = read_config(folder)
    except BrogueError:
        return "native"  # its problems are told
    if config.get("peft_type") in SOFT_PROMPTS:
        return "soft-prompt"
    plain = config.get("peft_type") == "LORA"
    return "merged" if unserved(config) and not (plain and unserved(config, merged=True)) else "native"


def _try_merging(source: Path, base: BaseModel, folder: Path) -> None:
    from adapters.base_model import load_weights
    from adapters.merging import loaded, merged_model

    try:
        merged_model(loaded(load_weights(base.path), folder))
    except BrogueError as error:
        raise BrogueError(f"{source} cannot be served: {error}") from error


def _method(config: dict[str, Any]) -> str:
    """Our name of what PEFT's configuration says."""
    kind = config["peft_type"]
    if kind == "LORA":
        return "dora" if config.get("use_dora") else "lora"
    known = (method.name for method in METHODS.values() if method.peft_type == kind)
    return next(known, str(kind).lower().replace("_", "-"))


def _new_card(
    brought: AdapterCard | None, folder: Path, found: Path, base: BaseModel, adapter: str, version: int
) -> AdapterCard:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if brought is not None:
        return brought.model_copy(update={"adapter": adapter, "version": version, "parent": None})
    how = _how(folder)
    config = read_config(folder)
    return AdapterCard(
        adapter=adapter,
        version=version,
        base_model=base.name,
        base_sha256=base.sha256,  # its shapes fit and its name is alike: more is not known of a foreign adapter
        dataset=IMPORTED,
        dataset_digest="",
        recipe=IMPORTED,
        method=_method(config),
        rank=max(config.get("r") or 0, *(config.get("rank_pattern") or {}).values(), 0),
        served=how,
        config={"source": found.name, "base_model_name_or_path": config.get("base_model_name_or_path")},
        system_prompt=None,
        parent=None,
        scores={},
        minutes=0,
        created=now,
        files=file_hashes(folder),
    )
