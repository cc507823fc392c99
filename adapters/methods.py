"""Training methods by PEFT's names: which weights are trained, and how the engine can serve what comes of it.

Some have settings of their own here; every other method of the installed PEFT is known by its type's name in small
letters with hyphens, so that what PEFT adds later needs nothing of ours. PEFT takes seconds to import, hence inside.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from data.errors import BrogueError, one_line, unknown

if TYPE_CHECKING:
    from peft import PeftConfig

Family = Literal["reparameterised", "selective", "additive", "soft prompt", "other"]
Serving = Literal["native", "converted", "merged", "soft-prompt", "never"]
VIRTUAL_TOKENS = 16
_NONE: Mapping[str, Any] = MappingProxyType({})


class Method(NamedTuple):
    """A method, and the PEFT configuration that it stands for."""

    name: str
    family: Family
    peft_type: str  # a name of peft.PeftType
    options: Mapping[str, Any] = _NONE


METHODS = {
    method.name: method
    for method in (
        Method("lora", "reparameterised", "LORA"),
        Method("rslora", "reparameterised", "LORA", {"use_rslora": True}),
        Method("dora", "reparameterised", "LORA", {"use_dora": True}),
        Method("miss", "reparameterised", "MISS"),
        Method("loha", "reparameterised", "LOHA"),
        Method("vera", "reparameterised", "VERA"),
        Method("lokr", "reparameterised", "LOKR"),
        Method("ln-tuning", "selective", "LN_TUNING"),
        Method("ia3", "additive", "IA3"),
        Method("adaption-prompt", "additive", "ADAPTION_PROMPT", {"adapter_len": 10}),
        Method("prompt-tuning", "soft prompt", "PROMPT_TUNING", {"num_virtual_tokens": VIRTUAL_TOKENS}),
        Method("p-tuning", "soft prompt", "P_TUNING", {"num_virtual_tokens": VIRTUAL_TOKENS}),
        Method("prefix-tuning", "soft prompt", "PREFIX_TUNING", {"num_virtual_tokens": VIRTUAL_TOKENS}),
    )
}
_OWN_TARGETS = {"LN_TUNING", "IA3", "ADAPTION_PROMPT", "TRAINABLE_TOKENS"}  # PEFT chooses these layers itself
_KEYS_AND_VALUES = {"PREFIX_TUNING", "CARTRIDGE"}  # they write into every layer's cache, which no engine call can do


def find(name: str) -> Method:
    """The method of that name; raises `UnknownName` with all the names there are."""
    if name in METHODS:
        return METHODS[name]
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    others = {kind.value.lower().replace("_", "-"): kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if name in others:
        return Method(name, "other", others[name])
    raise unknown("method", name, [*METHODS, *sorted(set(others) - set(METHODS))], "Most people want lora")


def config_for(method: Method, rank: int, layers: int, task_type: str = "CAUSAL_LM") -> "PeftConfig":
    """PEFT's configuration of a method for a base model with that many layers.

    A LoRA's alpha is twice its rank, so that the learning rate need not follow the rank. What a method needs beyond
    that and has no default for is refused in one line.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    make = next(config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items() if kind.value == method.peft_type)
    fields = {field.name for field in dataclasses.fields(make)}
    options: dict[str, Any] = {"task_type": task_type, **method.options}
    if "r" in fields:
        options["r"] = rank
    if "lora_alpha" in fields:
        options["lora_alpha"] = 2 * rank
    elif "alpha" in fields and "r" in fields:
        options["alpha"] = 2 * rank
    if "num_virtual_tokens" in fields:
        options.setdefault("num_virtual_tokens", VIRTUAL_TOKENS)
    if "target_modules" in fields and method.peft_type not in _OWN_TARGETS:
        options["target_modules"] = "all-linear"
    if "adapter_layers" in fields:
        options["adapter_layers"] = max(1, layers // 2)
    return _made(method, make, options)


def _made(method: Method, make: Any, options: dict[str, Any]) -> "PeftConfig":
    try:
        config: PeftConfig = make(**options)
    except (TypeError, ValueError) as error:
        raise BrogueError(
            f"the method '{method.name}' needs settings that have no default here ({one_line(error, 160)}); "
            f"choose another: {', '.join(METHODS)}"
        ) from error
    return config


def attach(model: Any, method: Method, rank: int) -> Any:
    """The model with the method's weights to be trained, as a `peft.PeftModel`; all others are frozen."""
    from peft import get_peft_model

    text = model.config.get_text_config()
    try:
        return get_peft_model(model, config_for(method, rank, int(text.num_hidden_layers)))
    except (TypeError, ValueError, NotImplementedError, RuntimeError, KeyError) as error:  # each method has its own
        raise BrogueError(
            f"the method '{method.name}' does not fit this base model ({one_line(error, 160)}); "
            f"choose another: {', '.join(METHODS)}"
        ) from error


def serving(model: Any, method: Method) -> Serving:
    """How the engine can serve what is trained. `model` is the `PeftModel` that `attach` gave.

    `converted` is for those that are a LoRA of some small rank; the others' nearest LoRA answers differently.
    """
    if is_lora(method):
        return "native"
    if model.active_peft_config.is_prompt_learning:
        return "never" if method.peft_type in _KEYS_AND_VALUES else "soft-prompt"
    if not hasattr(model.base_model, "merge_and_unload"):
        return "never"
    exact = lora_rank(method, 1) is not None
    return "converted" if exact and model.supports_lora_conversion() else "merged"


def is_lora(method: Method) -> bool:
    """Whether the engine takes what is trained as it is; of DoRA it would leave the magnitudes out."""
    return method.peft_type == "LORA" and not method.options.get("use_dora")


def lora_rank(method: Method, rank: int) -> int | None:
    """The rank at which a LoRA is exactly what the method trained; none where no small rank is exact.

    LoHa multiplies two products of rank r element by element, which has rank r² at most (Hyeon-Woo et al. 2022).
    """
    if is_lora(method) or method.peft_type in ("MISS", "VERA"):
        return rank
    return rank * rank if method.peft_type == "LOHA" else None
