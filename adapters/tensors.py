"""Looking into safetensors files without torch: names, shapes and whether the numbers are numbers.

numpy knows no bfloat16, so its bits are looked at as 16-bit integers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from data.errors import BrogueError, one_line

DTYPES = ("F32", "F16", "BF16")  # that weights may have
_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_CHUNK = 1 << 22  # numbers looked at at once


class Tensor(NamedTuple):
    """One entry of a file's header."""

    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the file's begin


def read_header(path: Path) -> dict[str, Tensor]:
    """name → tensor; raises `BrogueError` if the file is not a whole safetensors file."""
    try:
        with safe_open(path, framework="numpy"):  # the library checks lengths, offsets and overlaps
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise BrogueError(
            f"{path.name} is broken or cut off ({one_line(error, 120)}); copy or download it again"
        ) from error
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def numbers_are_finite(path: Path, tensor: Tensor) -> bool:
    """No NaN and no infinity; `tensor.dtype` is F32, F16 or BF16."""
    if tensor.dtype == "BF16":  # all ones in the exponent
        return all(bool(((chunk & 0x7F80) != 0x7F80).all()) for chunk in _chunks(path, tensor))
    return all(bool(np.isfinite(chunk).all()) for chunk in _chunks(path, tensor))


def same_numbers(path: Path, tensor: Tensor, model: Path, name: str) -> bool:
    """Is `tensor` the weight `name` of the model in the folder `model`? True where that holds no such weight (tied)."""
    for file in sorted(model.glob("*.safetensors")):
        other = read_header(file).get(name)
        if other is not None and other.dtype in _NUMPY:
            pairs = zip(_chunks(path, tensor), _chunks(file, other), strict=True)
            return tensor.shape == other.shape and all(
                np.array_equal(_float32(a, tensor), _float32(b, other)) for a, b in pairs
            )
    return True


def _chunks(path: Path, tensor: Tensor) -> Iterator["np.ndarray[Any, Any]"]:
    size = int(np.prod(tensor.shape, dtype=np.int64))
    if size:
        numbers = np.memmap(path, _NUMPY[tensor.dtype], "r", tensor.offset, (size,))
        for begin in range(0, size, _CHUNK):
            yield numbers[begin : begin + _CHUNK]


def _float32(chunk: "np.ndarray[Any, Any]", tensor: Tensor) -> "np.ndarray[Any, Any]":
    if tensor.dtype == "BF16":
        return (chunk.astype(np.uint32) << 16).view(np.float32)
    return chunk.astype(np.float32)
