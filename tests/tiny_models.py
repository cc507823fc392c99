"""Models of other families than the starter's, with random weights and a tokenizer of their own; no download."""

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
