"""An adapter merged into its base model, as a whole model in Hugging Face's layout. Imports torch's world.

    python -m adapters.merging BASE ADAPTER TARGET [--dtype float32]

makes the folder TARGET of the folders BASE and ADAPTER, whole or not at all; what is there already is left alone. It
takes 4 bytes of memory for each number of the model, for as long as it lasts.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict

from adapters.base_model import load_tokenizer, model_class, quiet
from adapters.lora_config import PREFIX
from adapters.tensors import read_header
from adapters.validation import WEIGHTS
from data.errors import BrogueError, one_line
from data.home import new_folder


def merge(base: Path | str, adapter: Path, target: Path, dtype: str = "auto") -> None:
    """Write the base model + `adapter` with its tokenizer into the folder `target`.

    They are merged in float32 and written in `dtype`, a name of torch's; 'auto' is the base model's own. Raises
    `BrogueError` if the adapter is not one for this model, or PEFT cannot merge its kind.
    """
    quiet()
    make = model_class(Path(base))
    model = make.from_pretrained(base, dtype="auto" if dtype == "auto" else getattr(torch, dtype))
    written = model.dtype
    model.float()
    if _adapts_embeddings(model, adapter):
        _untie(model)
    merged = merged_model(loaded(model, adapter))
    merged.to(written).save_pretrained(target)
    load_tokenizer(base).save_pretrained(target)


def loaded(model: Any, adapter: Path) -> PeftModel:
    """`model` with the adapter; PEFT itself would only warn of tensors that are missing."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:  # each of PEFT's kinds has its own
        raise BrogueError(f"it does not fit this base model ({one_line(error, 160)})") from error
    wanted = set(get_peft_model_state_dict(found, save_embedding_layers=False))
    there = {name for name in read_header(adapter / WEIGHTS) if ".base_layer." not in name}  # copies of the base's own
    odd = [f"{name} is missing" for name in sorted(wanted - there)]
    odd += [f"there is no place for {name}" for name in sorted(there - wanted)]
    if odd:
        raise BrogueError(f"it does not fit this base model: {odd[0]}")
    return found


def merged_model(model: PeftModel) -> Any:
    """The base model with the adapter's change in its own weights; `model` is used up."""
    try:
        return model.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
        raise BrogueError(f"PEFT cannot merge it into its base model ({one_line(error, 160)})") from error


def _adapts_embeddings(model: Any, adapter: Path) -> bool:
    """Whether the input or the output layer has a change of its own. PEFT trains single tokens in both alike."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is layer for layer in layers)]
    return any(
        tensor.startswith(f"{PREFIX}{name}.") and "trainable_tokens" not in tensor
        for tensor in read_header(adapter / WEIGHTS)
        for name in names
    )


def _untie(model: Any) -> None:
    """Give the output layer weights of its own: merged into shared ones, its change would reach the input too."""
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())
    model.config.get_text_config().tie_word_embeddings = False
    model.config.tie_word_embeddings = False


def main() -> int:
    """See the module's text. Exit 1 with one line on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "adapter", "target"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    if given.target.exists():
        return 0
    try:
        with new_folder(given.target) as folder:
            merge(given.base, given.adapter, folder, given.dtype)
    except (BrogueError, OSError) as error:
        print(f"cannot merge {given.adapter}: {one_line(error, 300)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
