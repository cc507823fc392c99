"""An adapter merged into its base model, as a whole model in Hugging Face's layout. Imports torch's world."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers.utils import logging

from adapters.base_model import BaseModel, load_tokenizer, model_class
from adapters.lora_config import PREFIX
from adapters.tensors import read_header
from adapters.validation import WEIGHTS


def merge(base: BaseModel, adapter: Path, target: Path) -> None:
    """Write base model + `adapter` with its tokenizer into the folder `target`, in the base model's own dtype."""
    logging.disable_progress_bar()
    model = model_class(Path(base.path)).from_pretrained(base.path, dtype="auto")
    if _adapts_embeddings(model, adapter):
        _untie(model)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(target)
    load_tokenizer(base.path).save_pretrained(target)


def _adapts_embeddings(model: Any, adapter: Path) -> bool:
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is layer for layer in layers)]
    return any(tensor.startswith(f"{PREFIX}{name}.") for tensor in read_header(adapter / WEIGHTS) for name in names)


def _untie(model: Any) -> None:
    """Give the output layer weights of its own: merged into shared ones, its change would reach the input too."""
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())
    model.config.get_text_config().tie_word_embeddings = False
    model.config.tie_word_embeddings = False
