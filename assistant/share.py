"""What of a home goes to the others that share with it: assistants' definitions, and adapters that they lack."""

from collections.abc import Callable
from pathlib import Path

from adapters.registry import STATE, Registry
from assistant.definitions import list_assistants
from data.errors import BrogueError
from data.home import Home, sha256_of
from data.store_shared import Shared

Tell = Callable[[str], None]


def push_home(home: Home, shared: Shared, delete: bool, tell: Tell) -> list[str]:
    """Put there what the others lack or have otherwise; the paths. `delete`: of assistants also what is gone here."""
    list_assistants(home)  # a broken definition must not reach the others
    with shared.changing("assistants", "assistants"):
        done = _push(shared, _definitions(home, shared, delete), tell)
    registry = Registry(home)
    for adapter in registry.adapters():
        with shared.changing(f"{adapter}/versions", f"adapters/{adapter}"):
            done += _push(shared, _adapter(home, registry, adapter, set(shared.listed())), tell)
    return done


def _push(shared: Shared, files: dict[str, Path | None], tell: Tell) -> list[str]:
    for path in files:
        tell(path)
    shared.publish(files)
    return list(files)


def _definitions(home: Home, shared: Shared, delete: bool) -> dict[str, Path | None]:
    known = {path: row.sha256 for path, row in shared.listed().items() if path.startswith("assistants/")}
    mine = {f"assistants/{path.name}": path for path in sorted(home.assistants.glob("*.yaml"))}
    changed: dict[str, Path | None] = {path: file for path, file in mine.items() if known.get(path) != sha256_of(file)}
    return changed | (dict.fromkeys(known.keys() - mine.keys()) if delete else {})


def _adapter(home: Home, registry: Registry, adapter: str, known: set[str]) -> dict[str, Path | None]:
    """Versions that the others lack, what lies beside them, and at the end which is stable."""
    folder = home.adapters / adapter
    files: dict[str, Path | None] = {}
    for version in registry.versions(adapter):
        if registry.version_files(adapter, version).keys() <= known:
            continue
        if f"adapters/{adapter}/{version}/card.json" in known:
            raise BrogueError(f"the others have another {adapter}@{version}; import it here under another name")
        files |= registry.version_files(adapter, version)
    beside = [*sorted(folder.glob("[1-9]*.json")), folder / STATE]
    return files | {p: f for f in beside if f.is_file() and (p := f"adapters/{adapter}/{f.name}") not in known}
