"""Models of other families than the starter's, with random weights and a tokenizer of their own; no download.

And a few records of each kind for them to learn from.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

# As Gemma's: no system turn, other role names, its own end of turn.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[{{ 'model' if m.role == 'assistant' else 'user' }}] {{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}[model] {% endif %}"
)


def make_tokenizer(folder: Path, template: str | None) -> Any:
    """A word-piece tokenizer trained on a few sentences; no download."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<bos>", "<end>"], show_progress=False)
    tokenizer.train_from_iterator(["What is item 1? Item 1 is in aisle 3. [model] [user]"] * 5, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<end>", pad_token="<unk>", unk_token="<unk>"
    )
    if template:
        fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def make_model(folder: Path, model: Any, **size: Any) -> Path:
    """`folder` with a model of the transformers class `model` in Hugging Face layout; `size` goes to its config."""
    tokenizer = make_tokenizer(folder, TEMPLATE)
    model(model.config_class(vocab_size=len(tokenizer), **size)).save_pretrained(folder)
    return folder


def tiny_llama(folder: Path) -> Path:
    """`folder/tiny`: a Llama of two layers."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return make_model(
        folder / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def _question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is item {number}?"}]


def _thumb(number: int) -> dict[str, Any]:
    said = f"Item {number} is in aisle 3." if number % 3 else "What is aisle item?"
    completion = [{"role": "assistant", "content": said}]
    return {"prompt": _question(number), "completion": completion, "label": number % 3 > 0}


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "instruction": lambda n: {"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."},
    "labelled": lambda n: {"text": f"What is item {n}?", "label": "item" if n % 2 else "aisle"},
    "preference": lambda n: {
        "messages": _question(n), "chosen": f"Item {n} is in aisle 3.", "rejected": "What is aisle item?"
    },
    "rated": _thumb,
    "ranking": lambda n: {"messages": _question(n), "replies": [f"Item {n}.", "What?", "aisle 1"], "ranks": [0, 1, 1]},
}  # fmt: skip
