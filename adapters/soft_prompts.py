"""Soft prompts whose vectors come from an encoder (p-tuning): checkpoints keep the encoder too.

PEFT saves the vectors only, which is what serving needs; training that is taken up again needs what made them.
"""

from pathlib import Path
from typing import Any

ENCODER = "prompt_encoder.safetensors"


def keep_encoder(model: Any) -> None:
    """Let `save_pretrained` and `load_adapter` of this `PeftModel` write and read the encoder, if it has one."""
    encoder = getattr(model, "prompt_encoder", None)  # by the adapters' names
    if not encoder or all(name.endswith(".embedding.weight") for name in encoder.state_dict()):
        return
    from safetensors.torch import load_model, save_file

    save, load = model.save_pretrained, model.load_adapter

    def save_pretrained(folder: str, *args: Any, **options: Any) -> None:
        save(folder, *args, **options)
        save_file(encoder.state_dict(), Path(folder) / ENCODER)

    def load_adapter(folder: str, *args: Any, **options: Any) -> Any:
        done = load(folder, *args, **options)
        load_model(encoder, Path(folder) / ENCODER)
        return done

    model.save_pretrained, model.load_adapter = save_pretrained, load_adapter


def save(model: Any, folder: Path) -> None:
    """What serving needs, without an encoder: `prompt_embeddings` (virtual tokens, hidden size)."""
    model.save_pretrained(str(folder))
    (folder / ENCODER).unlink(missing_ok=True)
