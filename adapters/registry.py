"""Which adapters and versions exist, and which version each alias means.

A version is an immutable folder `<home>/adapters/<name>/<n>/` with PEFT weights and `card.json`. The first version of
an adapter becomes its `stable`. Pure files: no torch, no network. Training writes here; the gateway reads.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.errors import BrogueError, one_line, unknown
from data.home import Home, check_name, new_folder, write_json
from data.settings import Frozen

CARD = "card.json"
ALIASES = "aliases.json"


class AdapterCard(Frozen):
    """What a version is: where it came from and what was measured of it."""

    adapter: str
    version: int
    base_model: str
    base_sha256: str
    dataset: str
    dataset_digest: str
    recipe: str
    method: str
    rank: int
    config: dict[str, Any]  # the whole training configuration
    system_prompt: str | None  # what it was trained with and must be served with
    parent: int | None
    scores: dict[str, float]  # losses in nats per answer token
    minutes: float
    created: str
    files: dict[str, str]  # file name → sha256

    @property
    def name(self) -> str:
        return f"{self.adapter}@{self.version}"

    @property
    def engine_name(self) -> str:
        """The name inside the engine: never used twice, since the prefix cache is keyed by it."""
        content = hashlib.sha256("".join(f"{n}:{h}\n" for n, h in sorted(self.files.items())).encode())
        return f"{self.name}-{content.hexdigest()[:6]}"


class Registry:
    """The adapters of one home folder."""

    def __init__(self, home: Home) -> None:
        self._root = home.adapters

    def adapters(self) -> list[str]:
        """Names of all adapters that have a version."""
        return sorted({path.parent.parent.name for path in self._root.glob(f"*/[1-9]*/{CARD}")})

    def versions(self, adapter: str) -> list[int]:
        """Version numbers of `adapter`, ascending; empty if there is none."""
        return sorted(
            int(p.parent.name) for p in (self._root / adapter).glob(f"[1-9]*/{CARD}") if p.parent.name.isdigit()
        )

    def folder(self, adapter: str, version: int) -> Path:
        return self._root / adapter / str(version)

    def card(self, adapter: str, version: int) -> AdapterCard:
        """The card of a version, or an error that names the versions there are."""
        path = self.folder(adapter, version) / CARD
        if not path.is_file():
            self._require(adapter)
            known = [f"{adapter}@{n}" for n in self.versions(adapter)]
            raise unknown("version", f"{adapter}@{version}", known, "See: brogue adapters list")
        try:
            return AdapterCard.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise BrogueError(
                f"{path}: not an adapter card ({one_line(error, 160)}); train the version again"
            ) from error

    def aliases(self, adapter: str) -> dict[str, int]:
        """alias → version of `adapter`."""
        try:
            return dict(json.loads((self._root / adapter / ALIASES).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def resolve(self, reference: str) -> AdapterCard:
        """The card meant by `name` (its stable version), `name@alias` or `name@n`."""
        adapter, _, which = reference.partition("@")
        self._require(adapter)
        if which.isdigit():
            return self.card(adapter, int(which))
        aliases = self.aliases(adapter)
        alias = which or "stable"
        if alias not in aliases:
            known = [*aliases, *map(str, self.versions(adapter))]
            raise unknown("alias or version", reference, [f"{adapter}@{k}" for k in known], "See: brogue adapters list")
        return self.card(adapter, aliases[alias])

    def set_alias(self, adapter: str, alias: str, version: int) -> None:
        """Let `alias` mean `version` from now on."""
        self.card(adapter, version)
        write_json(self._root / adapter / ALIASES, self.aliases(adapter) | {alias: version})

    @contextmanager
    def new_version(self, adapter: str) -> Iterator[tuple[int, Path]]:
        """(number, empty folder) of the next version; it exists for others only if the block succeeds."""
        check_name("an adapter", adapter)
        version = max(self.versions(adapter), default=0) + 1
        with new_folder(self.folder(adapter, version)) as folder:
            yield version, folder
        if version == 1:
            self.set_alias(adapter, "stable", 1)

    def _require(self, adapter: str) -> None:
        if not self.versions(adapter):
            raise unknown("adapter", adapter, self.adapters(), f"Train one: brogue train {adapter} --data NAME")


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file in a version folder but its card."""
    hashes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CARD):
        with path.open("rb") as file:
            hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
