"""The CPU LoRA kernel: every entry point against a float32 reference row by row, and the guard at vLLM's interface."""

import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from serve import cpu_lora, cpu_lora_kernel
from serve.cpu_lora import MaskedLoRA
from serve.cpu_lora_kernel import BASE, LONG_RUN, best_prepack, plain_product, segment

SLOTS, MAX_RANK, WIDTH, VOCABULARY = 5, 16, 24, 40
SLICES = (32, 8, 16)
# float32 differs only by the order of additions; bfloat16 has 8 bits, and sums of up to 16 products are compared
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2}


@dataclass
class Stacks:
    a: tuple[Tensor, ...]  # [SLOTS, 1, MAX_RANK, WIDTH] per slice
    b: tuple[Tensor, ...]  # [SLOTS, 1, slice, MAX_RANK] per slice


def random_stacks(dtype: torch.dtype, slices: tuple[int, ...] = SLICES, seed: int = 0) -> Stacks:
    """Adapters of random ranks in all slots but one; some leave a slice out."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    a = tuple(torch.zeros(SLOTS, 1, MAX_RANK, WIDTH, dtype=dtype) for _ in slices)
    b = tuple(torch.zeros(SLOTS, 1, width, MAX_RANK, dtype=dtype) for width in slices)
    empty = rng.randrange(SLOTS)
    for slot in range(SLOTS):
        for i, width in enumerate(slices):
            rank = 0 if slot == empty or rng.random() < 0.2 else rng.randint(1, MAX_RANK)
            a[i][slot, 0, :rank] = torch.randn(rank, WIDTH, generator=generator) / WIDTH**0.5
            b[i][slot, 0, :, :rank] = torch.randn(width, rank, generator=generator)
    return Stacks(a, b)


def wrapper_for(token_slots: list[int], sample_slots: list[int] | None = None, prepack=None) -> MaskedLoRA:
    """A wrapper told whose rows come next, through vLLM's own call; adapter ids are the slots + 7."""
    wrapper = MaskedLoRA(4096, 256, device="cpu")
    wrapper._prepack = prepack or best_prepack()
    ids = [slot + 7 for slot in range(SLOTS)]
    mapping = SimpleNamespace(
        index_mapping=tuple(0 if slot == BASE else ids[slot] for slot in token_slots),
        prompt_mapping=tuple(0 if slot == BASE else ids[slot] for slot in sample_slots or token_slots),
    )
    wrapper.update_metadata(mapping, ids, SLOTS + 1, VOCABULARY)
    return wrapper


def delta(x: Tensor, a: Tensor, b: Tensor, slots: list[int], scale: float = 1.0) -> Tensor:
    """What LoRA adds, one row at a time in float32. a `[SLOTS, 1, rank, in]`, b `[SLOTS, 1, out, rank]`."""
    out = torch.zeros(len(slots), b.size(2))
    for row, slot in enumerate(slots):
        if slot != BASE:
            out[row] = scale * (b[slot, 0].float() @ (a[slot, 0].float() @ x[row].float()))
    return out


def assert_same(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    limit = TOLERANCE[dtype]
    torch.testing.assert_close(found.float(), expected, atol=limit * expected.abs().max().item() + 1e-6, rtol=limit)


def mixes() -> dict[str, list[int]]:
    """Batches as they come: decoding, prompts, both, and the edges between them."""
    rng = random.Random(3)
    return {
        "one token": [2],
        "one token of the base": [BASE],
        "decode, every adapter and the base": [BASE, 3, 0, 1, BASE, 4, 4, 2, 0, 3, BASE],
        "decode, one adapter and the base": [BASE, 2, BASE, 2, 2],
        "decode, one adapter": [1] * 16,
        "only the base": [BASE] * 40,
        "one prompt of 2000 tokens": [4] * 2000,
        "one long prompt of the base": [BASE] * 2000,
        "prompts of 2000 tokens together": [0] * 700 + [BASE] * 300 + [3] * 600 + [1] * 400,
        "decode rows, then prompts": [2, BASE, 0] + [1] * LONG_RUN + [BASE] * 128 + [0] * 128 + [2] * (LONG_RUN - 1),
        "random rows": [rng.randint(BASE, SLOTS - 1) for _ in range(300)],
    }


@pytest.fixture(params=mixes().items(), ids=lambda item: item[0])
def slots(request) -> list[int]:
    return request.param[1]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request) -> torch.dtype:
    return request.param


def test_this_installation_multiplies_with_vllms_operator():
    pytest.importorskip("vllm._custom_ops")
    assert best_prepack() is cpu_lora_kernel.onednn_product


@pytest.fixture(params=["plain", "best"])
def prepack(request):
    """PyTorch's product, and the one that this installation would take (vLLM's operator)."""
    return plain_product if request.param == "plain" else best_prepack()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fused_linear_layer_gets_each_rows_own_adapter(slots, dtype, prepack, seed):
    stacks, x = random_stacks(dtype, seed=seed), torch.randn(len(slots), WIDTH).to(dtype)
    base = torch.randn(len(slots), sum(SLICES)).to(dtype)
    y = base.clone()
    wrapper_for(slots, prepack=prepack).add_lora_linear(y, x, stacks.a, stacks.b, 1.0, SLICES)
    expected = torch.cat([delta(x, a, b, slots) for a, b in zip(stacks.a, stacks.b, strict=True)], dim=1)
    assert_same(y, base.float() + expected, dtype)
    untouched = [row for row, slot in enumerate(slots) if slot == BASE]
    assert torch.equal(y[untouched], base[untouched]), "the base's rows must stay exactly as they were"


def test_the_scale_is_applied_once(dtype, prepack):
    slots = [1, BASE, 0] + [3] * 100
    stacks, x = random_stacks(dtype), torch.randn(len(slots), WIDTH).to(dtype)
    y = torch.zeros(len(slots), sum(SLICES), dtype=dtype)
    wrapper_for(slots, prepack=prepack).add_lora_linear(y, x, stacks.a, stacks.b, 0.5, SLICES)
    expected = torch.cat([delta(x, a, b, slots, 0.5) for a, b in zip(stacks.a, stacks.b, strict=True)], dim=1)
    assert_same(y, expected, dtype)


def test_an_embedding_gets_each_tokens_own_adapter(slots, dtype, prepack):
    stacks = random_stacks(dtype, slices=(WIDTH,))
    tokens = torch.randint(0, VOCABULARY, (len(slots),))
    table = torch.randn(SLOTS, VOCABULARY, MAX_RANK).to(dtype)  # A of an embedding: one row per token
    wrapper = wrapper_for(slots, prepack=prepack)
    found = torch.nn.functional.embedding(tokens + wrapper._embeddings_indices[: len(slots)], table.view(-1, MAX_RANK))
    base = torch.randn(len(slots), WIDTH).to(dtype)
    y = base.clone()
    wrapper.add_lora_embedding(y, found, stacks.b[0], add_input=True)
    expected = base.float()
    for row, slot in enumerate(slots):
        if slot != BASE:
            expected[row] += stacks.b[0][slot, 0].float() @ table[slot, tokens[row]].float()
    assert_same(y, expected, dtype)


def test_an_embedding_leaves_out_rows_that_are_vectors_already_in_this_step_only(dtype, prepack):
    slots = [BASE] * 3 + [1, 1, 3] + [BASE] * 4 + [0, 3]  # two soft prompts with the base's tokens behind them
    tokens_at = [2, 3, 4, 5, 8, 9, 10, 11]
    stacks, table = random_stacks(dtype, slices=(WIDTH,)), torch.randn(SLOTS, VOCABULARY, MAX_RANK).to(dtype)
    tokens, base = torch.randint(0, VOCABULARY, (len(slots),)), torch.randn(len(slots), WIDTH).to(dtype)
    wrapper = wrapper_for(slots, prepack=prepack)

    def embedded(rows: list[int]) -> Tensor:
        wrapper._embed_only(rows)
        at, y = tokens[rows] + wrapper._embeddings_indices[: len(rows)], base[rows].clone()
        wrapper.add_lora_embedding(y, torch.nn.functional.embedding(at, table.view(-1, MAX_RANK)), stacks.b[0])
        return y

    whole = embedded(list(range(len(slots))))
    assert_same(embedded(tokens_at), whole[tokens_at].float(), dtype)
    assert_same(embedded(list(range(len(slots)))), whole.float(), dtype)


def test_logits_follow_the_sampled_rows_not_the_tokens(dtype, prepack):
    tokens, samples = [0] * 90 + [3] * 5 + [BASE] * 4 + [2], [0, 3, BASE, 2]
    stacks, x = random_stacks(dtype, slices=(VOCABULARY,)), torch.randn(4, WIDTH).to(dtype)
    base = torch.randn(4, VOCABULARY + 8)  # padded, and in float32 as with a float32 head
    y = base.clone()
    wrapper_for(tokens, samples, prepack).add_lora_logits(y, x, stacks.a[0], stacks.b[0], 1.0)
    base[:, :VOCABULARY] += delta(x, stacks.a[0], stacks.b[0], samples)
    assert_same(y, base, dtype)


def test_logits_of_other_rows_than_the_sampled_ones_are_refused_unless_all_are_one_adapters(dtype):
    stacks, x = random_stacks(dtype, slices=(VOCABULARY,)), torch.randn(6, WIDTH).to(dtype)
    trained = [slot for slot in range(SLOTS) if stacks.a[0][slot].any()]
    y = torch.zeros(6, VOCABULARY, dtype=dtype)
    wrapper_for(trained[:1] * 2).add_lora_logits(y, x, stacks.a[0], stacks.b[0], 1.0)
    assert_same(y, delta(x, stacks.a[0], stacks.b[0], trained[:1] * 6), dtype)
    with pytest.raises(RuntimeError, match="6 rows came for a step of 2 requests with different adapters"):
        wrapper_for([trained[0], BASE]).add_lora_logits(y, x, stacks.a[0], stacks.b[0], 1.0)


def test_shrink_and_expand_agree_with_the_reference(slots, dtype):
    stacks, x = random_stacks(dtype), torch.randn(len(slots), WIDTH).to(dtype)
    wrapper = wrapper_for(slots)
    hidden = torch.zeros(len(SLICES), len(slots), MAX_RANK)
    wrapper.add_shrink(hidden, x, stacks.a, 2.0)
    for row, slot in enumerate(slots[:50]):
        for i, a in enumerate(stacks.a):
            expected = torch.zeros(MAX_RANK) if slot == BASE else 2.0 * (a[slot, 0].float() @ x[row].float())
            assert_same(hidden[i, row], expected, dtype)
    base = torch.randn(len(slots), 3 + sum(SLICES)).to(dtype)
    y = base.clone()
    wrapper.add_expand(y, hidden, stacks.b, SLICES, offset_start=3, add_input=True)
    expected = torch.cat([delta(x, a, b, slots, 2.0) for a, b in zip(stacks.a, stacks.b, strict=True)], dim=1)
    assert torch.equal(y[:, :3], base[:, :3])
    assert_same(y[:, 3:], base[:, 3:].float() + expected, dtype)


def test_expand_without_adding_replaces_the_adapters_rows_only():
    stacks, slots = random_stacks(torch.float32), [BASE, 1, 3]
    hidden, y = torch.randn(len(SLICES), 3, MAX_RANK), torch.ones(3, sum(SLICES))
    wrapper_for(slots).add_expand(y, hidden, stacks.b, SLICES, add_inputs=False)
    assert torch.equal(y[0], torch.ones(sum(SLICES)))
    expected = torch.cat([b[3, 0] @ hidden[i, 2] for i, b in enumerate(stacks.b)])
    assert_same(y[2], expected, torch.float32)


def test_a_full_classification_head_serves_only_its_own_requests(dtype):
    samples, labels = [2, BASE, 0, 2, 1], 3
    weight, bias = torch.randn(SLOTS, 1, labels, WIDTH).to(dtype), torch.randn(SLOTS, labels).to(dtype)
    enabled = torch.tensor([slot != 0 for slot in range(SLOTS)])
    x, base = torch.randn(5, WIDTH).to(dtype), torch.randn(5, labels).to(dtype)
    y = base.clone()
    wrapper_for([BASE], samples).apply_lora_full_linear(y, x, weight, bias, enabled)
    expected = base.float()
    for row, slot in enumerate(samples):
        if slot != BASE and enabled[slot]:
            expected[row] = weight[slot, 0].float() @ x[row].float() + bias[slot].float()
    assert_same(y, expected, dtype)


def test_experts_are_refused_in_words():
    for name in cpu_lora.REFUSED:
        with pytest.raises(NotImplementedError, match="mixture-of-experts"):
            getattr(wrapper_for([0]), name)()


def test_a_slot_that_is_set_again_answers_with_its_new_weights(dtype):
    old, new, slots = random_stacks(dtype, seed=1), random_stacks(dtype, seed=9), [0, 1, BASE, 2, 3, 4]
    x, wrapper = torch.randn(len(slots), WIDTH).to(dtype), wrapper_for(slots)
    for changed in (old, new):  # vLLM writes into the stacks in place, in inference mode
        with torch.inference_mode():
            for kept, fresh in zip(old.a + old.b, changed.a + changed.b, strict=True):
                kept[2] = fresh[2]
        y = torch.zeros(len(slots), sum(SLICES), dtype=dtype)
        with torch.inference_mode():
            wrapper.add_lora_linear(y, x, old.a, old.b, 1.0, SLICES)
        expected = torch.cat([delta(x, a, b, slots) for a, b in zip(old.a, old.b, strict=True)], dim=1)
        assert_same(y, expected, dtype)


@pytest.mark.parametrize("poison", [3e38, float("inf"), float("nan")])
@pytest.mark.parametrize("which", ["a", "b"])
def test_a_broken_adapter_spoils_nobody_elses_rows(poison, which, prepack):
    stacks, slots = random_stacks(torch.float32), [0, 1, BASE, 2, 3, 4]
    x = torch.randn(len(slots), WIDTH)
    expected = torch.cat([delta(x, a, b, slots) for a, b in zip(stacks.a, stacks.b, strict=True)], dim=1)
    for stack in getattr(stacks, which):
        stack[3, 0, :4] = poison
    y = torch.zeros(len(slots), sum(SLICES))
    wrapper_for(slots, prepack=prepack).add_lora_linear(y, x, stacks.a, stacks.b, 1.0, SLICES)
    others = [row for row, slot in enumerate(slots) if slot != 3]
    assert_same(y[others], expected[others], torch.float32)


def test_few_adapters_of_many_slots_get_products_of_their_own_and_many_share_one():
    slots = 16
    a, b = torch.randn(slots, 1, 4, WIDTH), torch.randn(slots, 1, WIDTH, 4)
    pack = cpu_lora_kernel.Pack((a,), (b,), plain_product, cpu_lora_kernel.Layouts())
    assert pack.span((3, 7)).layout.owners.unique().tolist() == [3, 7]
    assert pack.span((0, 1, 2, 3, 4)) is pack.span((5, 6, 7, 8, 9))
    for first in range(slots):
        for second in range(first):
            pack.span((second, first))
    assert len(pack._spans) <= cpu_lora_kernel.MAX_SPANS + 1, "the number of kept products is bounded"


@pytest.mark.parametrize("slots", [[BASE] * 8, [4] * 8], ids=["only the base", "an adapter without this module"])
def test_nothing_is_computed_where_no_adapter_has_a_say(slots):
    stacks = Stacks((torch.zeros(SLOTS, 1, MAX_RANK, WIDTH),), (torch.zeros(SLOTS, 1, WIDTH, MAX_RANK),))
    stacks.a[0][1] = stacks.b[0][1] = 1.0
    wrapper, x, found, y = wrapper_for(slots), torch.randn(8, WIDTH), torch.zeros(8, MAX_RANK), torch.zeros(8, WIDTH)

    def step() -> None:
        wrapper.add_lora_linear(y, x, stacks.a, stacks.b, 1.0, (WIDTH,))
        wrapper.add_lora_logits(y, x, stacks.a[0], stacks.b[0], 1.0)
        wrapper.add_lora_embedding(y, found, stacks.b[0])

    step()  # the ranks in the slots are looked at once
    with torch.profiler.profile() as profile:
        step()
    assert [event.key for event in profile.key_averages() if event.key.startswith("aten::")] == []
    assert not y.any()


def test_segments_cover_every_adapters_row_once_and_no_long_run_is_mixed(slots):
    covered = [row for part in segment(slots) for row in range(part.start, part.stop)]
    assert len(covered) == len(set(covered))
    assert {row for row, slot in enumerate(slots) if slot != BASE} <= set(covered)
    for part in segment(slots):
        assert set(part.slots) == set(slots[part.start : part.stop]) - {BASE}
        if part.row_slots is not None:
            longest = run = 1
            for before, after in zip(slots[part.start : part.stop], slots[part.start + 1 : part.stop], strict=False):
                run = run + 1 if before == after else 1
                longest = max(longest, run)
            assert longest < LONG_RUN


def test_too_few_rows_and_unexpected_stacks_are_refused_in_words():
    stacks = random_stacks(torch.float32)
    with pytest.raises(RuntimeError, match="2 rows came for a step of 3 tokens"):
        wrapper_for([0, 1, 2]).add_lora_linear(
            torch.zeros(2, 56), torch.zeros(2, WIDTH), stacks.a, stacks.b, 1.0, SLICES
        )
    flat = tuple(stack.squeeze(1) for stack in stacks.a)
    with pytest.raises(RuntimeError, match="unexpected weight stacks"):
        wrapper_for([0]).add_lora_linear(torch.zeros(1, 56), torch.zeros(1, WIDTH), flat, stacks.b, 1.0, SLICES)
    with torch.inference_mode():
        untracked = random_stacks(torch.float32)
    with pytest.raises(RuntimeError, match="unexpected weight stacks"):
        wrapper_for([0]).add_lora_linear(
            torch.zeros(1, 56), torch.zeros(1, WIDTH), untracked.a, untracked.b, 1.0, SLICES
        )


class ReorderedInterface(MaskedLoRA):
    def add_lora_linear(self, y, x, lora_b_stacked, lora_a_stacked, scale, output_slices, *, buffer=None, **kwargs):
        """As if vLLM had swapped two parameters."""


class WiderInterface(MaskedLoRA):
    def add_lora_w8a8(self, y):
        """As if vLLM had gained an operation."""


def test_the_guard_names_what_changed_in_vllms_interface():
    assert cpu_lora.mismatch(MaskedLoRA) is None
    assert "'add_lora_linear'" in str(cpu_lora.mismatch(ReorderedInterface))
    assert "'add_lora_w8a8' that Brogue does not know" in str(cpu_lora.mismatch(WiderInterface))
    assert "no operation" in str(cpu_lora.mismatch(object))


@pytest.fixture
def platform(monkeypatch):
    """vLLM's CPU platform, put back as it was afterwards."""
    platforms = pytest.importorskip("vllm.platforms")
    cpu = pytest.importorskip("vllm.platforms.cpu").CpuPlatform
    monkeypatch.setattr(platforms, "_current_platform", cpu(), raising=False)
    monkeypatch.setattr(cpu, "get_punica_wrapper", cpu.__dict__["get_punica_wrapper"])
    return cpu


def test_the_installed_vllm_takes_our_wrapper(platform):
    cpu_lora.register()
    assert platform.get_punica_wrapper() == "serve.cpu_lora.MaskedLoRA"


def test_a_vllm_with_another_interface_is_refused_lora_instead_of_getting_the_wrong_kernel(platform, monkeypatch):
    base = pytest.importorskip("vllm.lora.punica_wrapper.punica_base")
    monkeypatch.setattr(base, "PunicaWrapperBase", WiderInterface)
    cpu_lora.register()
    with pytest.raises(RuntimeError, match="LoRA is refused on this CPU engine: .*add_lora_w8a8") as refusal:
        platform.get_punica_wrapper()
    assert "\n" not in str(refusal.value)


def test_other_devices_keep_their_own_wrapper(platform, monkeypatch):
    before = platform.__dict__["get_punica_wrapper"]
    monkeypatch.setattr(platform, "is_cpu", lambda _: False)
    cpu_lora.register()
    assert platform.__dict__["get_punica_wrapper"] is before
