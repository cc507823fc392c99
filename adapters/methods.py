"""Training methods by PEFT's names: which weights are trained, and how the engine can serve what comes of it.

Some have settings of their own here; every other method of the installed PEFT is known by its type's name in small
letters with hyphens, so that what PEFT adds later needs nothing of ours. PEFT takes seconds to import, hence inside.
"""

import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from adapters.lora_config import unserved
from adapters.method_targets import last_layers, norms, template_tokens
from data.errors import BrogueError, one_line, unknown

if TYPE_CHECKING:
    from peft import PeftConfig

Family = Literal["reparameterised", "selective", "additive", "soft prompt", "other"]
Serving = Literal["native", "converted", "merged", "soft-prompt", "never"]
VIRTUAL_TOKENS, LAYERS = 16, 2
_NONE: Mapping[str, Any] = MappingProxyType({})


class Method(NamedTuple):
    """A method, and the PEFT configuration that it stands for."""

    name: str
    family: Family
    peft_type: str  # a name of peft.PeftType
    options: Mapping[str, Any] = _NONE
    rate: float = 1  # learning rate, as a multiple of LoRA's (docs/training.md says why)
    four_bits: bool = False  # whether the frozen base is held in 4 bits while training


_SOFT: Mapping[str, Any] = MappingProxyType({"num_virtual_tokens": VIRTUAL_TOKENS})
METHODS = {
    method.name: method
    for method in (
        Method("lora", "reparameterised", "LORA"),
        Method("rslora", "reparameterised", "LORA", {"use_rslora": True}),
        Method("qlora", "reparameterised", "LORA", four_bits=True),
        Method("dora", "reparameterised", "LORA", {"use_dora": True}),
        Method("miss", "reparameterised", "MISS"),
        Method("loha", "reparameterised", "LOHA"),
        Method("vera", "reparameterised", "VERA", rate=10),
        Method("lokr", "reparameterised", "LOKR"),
        Method("ln-tuning", "selective", "LN_TUNING", rate=10),
        # PEFT trains a copy of any layer that LN_TUNING is pointed at.
        Method("layers", "selective", "LN_TUNING", {"layers": LAYERS}),
        Method("trainable-tokens", "selective", "TRAINABLE_TOKENS", rate=3),
        Method("ia3", "additive", "IA3", rate=10),
        Method("adaption-prompt", "additive", "ADAPTION_PROMPT", {"adapter_len": 10}),
        Method("prompt-tuning", "soft prompt", "PROMPT_TUNING", {**_SOFT, "prompt_tuning_init": "SAMPLE_VOCAB"}, 100),
        Method("p-tuning", "soft prompt", "P_TUNING", _SOFT),
        Method("prefix-tuning", "soft prompt", "PREFIX_TUNING", _SOFT),
    )
}
# Fields that follow from the rest of the command (the rank from --rank), or that PEFT writes itself.
_SETTLED = {"r", "task_type", "peft_type", "inference_mode", "base_model_name_or_path", "peft_version", "auto_mapping"}
_OWN_TARGETS = {"LN_TUNING", "IA3", "ADAPTION_PROMPT", "TRAINABLE_TOKENS"}  # PEFT chooses these layers itself
# They write into every layer's cache, which no engine call can do, or have a prompt for each of several tasks.
_NO_PROMPT = {"PREFIX_TUNING", "CARTRIDGE", "MULTITASK_PROMPT_TUNING"}


def find(name: str) -> Method:
    """The method of that name; raises `UnknownName` with all the names there are."""
    if name in METHODS:
        return METHODS[name]
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    others = {kind.value.lower().replace("_", "-"): kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if name in others:
        return Method(name, "other", others[name])
    raise unknown("method", name, [*METHODS, *sorted(set(others) - set(METHODS))], "Most people want lora")


def config_for(method: Method, rank: int, model: Any, task_type: str = "CAUSAL_LM",
               options: Mapping[str, Any] = _NONE) -> "PeftConfig":  # fmt: skip
    """PEFT's configuration of a method for a base model, with `options` (names of its fields) on top.

    A LoRA's alpha is twice its rank, so that the learning rate need not follow the rank. What a method needs beyond
    that and has no default for is refused in one line. `layers` (how many of the last) and `tokens` (words whose
    tokens are trained) are options too.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    make = next(config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items() if kind.value == method.peft_type)
    fields = {field.name for field in dataclasses.fields(make)}
    chosen: dict[str, Any] = {"task_type": task_type, **method.options}
    if "r" in fields:
        chosen["r"] = rank
    if "lora_alpha" in fields:
        chosen["lora_alpha"] = 2 * rank
    elif "alpha" in fields and "r" in fields:
        chosen["alpha"] = 2 * rank
    if "num_virtual_tokens" in fields:
        chosen.setdefault("num_virtual_tokens", VIRTUAL_TOKENS)
    if "target_modules" in fields and method.peft_type not in _OWN_TARGETS:
        chosen["target_modules"] = "all-linear"
    if "adapter_layers" in fields:
        chosen["adapter_layers"] = max(1, int(model.config.get_text_config().num_hidden_layers) // 2)
    _check_options(method, options, fields)
    return _made(method, make, _of_model(method, chosen | dict(options), model))


def read_options(given: Sequence[str], flag: str = "--method-option") -> dict[str, Any]:
    """`NAME=VALUE` each, the value as JSON or, if it is none, as text; `flag` is how they were given."""
    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise BrogueError(f"{flag} wants NAME=VALUE, found '{one_line(text, 60)}'")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _check_options(method: Method, options: Mapping[str, Any], fields: set[str]) -> None:
    ours = {"layers": method.name == "layers", "tokens": method.peft_type == "TRAINABLE_TOKENS"}
    known = sorted((fields - _SETTLED) | {name for name, fits in ours.items() if fits})
    for name in options:
        if name not in known:
            raise unknown(f"option of the method '{method.name}'", name, known, "Give it as --method-option NAME=VALUE")


def _of_model(method: Method, options: dict[str, Any], model: Any) -> dict[str, Any]:
    """The options with those that depend on the base model's own layers and tokens."""
    if "layers" in options:
        options["target_modules"] = last_layers(model, options.pop("layers"))
    elif method.peft_type == "LN_TUNING" and "target_modules" not in options:
        options["target_modules"] = norms(model)
    if method.peft_type == "TRAINABLE_TOKENS" and "token_indices" not in options:
        options["token_indices"] = template_tokens(model, options.pop("tokens", None))
    return options


def _made(method: Method, make: Any, options: dict[str, Any]) -> "PeftConfig":
    try:
        config: PeftConfig = make(**options)
    except (TypeError, ValueError) as error:
        raise BrogueError(
            f"the method '{method.name}' needs settings that have no default here ({one_line(error, 160)}); give them "
            f"with --method-option NAME=VALUE, or choose another: {', '.join(METHODS)}"
        ) from error
    return config


def attach(model: Any, method: Method, rank: int, options: Mapping[str, Any] = _NONE,
           task_type: str = "CAUSAL_LM") -> Any:  # fmt: skip
    """The model with the method's weights to be trained, as a `peft.PeftModel`; all others are frozen.

    What is trained is float32, also where PEFT copies it from a smaller base: steps would be lost in rounding.
    """
    from peft import get_peft_model

    from adapters.soft_prompts import keep_encoder

    try:
        with warnings.catch_warnings(action="ignore"):  # such as that a norm is no linear layer
            found = get_peft_model(model, config_for(method, rank, model, task_type, options))
    except (TypeError, ValueError, NotImplementedError, RuntimeError, KeyError) as error:  # each method has its own
        raise BrogueError(
            f"the method '{method.name}' does not fit this base model ({one_line(error, 160)}); "
            f"choose another: {', '.join(METHODS)}"
        ) from error
    for weight in found.parameters():
        if weight.requires_grad and weight.is_floating_point():
            weight.data = weight.data.float()
    keep_encoder(found)
    return found


def missing_here(method: Method) -> str | None:
    """What this machine lacks for the method, in words; none if it lacks nothing."""
    if not method.four_bits:
        return None
    import torch

    if not torch.cuda.is_available():
        return "it holds the base model in 4 bits, which takes a GPU, and this machine has none; use lora"
    if importlib.util.find_spec("bitsandbytes") is None:
        return "it needs the package bitsandbytes: pip install bitsandbytes"
    return None


def serving(model: Any, method: Method) -> Serving:
    """How what is trained can be served. `model` is the `PeftModel` that `attach` gave; it is used up.

    `converted` is for those that are a LoRA of some small rank; the others' nearest LoRA answers differently.
    """
    if method.peft_type == "LORA":
        if is_plain(model):
            return "native"
        if unserved(model.active_peft_config.to_dict(), merged=True):
            return "never"  # such as initial weights that change the base model: they are merged into another one
    if model.active_peft_config.is_prompt_learning:
        return "never" if method.peft_type in _NO_PROMPT else "soft-prompt"
    if not hasattr(model.base_model, "merge_and_unload"):
        return "never"
    exact = method.peft_type != "LORA" and lora_rank(method, 1) is not None
    if exact and model.supports_lora_conversion():
        return "converted"
    return "merged" if _merges(model) else "never"


def _merges(model: Any) -> bool:
    """Tried out, since some of PEFT's kinds only raise; where that takes weights and there are none, it is assumed."""
    try:
        model.merge_and_unload()
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        return "meta" in str(error)
    return True


def is_plain(model: Any) -> bool:
    """Whether a LoRA has nothing that the engine would leave out, such as DoRA's magnitudes, by method or option."""
    return not unserved(model.active_peft_config.to_dict())


def prompt_tokens(model: Any) -> int:
    """Vectors that the model puts before its input; 0 without a soft prompt. `model` is a `PeftModel` or not."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def lora_rank(method: Method, rank: int) -> int | None:
    """The rank at which a LoRA is exactly what the method trained; none where no small rank is exact.

    LoHa multiplies two products of rank r element by element, which has rank r² at most (Hyeon-Woo et al. 2022).
    """
    if method.peft_type in ("LORA", "MISS", "VERA"):
        return None if method.options.get("use_dora") else rank
    return rank * rank if method.peft_type == "LOHA" else None
