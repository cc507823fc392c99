"""What is looked at before the engine sees an adapter: each reason by a crafted folder, then 200 random corruptions."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.base_model import BaseModel
from adapters.registry import CARD, AdapterCard, Registry, Served, file_hashes
from adapters.validation import VersionChecker, check_version, problems
from data.errors import BrogueError
from data.home import Home, write_json

LAYER = "model.layers.{}.{}"
Q0_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
MERGE = "merge it into the base model with PEFT's merge_and_unload and name that as base_model, or train it without"
MODULES = {
    "model.embed_tokens": (8, 32),
    **{LAYER.format(i, "self_attn.q_proj"): (8, 8) for i in range(2)},
    **{LAYER.format(i, "self_attn.v_proj"): (4, 8) for i in range(2)},
    **{LAYER.format(i, "mlp.down_proj"): (8, 12) for i in range(2)},
    "lm_head": (32, 8),
}
BASE = BaseModel(
    name="acme/Tiny-1B-Instruct", path="/nowhere", sha256="sha", architectures=("LlamaForCausalLM",),
    supports_system=True, has_eyes=False, context_length=128, kv_bytes_per_token=1, weight_bytes=1, modules=MODULES,
    embeddings=("model.embed_tokens",), files={},
)  # fmt: skip
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "somebody/tiny-1b-instruct-mirror",
    "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "bias": "none", "init_lora_weights": True,
    "use_rslora": False, "use_dora": False, "modules_to_save": None, "lora_dropout": 0.1, "inference_mode": True,
}  # fmt: skip


def tensors(rank: int = 2, names: tuple[str, ...] = ("q_proj", "v_proj")) -> dict[str, "np.ndarray[Any, Any]"]:
    made, random_numbers = {}, np.random.default_rng(0)
    for module, (out, in_) in MODULES.items():
        if module.endswith(names):
            for letter, shape in (("A", (rank, in_)), ("B", (out, rank))):
                key = f"lora_embedding_{letter}" if "embed" in module else f"lora_{letter}.weight"
                made[f"base_model.model.{module}.{key}"] = random_numbers.normal(size=shape).astype(np.float32)
    return made


def write_adapter(folder: Path, weights: dict[str, Any] | None = None, **config: Any) -> Path:
    """A folder as PEFT saves it; keyword arguments change its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", CONFIG | config)
    save_file(tensors() if weights is None else weights, folder / "adapter_model.safetensors")
    return folder


def register(home: Home, adapter: str = "a", **config: Any) -> AdapterCard:
    """The same as a version in the registry."""
    with Registry(home).new_version(adapter) as (version, folder):
        write_adapter(folder, **config)
        card = AdapterCard(
            adapter=adapter, version=version, base_model=BASE.name, base_sha256="sha", dataset="d", dataset_digest="0",
            recipe="sft", method="lora", rank=2, config={}, system_prompt=None, parent=None, scores={}, minutes=1,
            created="2026-11-21", files=file_hashes(folder),
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


@pytest.mark.parametrize(
    ("names", "rank", "config"),
    [
        (("q_proj", "v_proj"), 2, {}),
        (("q_proj", "v_proj"), 2, {"target_modules": r".*\.(q|v)_proj", "use_rslora": True}),
        (("q_proj", "v_proj"), 2, {"base_model_name_or_path": None, "future_setting": None, "eva_config": {"rho": 2}}),
        (("0.self_attn.q_proj",), 2, {"target_modules": ["q_proj"], "layers_to_transform": [0]}),
        (("1.self_attn.q_proj",), 2, {"target_modules": ["q_proj"], "layers_to_transform": 1,
                                      "layers_pattern": "layers"}),
        (("0.self_attn.q_proj",), 2, {"target_modules": ["q_proj"], "exclude_modules": ["1.self_attn.q_proj"]}),
        (("q_proj",), 3, {"target_modules": ["q_proj"], "rank_pattern": {"self_attn.q_proj": 3},
                          "alpha_pattern": {"q_proj": 0.5}}),
        (("embed_tokens", "lm_head"), 2, {"target_modules": ["embed_tokens", "lm_head"]}),
    ],
)  # fmt: skip
def test_what_peft_saves_is_fine(tmp_path: Path, names: tuple[str, ...], rank: int, config: dict[str, Any]) -> None:
    assert problems(write_adapter(tmp_path / "a", tensors(rank, names), **config), BASE, max_rank=8) == []


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_is_fine_and_its_nan_is_found(tmp_path: Path, dtype: str) -> None:
    folder = write_adapter(tmp_path / "a", {n: t.astype(np.float16) for n, t in tensors().items()})
    path = folder / "adapter_model.safetensors"
    raw = path.read_bytes()
    if dtype == "BF16":  # numpy cannot write it: the same bits under another name
        length = int.from_bytes(raw[:8], "little")
        header = raw[8 : 8 + length].replace(b'"F16"', b'"BF16"')
        raw = len(header).to_bytes(8, "little") + header + raw[8 + length :]
        path.write_bytes(raw)
    assert problems(folder, BASE, 8) == []
    path.write_bytes(raw[:-2] + b"\xff\x7f")  # NaN in both
    [reason] = problems(folder, BASE, 8)
    assert reason.endswith("holds NaN or infinite numbers; its training went wrong, train it again")


def without(name: str) -> dict[str, Any]:
    return {n: t for n, t in tensors().items() if n != name}


def with_(name: str, value: Any) -> dict[str, Any]:
    return tensors() | {name: value}


@pytest.mark.parametrize(
    ("weights", "config", "reason"),
    [
        (without(Q0_A), {}, f"a tensor for base model {BASE.name} missing: {Q0_A}"),
        (with_("base_model.model.score.weight", np.zeros((2, 2), np.float32)), {},
         f"a tensor that base model {BASE.name} and adapter_config.json have no place for: "
         "base_model.model.score.weight"),
        (None, {"target_modules": ["q_proj"]},
         f"4 tensors that base model {BASE.name} and adapter_config.json have no place for: "
         "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight"),
        (None, {"target_modules": ["query_key_value"]},
         f"its target_modules (['query_key_value']) name nothing in base model {BASE.name}; wanted an adapter for it"),
        (with_(Q0_A, np.zeros((2, 16), np.float32)), {},
         f"{Q0_A} has shape 2 × 16; base model {BASE.name} and the rank in adapter_config.json want 2 × 8"),
        (with_(Q0_A, np.zeros((4, 8), np.float32)), {},
         f"{Q0_A} has shape 4 × 8; base model {BASE.name} and the rank in adapter_config.json want 2 × 8"),
        (with_(Q0_A, np.zeros((2, 8), np.int8)), {}, f"{Q0_A} holds I8 numbers; wanted F32, F16, BF16"),
        (with_(Q0_A, np.full((2, 8), np.inf, np.float32)), {},
         f"{Q0_A} holds NaN or infinite numbers; its training went wrong, train it again"),
        (with_(Q0_A, np.full((2, 8), np.nan, np.float32)), {},
         f"{Q0_A} holds NaN or infinite numbers; its training went wrong, train it again"),
        (None, {"use_dora": True}, f"it is a DoRA adapter (use_dora), which the engine cannot serve; {MERGE}"),
        (None, {"bias": "all"}, f"it trains biases (bias=all), which the engine cannot serve; {MERGE}"),
        (None, {"lora_bias": True}, f"it trains biases (lora_bias), which the engine cannot serve; {MERGE}"),
        (None, {"modules_to_save": ["lm_head"]},
         f"it holds whole layers (modules_to_save), which the engine cannot serve; {MERGE}"),
        (None, {"trainable_token_indices": [1]},
         f"it trains single tokens (trainable_token_indices), which the engine cannot serve; {MERGE}"),
        (None, {"layer_replication": [[0, 2]]},
         f"it repeats layers of the base model (layer_replication), which the engine cannot serve; {MERGE}"),
        (None, {"megatron_config": {"x": 1}},
         f"it was made for Megatron (megatron_config), which the engine cannot serve; {MERGE}"),
        (None, {"init_lora_weights": "pissa_niter_16"},
         "its initial weights (pissa_niter_16) changed the base model, which the engine would not know; save it as "
         "plain LoRA with PEFT's path_initial_model_for_weight_conversion"),
        (None, {"wonder_mode": 1}, f"its setting wonder_mode is not known to be served rightly; {MERGE}"),
        (None, {"peft_type": "IA3"}, "it is of PEFT's type IA3, the engine serves LORA only; train it again as LoRA"),
        (None, {"task_type": "SEQ_CLS"}, "it was trained for SEQ_CLS, not for chat (CAUSAL_LM)"),
        (None, {"base_model_name_or_path": "/models/Other-7B"},
         f"it was trained on base model '/models/Other-7B', the engine holds '{BASE.name}'; if both are the same "
         "weights, add --same-base"),
        (tensors(16), {"r": 16}, "its rank 16 is above engine.max_lora_rank = 8; raise max_lora_rank under [engine] in "
         "brogue.toml and start brogue again"),
        (None, {"rank_pattern": {"q_proj": 9}}, "its rank 9 is above engine.max_lora_rank = 8; raise max_lora_rank "
         "under [engine] in brogue.toml and start brogue again"),
        (None, {"r": 0}, "r in adapter_config.json is 0; wanted a whole number from 1"),
        (None, {"lora_alpha": "4"}, "lora_alpha in adapter_config.json is 4; wanted a number"),
        (None, {"target_modules": "("},
         "target_modules or a pattern in adapter_config.json cannot be read (missing ), unterminated subpattern at "
         "position 0)"),
    ],
)  # fmt: skip
def test_each_reason_is_one_line(tmp_path: Path, weights: dict[str, Any] | None, config: Any, reason: str) -> None:
    assert problems(write_adapter(tmp_path / "a", weights, **config), BASE, max_rank=8) == [reason]


PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}
VECTORS = np.ones((4, 8), np.float32)
SCALES = {"base_model.model.model.layers.0.mlp.down_proj.ia3_l": np.ones((1, 12), np.float32)}


@pytest.mark.parametrize(
    ("served", "weights", "config", "reason"),
    [
        ("soft-prompt", {"prompt_embeddings": VECTORS}, PROMPT, None),
        ("soft-prompt", {"prompt_embeddings": VECTORS}, {"peft_type": "P_TUNING", "num_virtual_tokens": 4}, None),
        ("soft-prompt", {"prompt_embeddings": VECTORS[:, :6]}, PROMPT,
         f"prompt_embeddings has shape 4 × 6; base model {BASE.name} and adapter_config.json want 4 × 8"),
        ("soft-prompt", {"prompt_embeddings": VECTORS[:3]}, PROMPT,
         f"prompt_embeddings has shape 3 × 8; base model {BASE.name} and adapter_config.json want 4 × 8"),
        ("soft-prompt", {"prompt_embeddings": VECTORS * np.nan}, PROMPT,
         "prompt_embeddings holds NaN or infinite numbers; its training went wrong, train it again"),
        ("soft-prompt", {"prompt_embeddings": VECTORS, "more": VECTORS}, PROMPT,
         "adapter_model.safetensors holds more, prompt_embeddings; wanted prompt_embeddings and nothing else"),
        ("soft-prompt", {"prompt_embeddings": VECTORS}, PROMPT | {"num_virtual_tokens": "4"},
         "num_virtual_tokens in adapter_config.json is 4; wanted a whole number from 1 to 127"),
        ("soft-prompt", {"prompt_embeddings": VECTORS}, PROMPT | {"num_virtual_tokens": 128},
         "num_virtual_tokens in adapter_config.json is 128; wanted a whole number from 1 to 127"),
        ("soft-prompt", {"prompt_embeddings": VECTORS}, PROMPT | {"peft_type": "PREFIX_TUNING"},
         "it is of PEFT's type PREFIX_TUNING; wanted one of PROMPT_TUNING, P_TUNING, CPT as a soft prompt"),
        ("soft-prompt", {"prompt_embeddings": VECTORS}, PROMPT | {"task_type": "SEQ_CLS"},
         "it was trained for SEQ_CLS, not for chat (CAUSAL_LM)"),
        ("merged", SCALES, {"peft_type": "IA3"}, None),
        ("merged", None, {"use_dora": True, "r": 64}, None),  # no limit of ranks where no adapter is loaded
        ("merged", {n: t * np.inf for n, t in SCALES.items()}, {"peft_type": "IA3"},
         f"{next(iter(SCALES))} holds NaN or infinite numbers; its training went wrong, train it again"),
        ("merged", {"weight": VECTORS}, {"peft_type": "IA3"},
         "adapter_model.safetensors holds weight; wanted PEFT's tensors (base_model.…)"),
        ("merged", SCALES, {"peft_type": None},
         "it is of PEFT's type None, which cannot be merged into a base model"),
        ("merged", {"prompt_embeddings": VECTORS}, PROMPT | {"peft_type": "PREFIX_TUNING"},
         "it is of PEFT's type PREFIX_TUNING, which cannot be merged into a base model"),
        ("merged", {"prompt_embeddings": VECTORS}, PROMPT,
         "it is of PEFT's type PROMPT_TUNING, which cannot be merged into a base model"),
        ("merged", None, {"init_lora_weights": "pissa", "use_dora": True},
         "its initial weights (pissa) changed the base model, which the engine would not know; save it as plain LoRA "
         "with PEFT's path_initial_model_for_weight_conversion"),
    ],
)  # fmt: skip
def test_soft_prompts_and_what_is_merged_are_looked_at_as_what_they_are(
    tmp_path: Path, served: Served, weights: dict[str, Any] | None, config: Any, reason: str | None
) -> None:
    folder = write_adapter(tmp_path / "a", weights, **config)
    assert problems(folder, BASE, 8, served=served) == ([] if reason is None else [reason])
    assert problems(folder, BASE, 8), "none of them is a LoRA"


def test_files_that_are_not_as_peft_saves_them_are_named(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "extra.bin").write_bytes(b"x")
    assert problems(folder, BASE, 8) == [
        "extra.bin is a pickle file, which can run code when it is read; save the adapter as safetensors with PEFT's "
        "save_pretrained"
    ]
    (folder / "extra.bin").unlink()
    (folder / "adapter_config.json").write_text("[]")
    assert problems(folder, BASE, 8) == ["adapter_config.json is not a JSON object"]
    (folder / "adapter_config.json").write_text("{")
    assert problems(folder, BASE, 8) == [
        "adapter_config.json is not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1))"
    ]
    (folder / "adapter_config.json").unlink()
    assert problems(folder, BASE, 8) == ["no adapter_config.json in it; wanted a folder that PEFT saved"]
    assert problems(tmp_path / "b", BASE, 8) == [f"no folder {tmp_path / 'b'}"]


def test_weights_that_were_cut_off_say_so(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    [reason] = problems(folder, BASE, 8)
    assert reason.startswith("adapter_model.safetensors is broken or cut off (")
    assert reason.endswith("; copy or download it again")


def test_an_embedding_of_its_own_is_refused_and_a_copy_of_the_base_models_is_not(tmp_path: Path) -> None:
    weight = np.arange(32 * 8, dtype=np.float32).reshape(32, 8)
    (tmp_path / "base").mkdir()
    save_file({"model.embed_tokens.weight": weight.astype(np.float16)}, tmp_path / "base" / "model.safetensors")
    base = BASE.model_copy(update={"path": str(tmp_path / "base")})
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    lora = tensors(2, ("embed_tokens",))
    same = write_adapter(tmp_path / "same", lora | {name: weight}, target_modules=["embed_tokens"])
    assert problems(same, base, 8) == []
    other = write_adapter(tmp_path / "other", lora | {name: weight + 1}, target_modules=["embed_tokens"])
    assert problems(other, base, 8) == [
        f"{name} is not the base model's own weight, and the engine would not use it; train without resizing embeddings"
    ]


def refused(card: AdapterCard, home: Home, base: BaseModel = BASE) -> str:
    with pytest.raises(BrogueError) as error:
        check_version(card, Registry(home).folder(card.adapter, card.version), base, 8, home.root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_changed_after_it_was_written_is_a_checksum_mismatch(home: Home) -> None:
    card = register(home)
    folder = Registry(home).folder("a", 1)
    path = folder / "adapter_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    now, said = (digest[:12] for digest in (file_hashes(folder)[path.name], card.files[path.name]))
    assert refused(card, home) == (
        f"a@1 cannot be served: adapter_model.safetensors has changed since it was written (sha256 {now}, card.json "
        f"says {said}); import or train the version again"
    )
    (folder / "note.txt").write_text("x")
    assert refused(card, home) == (
        "a@1 cannot be served: note.txt stands in its folder but not in its card.json; remove it (and 1 more)"
    )


def test_a_version_of_another_base_model_is_refused_by_its_hash(home: Home) -> None:
    other = BASE.model_copy(update={"sha256": "other", "name": "other"})
    assert refused(register(home), home, other) == (
        f"a@1 cannot be served: it was trained on base model {BASE.name}, the engine holds other with other weights; "
        "train it again: brogue train a --data d"
    )


def test_links_and_folders_that_lead_out_of_the_home_are_refused(home: Home, tmp_path: Path) -> None:
    linked_file, linked_folder = register(home), register(home)
    path = Registry(home).folder("a", 1) / "adapter_model.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert refused(linked_file, home) == (
        "a@1 cannot be served: adapter_model.safetensors is a symbolic link; wanted the file itself"
    )
    folder = Registry(home).folder("a", 2)
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    assert refused(linked_folder, home) == (
        f"a@2 cannot be served: its folder leads out of the home folder {home.root}: {tmp_path / 'outside'}"
    )


def test_a_version_that_passed_is_read_again_only_when_its_files_change(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, checks = register(home), []
    checker = VersionChecker(Registry(home), BASE, 8, home.root)
    monkeypatch.setattr("adapters.validation.check_version", lambda *given: checks.append(check_version(*given)))
    checker(card)
    checker(card)
    assert len(checks) == 1
    path = Registry(home).folder("a", 1) / "adapter_model.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    for _ in range(2):
        with pytest.raises(BrogueError, match="has changed"):
            checker(card)


# 200 random corruptions. Those of the weights' bytes can only be seen by the checksum; all others must be found out
# even when the checksums were made after the damage, as for a folder that comes from elsewhere.


Corruption = Callable[[Path, random.Random], None]


def _flip(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice(["adapter_model.safetensors", "adapter_config.json"])
    raw = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 8)):
        raw[dice.randrange(len(raw))] ^= dice.randint(1, 255)
    path.write_bytes(raw if bytes(raw) != path.read_bytes() else raw[:-1])


def _truncate(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice(["adapter_model.safetensors", "adapter_config.json"])
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size - 2)])


def _edit_tensors(
    change: Callable[[dict[str, Any], str, random.Random], None],
) -> Callable[[Path, random.Random], None]:
    def corrupt(folder: Path, dice: random.Random) -> None:
        weights = load_file(folder / "adapter_model.safetensors")
        change(weights, dice.choice(sorted(weights)), dice)
        save_file(weights, folder / "adapter_model.safetensors")

    return corrupt


@_edit_tensors
def _rename(weights: dict[str, Any], name: str, dice: random.Random) -> None:
    at = dice.randrange(len(name))
    weights[name[:at] + dice.choice("xyz0.") + name[at + dice.randint(0, 1) :] + "_"] = weights.pop(name)


@_edit_tensors
def _drop(weights: dict[str, Any], name: str, dice: random.Random) -> None:
    del weights[name]
    for other in dice.sample(sorted(weights), dice.randrange(len(weights))):
        del weights[other]


@_edit_tensors
def _reshape(weights: dict[str, Any], name: str, dice: random.Random) -> None:
    shape = dice.choice([(-1,), (1, *weights[name].shape), weights[name].shape[::-1]])
    changed = weights[name].reshape(shape)
    weights[name] = changed if changed.shape != weights[name].shape else weights[name][:, :-1].copy()


@_edit_tensors
def _poison(weights: dict[str, Any], name: str, dice: random.Random) -> None:
    weights[name].flat[dice.randrange(weights[name].size)] = dice.choice([np.nan, np.inf, -np.inf])


def _edit_config(folder: Path, dice: random.Random) -> None:
    wrong: dict[str, list[Any]] = {
        "r": [0, -1, 1, 3, 64, "2", None, 2.0, True, [2]],
        "lora_alpha": ["x", None, float("nan"), float("inf"), [], True],
        "target_modules": [[], None, "", ["q_proj"], ["v_proj"], ["q_proj", "v_proj", "down_proj"], "q_proj", 3, "["],
        "peft_type": ["IA3", None, "lora", "ADALORA", 1],
        "task_type": ["SEQ_CLS", "TOKEN_CLS", 7],
        "bias": ["all", "lora_only", None],
        "use_dora": [True, 1, "yes"],
        "use_rslora": ["true", 1, None],
        "modules_to_save": [["lm_head"], "embed_tokens"],
        "init_lora_weights": ["pissa", "olora", "corda", "loftq", 1, {"a": 1}],
        "rank_pattern": [{"q_proj": 4}, {"v_proj": 0}, [1], "x", {"(": 2}],
        "alpha_pattern": [{"q_proj": "4"}, {"q_proj": None}, 5],
        "layers_to_transform": [[0], 1, [7], "0"],
        "exclude_modules": [["q_proj"], r".*v_proj", 1],
        "base_model_name_or_path": ["other/model-9b"],
        "layer_replication": [[[0, 1]]],
        "unheard_of": [1, "x", {"a": None}],
    }
    config = json.loads((folder / "adapter_config.json").read_text())
    key = dice.choice(sorted(wrong))
    config[key] = dice.choice(wrong[key])
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _remove_a_needed_key(folder: Path, dice: random.Random) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    del config[dice.choice(["r", "lora_alpha", "target_modules", "peft_type"])]
    (folder / "adapter_config.json").write_text(json.dumps(config))


STRUCTURAL = (_truncate, _rename, _drop, _reshape, _poison, _edit_config, _remove_a_needed_key)


@pytest.mark.parametrize("seed", range(200))
def test_a_randomly_corrupted_adapter_is_refused(home: Home, seed: int) -> None:
    dice = random.Random(seed)
    corrupt = dice.choice((*STRUCTURAL, _flip))
    card = register(home)
    folder = Registry(home).folder("a", 1)
    corrupt(folder, dice)
    assert refused(card, home), f"{corrupt}"
    if corrupt is not _flip:
        (folder / CARD).unlink()
        found = problems(folder, BASE, 8)
        assert found, f"{corrupt} is found out without the checksums"
        assert all("\n" not in reason for reason in found)
