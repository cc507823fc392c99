"""Is a folder an adapter that the engine serves rightly on this base model? Asked before the engine sees it.

An engine refuses some of what is wrong with an error, serves some of it wrongly in silence (foreign weights of the same
shapes, settings that it does not read) and dies of some. So everything is looked at here first: the files, the PEFT
configuration, every tensor's name, shape and numbers. Only numpy and the safetensors format; torch is never imported.
"""

import json
import re
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModel
from adapters.lora_config import CONFIG, PREFIX, bad_numbers, expected_tensors, unserved
from adapters.other_folders import bad_numbers_in, merged_problems, soft_prompt_problems
from adapters.registry import CARD, AdapterCard, Registry, Served, file_hashes, refuse_scorer
from adapters.tensors import DTYPES, Tensor, read_header, same_numbers
from data.errors import BrogueError, one_line

WEIGHTS = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


class VersionChecker:
    """`check_version` for the adapters of one home and engine; a version that passed is not read again until its
    files change, so that the check may stand in the way of every load."""

    def __init__(self, registry: Registry, base: BaseModel, max_rank: int | None, home_root: Path) -> None:
        self._registry = registry
        self._base = base
        self._max_rank = max_rank
        self._home_root = home_root
        self._passed: dict[str, object] = {}

    def __call__(self, card: AdapterCard) -> None:
        folder = self._registry.folder(card.adapter, card.version)
        stats = ((p.name, p.lstat()) for p in sorted(folder.rglob("*")))
        stamp = tuple((name, s.st_mode, s.st_size, s.st_mtime_ns) for name, s in stats)
        if self._passed.get(card.engine_name) != stamp:
            check_version(card, folder, self._base, self._max_rank, self._home_root)
            self._passed[card.engine_name] = stamp


def check_version(card: AdapterCard, folder: Path, base: BaseModel, max_rank: int | None, home_root: Path) -> None:
    """Raises `BrogueError` with the first reason why this version cannot be served."""
    refuse_scorer(card)
    if home_root not in folder.parents or folder.resolve() != home_root.resolve() / folder.relative_to(home_root):
        found = [f"its folder leads out of the home folder {home_root}: {folder.resolve()}"]
    else:
        found = problems(folder, base, max_rank, card)
    refuse(card.name, found)


def folder_for(registry: Registry, card: AdapterCard, base: BaseModel) -> Path:
    """The folder of a reward model or classifier; raises `BrogueError` if it has changed or is for another base."""
    if card.base_sha256 != base.sha256:
        raise BrogueError(f"{card.name} was trained on base model {card.base_model}; the base model is {base.name}")
    folder = registry.folder(card.adapter, card.version)
    if found := changed_files(folder, card):
        raise BrogueError(f"{card.name} cannot be used: {found[0]}")
    return folder


def refuse(what: str, found: list[str]) -> None:
    """Raises `BrogueError` with the first of the reasons `found`, if there is one, and the number of others."""
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BrogueError(f"{what} cannot be served: {found[0]}{more}")


def problems(folder: Path, base: BaseModel, max_rank: int | None, card: AdapterCard | None = None,
             same_base: bool = False, served: Served | None = None) -> list[str]:  # fmt: skip
    """Why the adapter in `folder` could not be served rightly as `served` (or its card) says, one line each.

    With a card, the files must be those that it names and the base model must be its; without one (or `same_base`),
    the base model is compared by name (or not at all). Later steps are left out when an earlier one finds something.
    """
    how = served or (card.served if card is not None else "native")
    if found := file_problems(folder):
        return found
    if card is not None and (found := [*changed_files(folder, card), *_foreign_base(card, base)]):
        return found
    try:
        config, header = read_config(folder), read_header(folder / WEIGHTS)
    except BrogueError as error:
        return [str(error)]
    by_name = [] if card is not None or same_base else _differently_named_base(config, base)
    if how == "soft-prompt":
        return by_name or soft_prompt_problems(folder / WEIGHTS, header, config, base)
    if how == "merged":
        return by_name or merged_problems(folder / WEIGHTS, header, config)
    if found := [*by_name, *unserved(config), *bad_numbers(config, max_rank)]:
        return found
    return tensor_problems(folder, header, config, base)


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration in `folder`; raises `BrogueError` if it is not a JSON object."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrogueError(f"{CONFIG} is not valid JSON ({one_line(error, 120)})") from error
    if not isinstance(config, dict):
        raise BrogueError(f"{CONFIG} is not a JSON object")
    return config


def file_problems(folder: Path) -> list[str]:
    """Links, pickles and missing files."""
    if not folder.is_dir():
        return [f"no folder {folder}"]
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    links = [f"{n} is a symbolic link; wanted the file itself" for n, path in files.items() if path.is_symlink()]
    pickles = [pickle_problem(name) for name, path in files.items() if path.suffix.lower() in PICKLES]
    missing = [missing_problem(name) for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    return links + pickles or missing


def pickle_problem(name: str) -> str:
    return (
        f"{name} is a pickle file, which can run code when it is read; save the adapter as safetensors with PEFT's "
        "save_pretrained"
    )


def missing_problem(name: str) -> str:
    return f"no {name} in it; wanted a folder that PEFT saved"


def changed_files(folder: Path, card: AdapterCard) -> list[str]:
    now = file_hashes(folder)
    way_out = "import or train the version again"
    return [
        *(f"{name} is missing; {way_out}" for name in card.files if name not in now),
        *(f"{name} stands in its folder but not in its {CARD}; remove it" for name in now if name not in card.files),
        *(
            f"{name} has changed since it was written (sha256 {now[name][:12]}, {CARD} says {digest[:12]}); {way_out}"
            for name, digest in card.files.items()
            if now.get(name, digest) != digest
        ),
    ]


def _foreign_base(card: AdapterCard, base: BaseModel) -> list[str]:
    if card.base_sha256 == base.sha256:
        return []
    return [
        f"it was trained on base model {card.base_model}, the engine holds {base.name} with other weights; train it "
        f"again: brogue train {card.adapter} --data {card.dataset}"
    ]


def _differently_named_base(config: dict[str, Any], base: BaseModel) -> list[str]:
    """Compared loosely, since the same weights go by many names (a folder's, a mirror's); shapes are compared later."""
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        return []
    theirs, ours = (re.sub(r"[^a-z0-9]+", "-", Path(name).name.lower()).strip("-") for name in (named, base.name))
    if theirs and (theirs in ours or ours in theirs):
        return []
    return [
        f"it was trained on base model '{one_line(named, 120)}', the engine holds '{base.name}'; if both are the same "
        "weights, add --same-base"
    ]


def tensor_problems(folder: Path, header: dict[str, Tensor], config: dict[str, Any], base: BaseModel) -> list[str]:
    """Tensors that are missing, too many, of another shape or dtype, or not numbers."""
    try:
        wanted = expected_tensors(config, base)
    except (re.error, TypeError, ValueError) as error:
        return [f"target_modules or a pattern in {CONFIG} cannot be read ({one_line(error, 120)})"]
    if not wanted:
        targets = one_line(config.get("target_modules"), 120)
        return [f"its target_modules ({targets}) name nothing in base model {base.name}; wanted an adapter for it"]
    copies = {f"{PREFIX}{m}.base_layer.weight": m for m in base.modules if m.endswith(("embed_tokens", "lm_head"))}
    missing = [name for name in wanted if name not in header]
    extra = [name for name in header if name not in wanted and name not in copies]
    found = []
    if missing:
        found.append(f"{_count(missing)} for base model {base.name} missing: {missing[0]}")
    if extra:
        found.append(f"{_count(extra)} that base model {base.name} and {CONFIG} have no place for: {extra[0]}")
    for name, tensor in header.items():
        if name in wanted and tensor.shape != wanted[name]:
            shape, right = (" × ".join(map(str, s)) for s in (tensor.shape, wanted[name]))
            found.append(f"{name} has shape {shape}; base model {base.name} and the rank in {CONFIG} want {right}")
        elif tensor.dtype not in DTYPES:
            found.append(f"{name} holds {tensor.dtype} numbers; wanted {', '.join(DTYPES)}")
    if found:
        return found
    path = folder / WEIGHTS
    return bad_numbers_in(path, header) + [
        f"{name} is not the base model's own weight, and the engine would not use it; train without resizing embeddings"
        for name, module in copies.items()
        if name in header and not same_numbers(path, header[name], Path(base.path), f"{module}.weight")
    ]


def _count(names: list[str]) -> str:
    return "a tensor" if len(names) == 1 else f"{len(names)} tensors"
