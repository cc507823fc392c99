"""Which of a base model's own parts a method trains: norms, the last layers, the tokens of its chat template.

Found on the model itself, so that no family needs a table.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adapters.base_model import load_tokenizer, supports_system
from data.errors import BrogueError

PROBE = "brogue"


def norms(model: Any) -> list[str]:
    """Names of the normalising layers, by their classes' names."""
    return [name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()]


def last_layers(model: Any, count: int) -> list[str]:
    """Names of all modules with weights of their own in the last `count` layers of the language model."""
    depth = int(model.config.get_text_config().num_hidden_layers)
    if not isinstance(count, int) or not 1 <= count <= depth:
        raise BrogueError(f"layers={count}: wanted a whole number from 1 to {depth}, the layers of this base model")
    inside = {id(module) for module in model.get_decoder().modules()}  # not those of a part that sees images
    stack, layers = next(
        (name, module) for name, module in model.named_modules()
        if id(module) in inside and type(module).__name__ == "ModuleList" and len(module) == depth
    )  # fmt: skip
    found: list[str] = []
    for index in range(depth - count, depth):
        for inner, module in layers[index].named_modules(prefix=f"{stack}.{index}"):
            own = any(weight is not None for weight in module._parameters.values())
            if own and not any(inner.startswith(f"{other}.") for other in found):
                found.append(inner)
    return found


def template_tokens(model: Any, words: Sequence[str] | str | None) -> list[int]:
    """Ids of the tokens of `words`; without them those that the chat template puts around messages, sorted.

    These are the role and end-of-turn tokens, which a base model may hardly have learnt.
    """
    tokenizer = load_tokenizer(model.config.name_or_path)
    if words:
        listed = [words] if isinstance(words, str) else words
        return sorted(set(itertools.chain(*(tokenizer.encode(word, add_special_tokens=False) for word in listed))))
    roles = ["system"] * supports_system(tokenizer) + ["user", "assistant", "user"]
    text = tokenizer.apply_chat_template([{"role": role, "content": PROBE} for role in roles], tokenize=False,
                                         add_generation_prompt=True)  # fmt: skip
    around = text.split(PROBE)
    return sorted(set(itertools.chain(*(tokenizer.encode(part, add_special_tokens=False) for part in around))))


def tunes_output(model: Any) -> bool:
    """Whether PEFT changes the output layer: single tokens in tied embeddings are trained there too."""
    return hasattr(model.get_output_embeddings(), "base_layer")


@contextmanager
def untuned_output(model: Any) -> Iterator[None]:
    """Hide that from TRL for as long as the block lasts: its own loss would pass the change by, so it refuses it."""
    if not tunes_output(model):
        yield
        return
    plain = model.get_output_embeddings().base_layer
    model.get_output_embeddings = lambda: plain
    yield
    del model.get_output_embeddings
