"""A model that the user names: a folder, or a Hugging Face id or an address, fetched once into `<home>/models/`."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from data.errors import BrogueError, one_line
from data.home import Home, new_folder
from data.remote import fetch, is_remote, name_of

_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_UNWANTED = ["onnx/*", "openvino/*"]


def locate(model: str, home: Home, option: str, mend: str, tell: Callable[[str], None]) -> tuple[str, Path]:
    """The name and the folder of `model`. `option` is where the user named it, `mend` how to name another."""
    given = Path(model).expanduser()
    if given.is_dir():
        return given.resolve().name, given.resolve()
    if is_remote(model):
        return _from_store(model, home, tell)
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise BrogueError(f"{option} '{model}' is neither a folder nor a Hugging Face id (owner/name); {mend}")
    folder = fetched_folder(model, home)
    if not is_fetched(folder):
        _fetch(model, folder, option, tell)
    return model, folder


def _from_store(where: str, home: Home, tell: Callable[[str], None]) -> tuple[str, Path]:
    """A model at an address, fetched once: another model is to have another address."""
    folder = store_folder(where, home)
    if not folder.exists():
        tell(f"fetching {where}")
        with new_folder(folder) as target:
            target.rmdir()
            fetch(where, target)
    return name_of(where), folder


def store_folder(where: str, home: Home) -> Path:
    """Where a model from an address is kept."""
    return home.models / f"{name_of(where)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def fetched_folder(hub_id: str, home: Home) -> Path:
    return home.models / hub_id.replace("/", "--").lower()


def is_fetched(folder: Path) -> bool:
    return (folder / ".complete").exists()


def _fetch(hub_id: str, folder: Path, option: str, tell: Callable[[str], None]) -> None:
    """The model from the hub, safetensors only; a broken download is resumed by the next call."""
    from huggingface_hub import snapshot_download

    tell(f"downloading {hub_id}")
    try:
        snapshot_download(hub_id, local_dir=folder, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise BrogueError(
            f"cannot fetch {option} '{hub_id}' ({one_line(error, 160)}); check the id and the network, or name a folder"
        ) from error
    (folder / ".complete").touch()
