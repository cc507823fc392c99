"""What training with a method would take for a base model, before anything is trained.

Parameters are counted on a model without weights, made of its config. Memory is reckoned: weights and gradients as
they are, two float32 moments of AdamW for each trained number, and activations after Korthikanti et al. 2022
(arXiv:2205.05198, without recomputation) plus the logits. Minutes come from three steps on random tokens.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import torch

from adapters import methods
from adapters.base_model import BaseModel, load_weights, model_class
from adapters.methods import Method, Serving
from data.errors import BrogueError
from data.frozen import Frozen

STEPS = 3  # measured, after one that warms up
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_FEW = 16  # tokens; a shorter row is no conversation
_FOUR_BITS = 0.52  # bytes of a number in NF4 with its scales quantised too (Dettmers et al. 2023, arXiv:2305.14314)
_WEIGHT, _FULL = 2, 4  # bytes of a number of the frozen base (bfloat16), and of what is trained (float32)


class Size(Frozen):
    """Numbers that are trained and numbers in all, and how the result can be served."""

    trainable: int
    total: int
    served: Serving


class Memory(Frozen):
    """Bytes in training."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations


class Speed(Frozen):
    """Measured over `STEPS` steps."""

    tokens_per_s: float
    seconds_per_step: float


def size(base: BaseModel, method: Method, rank: int, options: Mapping[str, Any] = _NO_OPTIONS) -> Size:
    """Counted on a model without weights; where a method needs them to begin with, they are loaded."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path)
    with torch.device("meta"):
        make = model_class(Path(base.path))
        bare = getattr(make, "from_config", make)(config)
        try:
            model = methods.attach(bare, method, rank, options)
        except BrogueError:
            model = None
    if model is None:
        model = methods.attach(load_weights(base.path), method, rank, options)
    return Size(trainable=trainable(model), total=sum(p.numel() for p in model.parameters()),
                served=methods.serving(model, method))  # fmt: skip


def trainable(model: Any) -> int:
    """Numbers that training would change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def memory(base: BaseModel, found: Size, batch: int, tokens: int, four_bits: bool = False) -> Memory:
    """Of a step with `batch` rows of `tokens` tokens; `four_bits` is how qlora holds the base model's linear layers."""
    from transformers import AutoConfig

    text = AutoConfig.from_pretrained(base.path).get_text_config()
    hidden, layers, heads = int(text.hidden_size), int(text.num_hidden_layers), int(text.num_attention_heads)
    seen = batch * tokens
    each_layer = seen * (34 * hidden + 5 * heads * tokens)
    logits = seen * int(text.vocab_size) * (_WEIGHT + 2 * _FULL)  # themselves, in float32, and their gradient
    held = base.weight_bytes - (int(_linear(base) * (_WEIGHT - _FOUR_BITS)) if four_bits else 0)
    return Memory(
        weights=held + found.trainable * _FULL, gradients=found.trainable * _FULL,
        optimiser=found.trainable * 2 * _FULL, activations=layers * each_layer + logits,
    )  # fmt: skip


def _linear(base: BaseModel) -> int:
    """Numbers in the layers that are held in 4 bits: all that multiply, but the output layer."""
    inner = (name for name in base.modules if name not in base.embeddings and not name.endswith("lm_head"))
    return sum(math.prod(base.modules[name]) for name in inner)


def free_bytes() -> int:
    """Memory for training: the GPU's where there is one, else this machine's that is free now."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def largest_batch(base: BaseModel, found: Size, batch: int, tokens: int, free: int, four_bits: bool = False) -> int:
    """The most rows up to `batch` that a step has room for; 0 if there is none for a single one."""
    row = memory(
        base, found, 1, tokens, four_bits
    )  # activations are the same for each; the rest does not depend on them
    return min(batch, max(0, (free - row.total + row.activations) // row.activations))


def longest_row(base: BaseModel, found: Size, tokens: int, free: int, four_bits: bool = False) -> int:
    """The most tokens, halved from `tokens` on, of a single row that a step has room for; 0 below 16."""
    while tokens >= _FEW and not largest_batch(base, found, 1, tokens, free, four_bits):
        tokens //= 2
    return tokens if tokens >= _FEW else 0


def measure(base: BaseModel, method: Method, rank: int, batch: int, tokens: int,
            options: Mapping[str, Any] = _NO_OPTIONS) -> Speed:  # fmt: skip
    """Train `STEPS` steps on random tokens and throw the result away."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bare = load_weights(base.path, four_bits=method.four_bits)
    model = methods.attach(bare if method.four_bits else bare.to(device), method, rank, options)
    model.train()
    text = model.config.get_text_config()
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-6)
    ids = torch.randint(0, int(text.vocab_size), (batch, tokens), device=device)
    began = 0.0
    for step in range(1 + STEPS):
        if step == 1:
            began = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    each = (time.perf_counter() - began) / STEPS
    return Speed(tokens_per_s=batch * tokens / each, seconds_per_step=each)


def steps(rows: int, batch: int, epochs: int) -> int:
    """Optimiser steps of a training."""
    return math.ceil(rows / batch) * epochs
