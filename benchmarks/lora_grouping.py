"""Rows of many adapters in one product: all slots wide and masked (ours), or a pair of products per adapter?

Run `python -m benchmarks.lora_grouping` with nothing else running; it needs no engine. A model's linear layers are run
in turn with random weights, each followed by its adapters' part, so that the caches are as cold as in an engine. One
JSON line for each number of slots and kind of batch: microseconds that adapters add per module, medians of the rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from serve.cpu_lora import MaskedLoRA
from serve.cpu_lora_kernel import Product, best_prepack

LAYERS, RANK = 30, 8
MODULES = ((576, (576, 192, 192)), (576, (576,)), (576, (1536, 1536)), (1536, (576,)))  # a 135M model's: in, fused outs
Add = Callable[[int, Tensor, Tensor], None]  # module, y, x


class Layer:
    """One module with its base weight and its stacks of adapters."""

    def __init__(self, width: int, outs: tuple[int, ...], slots: int) -> None:
        self.outs = outs
        self.x_width = width
        self.a = tuple(torch.randn(slots, 1, RANK, width).bfloat16() * 0.01 for _ in outs)
        self.b = tuple(torch.randn(slots, 1, out, RANK).bfloat16() * 0.01 for out in outs)
        self.base = best_prepack()(torch.randn(width, sum(outs)).bfloat16())
        self.pairs = [self._pair(slot) for slot in range(slots)]

    def _pair(self, slot: int) -> tuple[Product, Product]:
        """The products with A and B of one adapter, its slices side by side."""
        a = torch.cat([a[slot, 0] for a in self.a]).t()
        b = torch.block_diag(*(b[slot, 0].t().float() for b in self.b)).bfloat16()
        return best_prepack()(a), best_prepack()(b)


def masked(layers: list[Layer], owners: list[int], slots: int) -> Add:
    """Ours."""
    wrapper = MaskedLoRA(len(owners), len(owners), "cpu")
    mapping = SimpleNamespace(index_mapping=[slot + 1 for slot in owners], prompt_mapping=[1])
    wrapper.update_metadata(mapping, [slot + 1 for slot in range(slots)], slots, 0)
    return lambda i, y, x: wrapper.add_lora_linear(y, x, layers[i].a, layers[i].b, 1.0, layers[i].outs)


def grouped(layers: list[Layer], owners: list[int], slots: int) -> Add:
    """A pair of products for each adapter's rows, taken out and put back by index."""
    rows = [(slot, (torch.tensor(owners) == slot).nonzero().flatten()) for slot in range(slots) if slot in owners]

    def add(i: int, y: Tensor, x: Tensor) -> None:
        for slot, index in rows:
            shrink, expand = layers[i].pairs[slot]
            alone = index.numel() == y.size(0)
            hidden = torch.empty((index.numel(), RANK * len(layers[i].outs)), dtype=x.dtype)
            delta = torch.empty((index.numel(), y.size(1)), dtype=x.dtype)
            shrink(x if alone else x[index], hidden)
            expand(hidden, delta)
            if alone:
                y += delta
            else:
                y.index_add_(0, index, delta)

    return add


@torch.inference_mode()
def seconds(layers: list[Layer], rows: int, add: Add | None) -> float:
    """One pass over all modules."""
    inputs = [torch.randn(rows, layer.x_width).bfloat16() for layer in layers]
    outputs = [torch.empty(rows, sum(layer.outs)).bfloat16() for layer in layers]
    began = time.perf_counter()
    for i, (layer, x, y) in enumerate(zip(layers, inputs, outputs, strict=True)):
        layer.base(x, y)
        if add is not None:
            add(i, y, x)
    return time.perf_counter() - began


def batches(slots: int) -> dict[str, list[int]]:
    """Whose each row is: decoding one stream, 16 streams of one adapter or of all in turn, prompts of 1,000 tokens."""
    return {
        "1 stream": [0],
        "16 streams, one adapter": [0] * 16,
        "16 streams, all adapters": [row % slots for row in range(16)],
        "1,000-token prompt": [0] * 1000,
        "4 prompts of 250, all adapters": [row // 250 % slots for row in range(1000)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    for slots in options.slots:
        layers = [Layer(width, outs, slots) for _ in range(LAYERS) for width, outs in MODULES]
        for batch, owners in batches(slots).items():
            ways: dict[str, Add | None] = {"base": None, "masked": masked(layers, owners, slots)}
            ways["grouped"] = grouped(layers, owners, slots)
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.rounds + 1):  # the first round warms up
                for way, add in ways.items():
                    times[way].append(seconds(layers, len(owners), add))
            median = {way: statistics.median(values[1:]) for way, values in times.items()}
            extra = {way: (median[way] - median["base"]) / len(layers) * 1e6 for way in ("masked", "grouped")}
            line = {"slots": slots, "batch": batch, "base_us": round(median["base"] / len(layers) * 1e6, 1)}
            line |= {f"{way}_extra_us": round(value, 1) for way, value in extra.items()}
            print(json.dumps(line | {"masked_of_grouped": round(extra["masked"] / extra["grouped"], 2)}), flush=True)


if __name__ == "__main__":
    main()
