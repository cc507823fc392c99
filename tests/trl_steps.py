"""Two steps of one of TRL's trainers with a tiny model on a file as `brogue feedback export` writes it."""

from pathlib import Path
from typing import Any

from tests.tiny_models import make_model


def train_two_steps(kind: str, file: Path, folder: Path) -> Any:
    """What the trainer says when it has done two steps on `file` (JSONL) as it is; `kind`: sft, dpo, reward, kto."""
    import trl
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification

    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}
    model_class = LlamaForCausalLM
    if kind == "reward":
        size |= {"num_labels": 1, "pad_token_id": 0}
        model_class = LlamaForSequenceClassification
    config, trainer = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
        "reward": (trl.RewardConfig, trl.RewardTrainer),
        "kto": (trl.KTOConfig, trl.KTOTrainer),
    }[kind]
    model = make_model(folder / "model", model_class, **size)
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder / "cache"))
    options = config(output_dir=str(folder / "out"), max_steps=2, per_device_train_batch_size=2, report_to=[],
                     use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True)  # fmt: skip
    return trainer(model=model_class.from_pretrained(model), args=options, train_dataset=rows,
                   processing_class=AutoTokenizer.from_pretrained(model)).train()  # fmt: skip
