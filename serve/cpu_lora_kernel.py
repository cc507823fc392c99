"""The arithmetic of LoRA on a CPU: y += B·(A·x) for rows of many adapters, the base's rows left alone.

vLLM keeps each module's adapters in stacks with one slot per adapter, for each fused slice an A `[slots, 1, rank, in]`
and a B `[slots, 1, out, rank]`, padded with zeros to the engine's largest rank. Short runs of rows (decoding) are taken
together, whatever their adapters: one product with the A of all of them below each other, a mask that zeroes in each
row what is another adapter's, one product with the B of all of them. A long run of one adapter (a prompt) is taken
alone, and so needs no mask. Nothing is gathered by row, and padding is left out.

Nothing here knows vLLM's classes; of its operators only the prepacked product is used, and only where it exists.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import torch
from torch import Tensor

BASE = -1  # the slot of rows that belong to no adapter
LONG_RUN = 32  # rows; a run this long costs less in a product of its own than with the others' columns masked
IN_PLACE = 32  # rows; from here on PyTorch's product that adds into y beats a packed one with y read and written again
EXACT_SHARE = 4  # a batch that uses at most 1/4 of the filled slots gets a product of just those
MAX_SPANS = 16  # products kept per module; adapters come and go, so the combinations do not end
CACHED_SHAPES = 32  # row counts for which a product keeps a ready kernel, as vLLM's own layers do
WRITES = attrgetter("_version")  # PyTorch counts the writes of every tensor

_LOG = logging.getLogger(__name__)

Product = Callable[[Tensor, Tensor], object]  # (x [rows, k], out [rows, n]): out becomes x @ weight
Prepack = Callable[[Tensor], Product]  # of a weight [k, n]


def plain_product(weight: Tensor) -> Product:
    """The product with a weight `[k, n]` by PyTorch alone."""
    kept = weight.contiguous()
    return lambda x, out: torch.mm(x, kept, out=out)


def onednn_product(weight: Tensor) -> Product:
    """The same through vLLM's own oneDNN operator, which the base model's layers use too.

    PyTorch makes oneDNN set up every bfloat16 product anew: 13 µs a call, against 2–3 µs with the weight packed and
    the kernel kept. A single stream needs 240 of them per token, so this is most of the cost of an adapter.
    """
    from vllm import _custom_ops

    handler = _custom_ops.create_onednn_mm(weight, CACHED_SHAPES)
    multiply = torch.ops._C.onednn_mm.default
    # The closure must hold the handler, not its tensor: with the handler goes the weight.
    return lambda x, out: multiply(out, x, None, handler.handler_tensor)


def best_prepack() -> Prepack:
    """vLLM's operator where this build has it, else PyTorch's product."""
    try:
        from vllm import _custom_ops
    except ImportError:
        return plain_product
    return onednn_product if getattr(_custom_ops, "_supports_onednn", False) else plain_product


@dataclass(eq=False, frozen=True)
class Layout:
    """Whose column is whose in a wide product. One object per distinct layout, so that it can be a quick key."""

    owners: Tensor  # [columns], slot of each


@dataclass(eq=False)
class Segment:
    """Rows `start:stop`, computed together."""

    start: int
    stop: int
    slots: tuple[int, ...]  # the adapters in it, ascending
    row_slots: Tensor | None  # [rows]; none where all rows are of one adapter and nothing has to be masked
    masks: dict[Layout, Tensor] = field(default_factory=dict)
    rooms: dict[tuple[str, int, torch.dtype], Tensor] = field(default_factory=dict)

    def room(self, use: str, columns: int, dtype: torch.dtype) -> Tensor:
        """`[rows, columns]` for a product that is read at once; all modules share it, so it stays in the cache."""
        key = (use, columns, dtype)
        if key not in self.rooms:
            self.rooms[key] = torch.empty((self.stop - self.start, columns), dtype=dtype)
        return self.rooms[key]

    def foreign(self, layout: Layout) -> Tensor | None:
        """`[rows, columns]`, true where the column is not the row's adapter's; made once per step and layout."""
        if self.row_slots is None:
            return None
        mask = self.masks.get(layout)
        if mask is None:
            mask = self.masks[layout] = self.row_slots[:, None] != layout.owners
        return mask


class Plan:
    """Whose the rows are: computed once, used by every module, and by every step until the rows' owners change."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = slots
        self.rows = len(slots)
        self.segments = segment(slots)
        self.jobs: dict[int, Job] = {}  # what each module does, by the id of its last stack

    def groups(self) -> list[tuple[int, Tensor]]:
        """Each adapter in the step with the indices of its rows."""
        rows = torch.tensor(self.slots, dtype=torch.long)
        return [(slot, (rows == slot).nonzero().flatten()) for slot in sorted(set(self.slots) - {BASE})]

    def stretched(self, rows: int) -> "Plan":
        """The plan for another number of rows; only possible if all of them are the same adapter's (or the base's)."""
        if len(set(self.slots)) > 1:
            raise RuntimeError(
                f"LoRA on CPU: {rows} rows came for a step of {self.rows} requests with different adapters, so whose "
                "they are is unknown; prompt_logprobs cannot be mixed with adapters that train lm_head"
            )
        return Plan(list(self.slots[:1]) * rows)


def segment(slots: Sequence[int]) -> list[Segment]:
    """Cut rows into segments: each long run alone, the short ones between them together, long base runs left out."""
    found: list[Segment] = []
    start, short = 0, 0  # rows short:start are short runs waiting for company
    for slot, run in groupby(slots):
        stop = start + sum(1 for _ in run)
        if stop - start >= LONG_RUN:
            found += _together(slots, short, start)
            found += _together(slots, start, stop) if slot != BASE else []
            short = stop
        start = stop
    return found + _together(slots, short, start)


def _together(slots: Sequence[int], start: int, stop: int) -> list[Segment]:
    """Rows `start:stop` as one segment without the base rows at its ends; nothing if no adapter is among them."""
    while start < stop and slots[start] == BASE:
        start += 1
    while start < stop and slots[stop - 1] == BASE:
        stop -= 1
    if start == stop:
        return []
    rows = slots[start:stop]
    distinct = set(rows)
    mixed = torch.tensor(rows, dtype=torch.long) if len(distinct) > 1 else None
    return [Segment(start, stop, tuple(sorted(distinct - {BASE})), mixed)]


@dataclass(eq=False, frozen=True)
class Block:
    """One adapter's part of one fused slice, and where it stands in a wide product."""

    slot: int
    piece: int  # which fused slice
    rank: int
    row: int  # the first of its rows in the wide A and B
    column: int  # the first of its columns in the wide B


@dataclass(eq=False, frozen=True)
class Span:
    """The products of some adapters of one module, side by side."""

    shrink: Product  # [rows, in] -> [rows, columns]
    expand: Product  # [rows, columns] -> [rows, out]
    wide_b: Tensor  # [columns, out], the weight of `expand`
    layout: Layout


class Pack:
    """One module's stacks: true ranks, and wide products made when a batch first needs them.

    `a` is empty for an embedding, whose A the layer has already looked up.
    """

    def __init__(self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], prepack: Prepack, layouts: "Layouts") -> None:
        check_stacks(a, b)
        self.a, self.b = a, b
        self.dtype = b[0].dtype
        self.ranks = true_ranks(a) if a else true_ranks(tuple(stack.transpose(-1, -2) for stack in b))
        for slot in unsound_slots(a + b):  # it would spoil the rows that share a product with it: 0 times NaN is NaN
            _LOG.warning("the adapter in slot %d has weights that are not finite numbers and is ignored", slot)
            self.ranks[slot] = [0] * len(b)
        self._prepack, self._layouts = prepack, layouts
        self._stacks = a + b
        self._writes = sum(map(WRITES, self._stacks))
        self._spans: dict[tuple[int, ...], Span | None] = {}

    def is_fresh(self) -> bool:
        """Whether no slot was written since."""
        return bool(sum(map(WRITES, self._stacks)) == self._writes)

    def span(self, slots: tuple[int, ...]) -> Span | None:
        """Products that cover at least the adapters in `slots`; none if none of them adapts this module."""
        try:
            return self._spans[slots]
        except KeyError:
            return self._find(slots)

    def _find(self, slots: tuple[int, ...]) -> Span | None:
        if len(self._spans) >= MAX_SPANS:
            self._spans.clear()
        filled = tuple(slot for slot, ranks in enumerate(self.ranks) if any(ranks))
        needed = tuple(slot for slot in slots if slot in filled)
        # Exact sets are cheaper per step but many; where few slots are filled, all of them at once serve every mix.
        exact = len(needed) < 2 or len(needed) * EXACT_SHARE <= len(filled)
        covered = needed if exact else filled
        if covered not in self._spans:
            self._spans[covered] = self._build(covered) if covered else None
        self._spans[slots] = self._spans[covered]
        return self._spans[slots]

    def _build(self, slots: tuple[int, ...]) -> Span:
        blocks = self._blocks(slots)
        owners = tuple(block.slot for block in blocks for _ in range(block.rank))
        wide_b = torch.zeros((len(owners), sum(b.size(-2) for b in self.b)), dtype=self.dtype)
        for block in blocks:
            weight = self.b[block.piece][block.slot, 0, :, : block.rank].t()
            wide_b[block.row : block.row + block.rank, block.column : block.column + weight.size(1)] = weight
        return Span(self._shrink(blocks), self._prepack(wide_b), wide_b, self._layouts.get(owners))

    def _blocks(self, slots: tuple[int, ...]) -> list[Block]:
        blocks: list[Block] = []
        row = 0
        for slot in slots:
            column = 0
            for piece, b in enumerate(self.b):
                rank = self.ranks[slot][piece]
                if rank:
                    blocks.append(Block(slot, piece, rank, row, column))
                row, column = row + rank, column + b.size(-2)
        return blocks

    def _shrink(self, blocks: list[Block]) -> Product:
        if not self.a:  # x is the row's own A·token already: repeat it for each adapter's B, the mask picks
            columns = torch.tensor([j for block in blocks for j in range(block.rank)], dtype=torch.long)
            return lambda x, out: torch.index_select(x, 1, columns, out=out)
        return self._prepack(torch.cat([self.a[block.piece][block.slot, 0, : block.rank] for block in blocks]).t())


class Layouts:
    """The distinct column layouts seen so far; modules of one shape share theirs, and so their masks."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Layout] = {}

    def get(self, owners: tuple[int, ...]) -> Layout:
        if owners not in self._known:
            self._known[owners] = Layout(torch.tensor(owners, dtype=torch.long))
        return self._known[owners]


def check_stacks(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> None:
    """Raise `RuntimeError` where the stacks are not what this module was written for."""
    shapes = [tuple(stack.shape) for stack in a + b]
    regular = all(len(shape) == 4 and shape[1] == 1 and shape[0] == shapes[0][0] for shape in shapes)
    paired = not a or (len(a) == len(b) and all(x.size(2) == y.size(3) for x, y in zip(a, b, strict=True)))
    # Tensors made in inference mode do not count their writes, so that a reloaded slot would go unnoticed.
    if not (regular and paired) or any(stack.is_inference() for stack in a + b):
        raise RuntimeError(f"LoRA on CPU: unexpected weight stacks {shapes}; this vLLM is not supported")


def true_ranks(stacks: tuple[Tensor, ...]) -> list[list[int]]:
    """For each slot, and each slice of A `[slots, 1, rank, in]`, the rank without the zero rows at the end."""
    per_slice = []
    for stack in stacks:
        used = (stack[:, 0] != 0).any(dim=-1)  # [slots, rank]
        positions = torch.arange(1, used.size(1) + 1)
        per_slice.append((used * positions).amax(dim=1).tolist())
    return [list(ranks) for ranks in zip(*per_slice, strict=True)]


def unsound_slots(stacks: tuple[Tensor, ...]) -> set[int]:
    """Slots with infinite or undefined weights."""
    return {slot for stack in stacks for slot, weights in enumerate(stack) if not torch.isfinite(weights).all()}


@dataclass(eq=False, frozen=True, slots=True)
class Part:
    """One segment's products in one module, and room for their results."""

    segment: Segment
    span: Span
    foreign: Tensor | None
    hidden: Tensor
    delta: Tensor | None  # none where the product adds into y


class Job:
    """What one module does in every step of one plan; looked up once, since the lookups cost time in each step."""

    __slots__ = ("pack", "parts", "rows")

    def __init__(self, plan: Plan, pack: Pack) -> None:
        self.rows, self.pack = plan.rows, pack
        self.parts = [_part(part, span, pack.dtype) for part in plan.segments if (span := pack.span(part.slots))]


def _part(rows: Segment, span: Span, dtype: torch.dtype) -> Part:
    columns, width = span.wide_b.shape
    delta = rows.room("delta", width, dtype) if rows.stop - rows.start < IN_PLACE else None
    return Part(rows, span, rows.foreign(span.layout), rows.room("hidden", columns, dtype), delta)


def add_lora(y: Tensor, x: Tensor, job: Job, scale: float = 1.0) -> None:
    """y `[rows, out]` += scale · B·A·x `[rows, in]`, each row with its own adapter, in place."""
    if x.size(0) < job.rows:
        raise RuntimeError(f"LoRA on CPU: {x.size(0)} rows came for a step of {job.rows} tokens")
    if x.dtype != job.pack.dtype:
        x = x.to(job.pack.dtype)
    for part in job.parts:
        start, stop = part.segment.start, part.segment.stop
        if start == 0 and stop == x.size(0):
            _add_part(y, x, part, scale)
        else:
            _add_part(y[start:stop], x[start:stop], part, scale)


def _add_part(y: Tensor, x: Tensor, part: Part, scale: float) -> None:
    span, hidden, delta = part.span, part.hidden, part.delta
    span.shrink(x, hidden)
    if part.foreign is not None:
        hidden.masked_fill_(part.foreign, 0.0)  # not times zero: another adapter's overflow would stay as NaN
    if scale != 1.0:
        hidden *= scale
    width = span.wide_b.size(1)
    if y.size(1) != width:  # logits may be padded beyond the vocabulary
        y = y[:, :width]
    if delta is not None:
        span.expand(hidden, delta)
        y += delta
    elif y.dtype == hidden.dtype:
        y.addmm_(hidden, span.wide_b)
    else:
        y += torch.mm(hidden, span.wide_b)
