"""PEFT's `adapter_config.json` for LoRA: what the engine can serve of it, and which tensors it stands for.

Ranks and alphas of single modules (`rank_pattern`, `alpha_pattern`) and rank-stabilised scaling are fine: vLLM serves
them as PEFT does (compared on vLLM 0.32); the tensors must have the ranks that the patterns say.
"""

import math
import re
from typing import Any

from adapters.base_model import BaseModel
from data.errors import one_line

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."  # PEFT's, before every module name
# Initial weights that leave the base model as it is once training has ended (vLLM's list; true, false, none are too).
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
WAY_OUT = "merge it into the base model with PEFT's merge_and_unload and name that as base_model, or train it without"
# Settings that change what the weights mean and that the engine does not know. What each is called for a person.
UNSERVED = {
    "use_dora": "it is a DoRA adapter (use_dora)",
    "modules_to_save": "it holds whole layers (modules_to_save)",
    "lora_bias": "it trains biases (lora_bias)",
    "trainable_token_indices": "it trains single tokens (trainable_token_indices)",
    "layer_replication": "it repeats layers of the base model (layer_replication)",
    "megatron_config": "it was made for Megatron (megatron_config)",
    "alora_invocation_tokens": "it is an activated LoRA (alora_invocation_tokens)",
    "use_qalora": "it is a QALoRA adapter (use_qalora)",
    "use_bdlora": "it is a block-diagonal LoRA (use_bdlora)",
    "target_parameters": "it trains parameters outside of layers (target_parameters)",
}
# Of those, what merging makes part of the weights: such versions take an engine of their own.
MERGED = ("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices")
# Settings that say nothing about what the finished weights do, or that are looked at by name below.
KNOWN = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "fan_in_fan_out", "bias", "use_rslora", "init_lora_weights", "rank_pattern", "alpha_pattern", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config",
}  # fmt: skip


def wrong_task(config: dict[str, Any]) -> list[str]:
    """What it was trained for, if that is not chat."""
    task = config.get("task_type")
    return [] if task in (None, "CAUSAL_LM") else [f"it was trained for {one_line(task, 40)}, not for chat (CAUSAL_LM)"]


def unserved(config: dict[str, Any], merged: bool = False) -> list[str]:
    """Kinds of adapters and settings that the engine cannot serve: as an adapter, or `merged` into its base model."""
    kind, init = config.get("peft_type"), config.get("init_lora_weights", True)
    if kind != "LORA":
        return [f"it is of PEFT's type {one_line(kind, 40)}, the engine serves LORA only; train it again as LoRA"]
    fine = MERGED if merged else ()
    found = [
        f"{what}, which the engine cannot serve; {WAY_OUT}"
        for key, what in UNSERVED.items()
        if config.get(key) and key not in fine
    ]
    found += wrong_task(config)
    if config.get("bias", "none") != "none" and not merged:
        found.append(
            f"it trains biases (bias={one_line(config['bias'], 40)}), which the engine cannot serve; {WAY_OUT}"
        )
    if not (init is None or isinstance(init, bool) or (isinstance(init, str) and init.lower() in PLAIN_INITS)):
        found.append(
            f"its initial weights ({one_line(init, 40)}) changed the base model, which the engine would not know; save "
            "it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )
    unknown = sorted(key for key, value in config.items() if value and key not in KNOWN and key not in UNSERVED)
    return found + [f"its setting {one_line(key, 60)} is not known to be served rightly; {WAY_OUT}" for key in unknown]


def bad_numbers(config: dict[str, Any], max_rank: int | None) -> list[str]:
    """Ranks and alphas that are not numbers or too large."""
    ranks, alphas = (config.get(key) or {} for key in ("rank_pattern", "alpha_pattern"))
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        return [f"rank_pattern and alpha_pattern in {CONFIG} must be objects"]
    all_ranks = {"r": config.get("r"), **ranks}
    all_alphas = {"lora_alpha": config.get("lora_alpha"), **alphas}
    found = [
        f"{name} in {CONFIG} is {one_line(value, 40)}; wanted a whole number from 1"
        for name, value in all_ranks.items()
        if type(value) is not int or value < 1
    ] + [
        f"{name} in {CONFIG} is {one_line(value, 40)}; wanted a number"
        for name, value in all_alphas.items()
        if type(value) not in (int, float) or not math.isfinite(value)
    ]
    if not isinstance(config.get("use_rslora", False), bool):
        found.append(f"use_rslora in {CONFIG} is {one_line(config['use_rslora'], 40)}; wanted true or false")
    if not found and max_rank is not None and (rank := max(all_ranks.values())) > max_rank:
        found = [
            f"its rank {rank} is above engine.max_lora_rank = {max_rank}; raise max_lora_rank under [engine] in "
            "brogue.toml and start brogue again"
        ]
    return found


def expected_tensors(config: dict[str, Any], base: BaseModel) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that PEFT saves for this configuration on this base model."""
    wanted: dict[str, tuple[int, ...]] = {}
    for module, (out, in_) in base.modules.items():
        if not _is_target(config, module):
            continue
        patterns = config.get("rank_pattern") or {}
        rank = next((r for p, r in patterns.items() if re.match(rf"(.*\.)?({p})$", module)), config["r"])
        a, b = ("lora_embedding_A", "lora_embedding_B") if module in base.embeddings else (
            "lora_A.weight", "lora_B.weight")  # fmt: skip
        wanted[f"{PREFIX}{module}.{a}"] = (rank, in_)
        wanted[f"{PREFIX}{module}.{b}"] = (out, rank)
    return wanted


def _is_target(config: dict[str, Any], module: str) -> bool:
    """Does PEFT put LoRA on this module? Its rules: names match whole or after a dot, a text is a regular pattern."""
    targets, excluded = config.get("target_modules"), config.get("exclude_modules")
    if not targets or (excluded and _names(excluded, module)) or not _names(targets, module):
        return False
    layers = config.get("layers_to_transform")
    if layers in (None, []) or isinstance(targets, str) or module in targets:
        return True
    pattern = config.get("layers_pattern") or [r"[^.]*"]
    patterns = [pattern] if isinstance(pattern, str) else pattern
    index = next((m for p in patterns if (m := re.match(rf"(?:^|.*?\.){p}\.(\d+)\.", module))), None)
    return index is not None and int(index[1]) in ([layers] if isinstance(layers, int) else layers)


def _names(rule: str | list[str], module: str) -> bool:
    if isinstance(rule, str):
        return re.fullmatch(rule, module) is not None
    return module in rule or any(module.endswith(f".{name}") for name in rule)
