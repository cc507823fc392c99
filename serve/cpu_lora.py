"""vLLM plugin: LoRA on a CPU engine that keeps mixed batches apart and costs little.

vLLM's own CPU wrapper looks up weights with the row's adapter index; rows of the base model have index -1, which for
PyTorch is the last slot, so that they answer with that adapter's weights. It also copies A and B once per token.
`register` (entry point group `vllm.general_plugins`, so it runs in every vLLM process) puts `MaskedLoRA` in its place.
Where vLLM's interface is not the one this was written for, LoRA is refused: a missing adapter is better than a wrong
one. Nothing changes on other devices. docs/upstream-cpu-lora.md tells the whole story.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from serve.cpu_lora_kernel import BASE, Job, Layouts, Pack, Plan, add_lora, best_prepack

ADVICE = "use the vLLM version in Brogue's requirements, or set VLLM_PLUGINS='' to run vLLM without Brogue's LoRA"
REFUSED = ("moe_lora_align_block_size", "add_lora_fused_moe", "add_lora_w13", "add_lora_w2")  # experts


def register() -> None:
    """Replace the CPU platform's LoRA wrapper; called by vLLM once per process."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    platform = type(current_platform)
    if not callable(getattr(platform, "get_punica_wrapper", None)):
        raise RuntimeError(f"LoRA on CPU: {platform.__name__} of this vLLM names no LoRA wrapper; {ADVICE}")
    platform.get_punica_wrapper = classmethod(lambda _: wrapper_name())


def wrapper_name() -> str:
    """The path by which vLLM finds our wrapper. Raises `RuntimeError` if vLLM would call it in another way."""
    from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

    if problem := mismatch(PunicaWrapperBase):
        raise RuntimeError(f"LoRA is refused on this CPU engine: {problem}; {ADVICE}")
    hear_of_vectors()
    return f"{MaskedLoRA.__module__}.{MaskedLoRA.__qualname__}"


def hear_of_vectors() -> None:
    """Have vLLM tell our wrapper which rows of a step are vectors already (soft prompts), before it embeds the others.

    It embeds these by themselves, with the adapters' indices of the whole step: they would be other rows' adapters.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # the CPU's runner inherits from it

    original = GPUModelRunner._preprocess
    if original.__module__ == __name__:
        return

    def preprocess(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if self.enable_prompt_embeds and self.lora_config:
            rows = self.is_token_ids.np[: scheduler_output.total_num_scheduled_tokens].nonzero()[0]
            for wrapper in self.lora_manager._adapter_manager.punica_wrapper_mapping.values():
                wrapper._embed_only(rows)
        return original(self, scheduler_output, *args, **kwargs)

    GPUModelRunner._preprocess = preprocess


def mismatch(interface: type) -> str | None:
    """How `interface`, vLLM's class of all LoRA wrappers, differs from what `MaskedLoRA` answers; none if it fits."""
    wanted = operations(interface)
    for name, member in wanted.items():
        ours = getattr(MaskedLoRA, name, None)
        if ours is None:
            return f"vLLM's LoRA interface has an operation '{name}' that Brogue does not know"
        if name not in REFUSED and call_shape(member) != call_shape(ours):
            return f"vLLM calls '{name}' with {inspect.signature(member)}, Brogue expects {inspect.signature(ours)}"
    if gone := operations(MaskedLoRA).keys() - wanted.keys():
        return f"vLLM's LoRA interface has no operation '{min(gone)}' any more"
    return None


def operations(cls: type) -> dict[str, Callable[..., Any]]:
    """The constructor and the public methods of a class, inherited ones too."""
    return {name: f for name, f in inspect.getmembers(cls, inspect.isfunction) if name == "__init__" or name[0] != "_"}


def call_shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """What a caller must know: each parameter's name, kind and default."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


class MaskedLoRA:
    """vLLM's LoRA wrapper interface (`PunicaWrapperBase`) for a CPU; one object serves all modules of a model.

    Rows are `[tokens, features]`; -1 stands for the base model, whose rows are never touched. Where no row of a step
    has an adapter, or none of its adapters changes a module, nothing is computed or allocated.
    """

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        del max_batches, kwargs
        self._embeddings_indices = torch.zeros(max_num_batched_tokens, dtype=torch.long, device=device)  # vLLM reads it
        self._tokens = Plan(())
        self._embedded = self._tokens  # rows that are looked up in the embeddings
        self._samples = Plan(())
        self._vocabulary = 0
        self._packs: dict[int, Pack] = {}
        self._layouts = Layouts()
        self._prepack = best_prepack()

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
    ) -> None:
        """Note whose the next step's tokens and sampled rows are. `mapping` holds adapter ids, 0 for the base."""
        del max_loras, kwargs
        slots = {adapter: slot for slot, adapter in enumerate(lora_index_to_id) if adapter is not None}
        slots[0] = BASE
        self._tokens = Plan([slots[adapter] for adapter in mapping.index_mapping])
        self._samples = Plan([slots[adapter] for adapter in mapping.prompt_mapping])
        self._vocabulary = vocab_size
        self._embed(self._tokens)

    def _embed_only(self, rows: Sequence[int]) -> None:
        """Only these rows of the step are looked up in the embeddings; the others are vectors already."""
        plan = self._tokens if len(rows) == self._tokens.rows else Plan([self._tokens.slots[row] for row in rows])
        if plan is not self._embedded:
            self._embed(plan)

    def _embed(self, plan: Plan) -> None:
        self._embedded = plan
        offsets = [max(slot, 0) * self._vocabulary for slot in plan.slots]
        self._embeddings_indices[: len(offsets)] = torch.tensor(offsets, dtype=torch.long)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """y `[tokens, sum of slices]` += scale · B·A·x, slice by slice next to each other."""
        del output_slices, buffer
        if not kwargs.get("add_inputs", True):
            y.zero_()
        if self._tokens.segments:
            add_lora(_flat(y), _flat(x), self._job(self._tokens, lora_a_stacked, lora_b_stacked), scale)

    def add_lora_embedding(
        self, y: Tensor, x: Tensor, lora_b_stacked: Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        """y `[tokens, width]` += B·x, where x `[tokens, rank]` is what the layer found in A for each token."""
        del kwargs
        if not add_inputs:
            y.zero_()
        if self._embedded.segments:
            add_lora(y, x, self._job(self._embedded, (), (lora_b_stacked,)))

    def add_lora_logits(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: Tensor,
        lora_b_stacked: Tensor,
        scale: Any,
        *,
        buffer: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """y `[sampled rows, vocabulary]` += scale · B·A·x for the rows that are sampled from."""
        del buffer, kwargs
        if not self._samples.segments:
            return
        job = self._job(self._samples, (lora_a_stacked,), (lora_b_stacked,))
        if not job.parts:
            return  # the usual case: adapters leave lm_head alone
        x = _flat(x)
        if x.size(0) != job.rows:
            job = Job(self._samples.stretched(x.size(0)), job.pack)
        add_lora(_flat(y), x, job, scale)

    def add_shrink(
        self,
        y: tuple[Tensor, ...] | Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        scale: float,
        **kwargs: Any,
    ) -> None:
        """y[i] `[tokens, rank]` += scale · A[i]·x. Only fully sharded LoRA comes here, so it is plain, not fast."""
        del kwargs
        x = _flat(x)
        for slot, rows in self._tokens.groups():
            for out, a in zip(y, lora_a_stacked, strict=True):
                hidden = torch.mm(x[rows].to(a.dtype), a[slot, 0].t()).to(out.dtype)
                _flat(out)[:, : a.size(-2)].index_add_(0, rows, hidden, alpha=scale)

    def add_expand(
        self,
        y: Tensor,
        x: tuple[Tensor, ...] | Tensor,
        lora_b_stacked: tuple[Tensor, ...],
        output_slices: tuple[int, ...],
        offset_start: int = 0,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """y `[tokens, out]` from column `offset_start` on += B[i]·x[i], slice by slice (`add_inputs` false: =)."""
        del kwargs
        y, groups, column = _flat(y), self._tokens.groups(), offset_start
        for hidden, b, width in zip(x, lora_b_stacked, output_slices, strict=True):
            target = y[:, column : column + width]
            for slot, rows in groups:
                delta = torch.mm(hidden[rows].to(b.dtype), b[slot, 0].t()).to(y.dtype)
                target.index_add_(0, rows, delta) if add_inputs else target.index_copy_(0, rows, delta)
            column += width

    def apply_lora_full_linear(
        self, y: Tensor, x: Tensor, weight_stacked: Tensor, bias_stacked: Tensor, module_enabled: Tensor
    ) -> None:
        """y `[requests, labels]` = W·x + bias for the requests whose adapter brings its own classification head."""
        for slot, rows in self._samples.groups():
            if module_enabled[slot]:
                full = torch.mm(x[rows].float(), weight_stacked[slot, 0].float().t()) + bias_stacked[slot]
                y.index_copy_(0, rows, full.to(y.dtype))

    def moe_lora_align_block_size(self, *args: Any, **kwargs: Any) -> None:
        """Mixture-of-experts layers: vLLM has no CPU code for their adapters, and neither have we."""
        raise NotImplementedError("LoRA on the experts of a mixture-of-experts model does not run on a CPU")

    add_lora_fused_moe = add_lora_w13 = add_lora_w2 = moe_lora_align_block_size

    def _job(self, plan: Plan, a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Job:
        # Layers keep their last stack for life, and a pack keeps it too, so that its id is never given to another.
        key = id(b[-1])
        job = plan.jobs.get(key)
        if job is None or not job.pack.is_fresh():
            pack = self._packs.get(key)
            if pack is None or not pack.is_fresh():
                pack = self._packs[key] = Pack(a, b, self._prepack, self._layouts)
            job = plan.jobs[key] = Job(plan, pack)
        return job


def _flat(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.view(-1, x.size(-1))
