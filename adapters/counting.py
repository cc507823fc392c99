"""How many tokens texts have for a base model: its tokenizer alone, without torch."""

from collections.abc import Callable
from pathlib import Path

from adapters.base_model import load_tokenizer
from data.errors import BrogueError, one_line


def token_counter(folder: Path | str) -> Callable[[list[str]], list[int]]:
    """Counts the tokens of texts for the base model in `folder`; what its chat template adds is not counted."""
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():  # some families ship a SentencePiece model only, which transformers converts
        tokenizer = load_tokenizer(folder)
        return lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    from tokenizers import Tokenizer

    try:
        fast = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise BrogueError(f"{file} is not a tokenizer ({one_line(error, 160)}); set base_model anew") from error
    fast.no_truncation()
    fast.no_padding()
    return lambda texts: [len(found.ids) for found in fast.encode_batch_fast(texts, add_special_tokens=False)]
