"""What makes a training step fast on a processor: the same sums with less copying. Imports torch.

Profiled on the starter model (8 rows of 75 tokens, one thread; a step took 3.0 s, 1.6 s with this): PEFT's LoRA casts
every input to float32 and back (0.5 s), bfloat16's fused attention takes four times as long as plain products with a
gradient (0.7 s), and cross entropy copies all logits to float32 (0.13 s).
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from adapters.tokens import IGNORED

NAME = "brogue_training"
_SCORES = 8_000_000  # rows · heads · tokens² above which attention weights are not kept: 16 MB a layer in bfloat16
_ROWS = 32  # of logits that are looked at at once: 6 MB in float32 for 50,000 words, which a cache can hold


def speed_up(model: Any) -> None:
    """Give a model its fast LoRA and attention; what they do not know stays as it was. Nothing on a GPU."""
    if next(model.parameters()).device.type != "cpu":
        return
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.__class__ = FastLora
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, plain_attention)
        AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        base.set_attn_implementation(NAME)


class FastLora(Linear):  # type: ignore[misc]
    """PEFT's LoRA of a frozen linear layer, without casts of the layer's input; anything else goes PEFT's way."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al. 2021, arXiv:2106.09685), in the dtype of the frozen weights."""
        if args or kwargs or not self._is_plain():
            return torch.as_tensor(super().forward(x, *args, **kwargs))
        [name] = self.active_adapters
        weight = self.base_layer.weight
        lora = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        return torch.as_tensor(_LoraProduct.apply(x.to(weight.dtype), weight, self.base_layer.bias, *lora))

    def _is_plain(self) -> bool:
        if self.disable_adapters or self.merged or self.fan_in_fan_out or len(self.active_adapters) != 1:
            return False
        name, weight = self.active_adapters[0], self.base_layer.weight
        computed = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        return (
            name in self.lora_A and name not in self.lora_variant and self.lora_B[name].bias is None
            and isinstance(self.lora_dropout[name], torch.nn.Identity)
            and weight.dtype == computed and not weight.requires_grad
        )  # fmt: skip


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]
    """The low-rank product is added where the large one lies; gradients of A and B come in their own dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        rows, small_a, small_b = x.reshape(-1, x.shape[-1]), a.to(weight.dtype), b.to(weight.dtype)
        inner = rows @ small_a.T
        found = rows @ weight.T if bias is None else torch.addmm(bias, rows, weight.T)
        found.addmm_(inner, small_b.T, alpha=scale)
        ctx.save_for_backward(rows, inner, weight, small_a, small_b)
        ctx.scale, ctx.shape, ctx.dtypes = scale, x.shape, (a.dtype, b.dtype)
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Any:
        rows, inner, weight, a, b = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        through = gradient @ b
        of_a = (through.T @ rows).to(ctx.dtypes[0]).mul_(ctx.scale)
        of_b = (inner.T @ gradient).T.to(ctx.dtypes[1]).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(through, a, alpha=ctx.scale).view(ctx.shape)
        return of_x, None, None, of_a, of_b, None


def plain_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
                    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
                    **more: Any) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of (rows, heads, tokens, size) by plain products, which keep its weights for the gradient.

    Long rows, single tokens and whatever else asks for more than this go to PyTorch's fused attention.
    """
    rows, heads, asked, size = query.shape
    odd = dropout or any(more.get(name) is not None for name in ("position_bias", "cache", "s_aux", "softcap"))
    if odd or asked == 1 or rows * heads * asked * key.shape[2] > _SCORES:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **more
        )
    groups = heads // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = torch.matmul(query * (size**-0.5 if scaling is None else scaling), key.transpose(2, 3))
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal:
        attention_mask = torch.ones(asked, key.shape[2], dtype=torch.bool).tril()
    if attention_mask is not None:
        hidden = torch.finfo(scores.dtype).min
        is_choice = attention_mask.dtype == torch.bool
        scores = scores.masked_fill(~attention_mask, hidden) if is_choice else scores + attention_mask
    return torch.matmul(scores.softmax(-1), value).transpose(1, 2).contiguous(), None


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in nats of each row of logits [N, V], in float32; 0 where the label [N] is to be ignored.

    Computed in float32 a few rows at a time, together with its gradient, which has the dtype of the logits.
    """
    return torch.as_tensor(_TokenLosses.apply(logits, labels))


class _TokenLosses(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        losses = torch.zeros(len(logits), device=logits.device)
        gradient = torch.empty_like(logits) if wanted else None
        for start in range(0, len(logits), _ROWS):
            part = slice(start, start + _ROWS)
            kept = (labels[part] != IGNORED).float().unsqueeze(1)
            at = labels[part].clamp(min=0).unsqueeze(1)
            some = logits[part].float()
            some = some - some.amax(1, keepdim=True)
            right = some.gather(1, at)
            total = some.exp_().sum(1, keepdim=True)
            losses[part] = ((total.log() - right) * kept).squeeze(1)
            if gradient is not None:
                gradient[part] = some.mul_(kept / total).scatter_add_(1, at, -kept)
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Any:
        [saved] = ctx.saved_tensors
        return saved * gradient.unsqueeze(1).to(saved.dtype), None
