"""Two ways to run an embedding model in a folder: torch, and ONNX on the processor.

Both give unit vectors in float32. Heavy libraries and models are loaded when the first text is embedded.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.embeddings import Identity, Kind, Tell
from data.errors import BrogueError, one_line

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

# Tokens in one batch: what so few need stays in a processor's cache. Batches of 32 long texts took half as long again.
_BATCH_TOKENS, _GPU_BATCH_TOKENS = 2048, 65_536
_CHARS_PER_TOKEN = 4  # only to make batches
_NO_LIMIT = 1_000_000  # tokenizers without a limit name a number beyond all sense


def multiplies_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 itself; others only imitate it, slowly."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("flags")[2]
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.partition("\n")[0].split())


def dimension(folder: Path) -> int:
    """Numbers in a vector of the sentence-transformers model in `folder`, without loading it."""
    for dense in sorted(folder.glob("*_Dense/config.json"), reverse=True):
        return int(_json(dense)["out_features"])
    config = _json(folder / "config.json")
    size = config.get("hidden_size") or config.get("dim") or config.get("d_model")
    if not isinstance(size, int):
        raise BrogueError(f"{folder / 'config.json'}: no hidden_size; this is not a model that can embed text")
    return size


class _Local:
    """What is known of a model in a folder before it is loaded; loading it can take seconds and waits for `encode`."""

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.identity, self._folder = identity, folder
        self.max_tokens = _max_tokens(folder)

    def count_tokens(self, text: str) -> int:
        """See `Embedder.count_tokens`."""
        return len(self._counter.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _counter(self) -> "Tokenizer":
        tokenizer = self._load_tokenizer()
        tokenizer.no_truncation()
        return tokenizer

    def _load_tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises plain Exceptions
            raise BrogueError(
                f"embedding model folder {self._folder}: its tokenizer.json cannot be read ({one_line(error, 120)})"
            ) from error
        tokenizer.no_padding()
        return tokenizer


class TorchEmbedder(_Local):
    """A sentence-transformers model, on a GPU if there is one."""

    def __init__(self, identity: Identity, folder: Path, precision: str) -> None:
        super().__init__(identity, folder)
        self._precision = precision

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = lambda _: None) -> "np.ndarray[Any, Any]":
        """See `Embedder.encode`."""
        import numpy as np

        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        budget = _GPU_BATCH_TOKENS if self._model.device.type == "cuda" else _BATCH_TOKENS
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        for batch in _batches(texts, self.max_tokens, budget, tell):
            part = encode(
                [texts[i] for i in batch], batch_size=len(batch), show_progress_bar=False, convert_to_tensor=True
            )
            vectors[batch] = part.float().cpu().numpy()
        return unit(vectors)

    @cached_property
    def _model(self) -> "SentenceTransformer":
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        # On a processor, the fused kernel is slow for the short heads of such models.
        attention = {} if torch.cuda.is_available() else {"attn_implementation": "eager"}
        options = {"dtype": getattr(torch, self._precision), **attention}
        try:
            model = SentenceTransformer(str(self._folder), model_kwargs=options, local_files_only=True)
        except Exception as error:  # a folder may be wrong in any way
            raise BrogueError(f"embedding model {self._folder} cannot be loaded ({one_line(error, 160)})") from error
        if attention:
            from assistant.embeddings_attention import make_lean

            make_lean(model)
        return model


class OnnxEmbedder(_Local):
    """An ONNX file with the tokenizer and the pooling of the model that it was made of."""

    def __init__(self, identity: Identity, folder: Path, file: Path) -> None:
        super().__init__(identity, folder)
        self._file = file
        pooling = _json(folder / "1_Pooling" / "config.json")
        mode = {pooling.get("pooling_mode")} | {
            k.removeprefix("pooling_mode_") for k, v in pooling.items() if v is True
        }
        self._first_only = bool(mode & {"cls", "cls_token"})
        if not mode & {"cls", "cls_token", "mean", "mean_tokens"}:
            raise BrogueError(f"{folder}: its pooling is not 'mean' or 'cls'; set precision to float32 in brogue.toml")

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = lambda _: None) -> "np.ndarray[Any, Any]":  # noqa: ARG002
        """See `Embedder.encode`. Models with prompts have no ONNX file here, so documents and queries are alike."""
        import numpy as np

        names = [value.name for value in self._session.get_inputs()]
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        for batch in _batches(texts, self.max_tokens, _BATCH_TOKENS, tell):
            tokens = [self._cutter.encode(texts[i]).ids for i in batch]
            ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, some in enumerate(tokens):
                ids[row, : len(some)], mask[row, : len(some)] = some, 1
            known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = self._session.run(None, {name: known[name] for name in names})[0]
            vectors[batch] = hidden[:, 0] if self._first_only else (hidden * mask[..., None]).sum(axis=1)
        return unit(vectors)

    @cached_property
    def _cutter(self) -> "Tokenizer":
        tokenizer = self._load_tokenizer()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _session(self) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the engine needs the cores too
        try:
            return onnxruntime.InferenceSession(str(self._file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds
            raise BrogueError(f"embedding model {self._file} cannot be loaded ({one_line(error, 160)})") from error


def unit(vectors: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Each row at length 1; a row of zeros stays."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray[Any, Any] = vectors / np.where(lengths == 0, 1, lengths)
    return result


def _batches(texts: Sequence[str], max_tokens: int, budget: int, tell: Tell) -> Iterator[list[int]]:
    """The texts' positions, the longest first, in batches of about `budget` tokens: little is padded."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    done = 0
    while done < len(order):
        longest = min(max_tokens, len(texts[order[done]]) // _CHARS_PER_TOKEN + 2)
        batch = order[done : done + max(1, budget // longest)]
        yield batch
        done += len(batch)
        if len(texts) > len(batch):
            tell(f"embedding {done} of {len(texts)} passages")


def _max_tokens(folder: Path) -> int:
    """What the model in `folder` reads of a text; sentence-transformers has kept it in two places over the years."""
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _json(folder / file).get(key) if (folder / file).exists() else None
        if isinstance(value, int) and value < _NO_LIMIT:
            return value
    return int(_json(folder / "config.json").get("max_position_embeddings") or 512)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrogueError(f"{path}: cannot be read as JSON ({one_line(error, 120)})") from error
    if not isinstance(value, dict):
        raise BrogueError(f"{path}: wanted a JSON object, found {type(value).__name__}")
    return value
