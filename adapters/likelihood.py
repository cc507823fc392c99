"""How likely a version finds texts: the log-probability of every token, by a forward pass here. Imports torch's world.

The ids are those that the engine would see (adapters/tokens.py), so the figures are those of what is served; only the
arithmetic is bfloat16's, as in training. Any method's version can be asked, as PEFT has it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from adapters.base_model import BaseModel, load_tokenizer, load_weights
from adapters.exam_types import Messages
from adapters.padding import padded
from adapters.registry import AdapterCard, Registry, refuse_scorer
from adapters.tokens import encode_answer, prompt_ids
from adapters.validation import folder_for
from data.errors import BrogueError, one_line
from data.messages import with_system

LOGITS = 50_000_000  # that are held at once: 200 MB in float32
ROWS = 32
Ids = list[int]


class Likelihoods:
    """One model at a time; asked for another, it takes that one's weights in the place of the former."""

    def __init__(self, registry: Registry, base: BaseModel) -> None:
        self._registry, self._base = registry, base
        self._tokenizer = load_tokenizer(base.path)
        self._model: Any = None
        self._held: str | None = None

    def of(self, card: AdapterCard | None, system: str | None, prompts: Sequence[Messages | None],
           texts: Sequence[str], take: Callable[[int, list[float]], None]) -> None:  # fmt: skip
        """Hand the log-probability (nats) of each token of each text to `take`, with the text's number.

        A text is the answer to the messages after `system`, with what closes an answer; or, without messages, the text
        itself after what begins a text. What goes beyond the base model's context is left out. No card: the base model.
        Raises `BrogueError`.
        """
        rows = [self._ids(system, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        for number in (number for number, (_, ids) in enumerate(rows) if not ids):
            take(number, [])
        try:
            model = self._load(card)
            for batch in _batches(rows, model.get_output_embeddings().weight.shape[0]):
                found = _log_probs(model, [rows[number] for number in batch], self._pad)
                for number, values in zip(batch, found, strict=True):
                    take(number, values)
        except torch.OutOfMemoryError as error:
            raise BrogueError(
                f"the GPU has no room for {self._base.name} beside the engine ({one_line(error, 80)}); lower "
                "gpu_memory_utilization under [engine] in brogue.toml and start the engine again"
            ) from error

    def _ids(self, system: str | None, prompt: Messages | None, text: str) -> tuple[Ids, Ids]:
        """(what comes before, what is asked about)."""
        if prompt is None:
            before, ids = [self._first], list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        else:
            turns = with_system(prompt, system, self._base.supports_system)
            before, ids = prompt_ids(self._tokenizer, turns), encode_answer(self._tokenizer, turns, text)
        return before, ids[: max(0, self._base.context_length - len(before))]

    @property
    def _first(self) -> int:
        """What stands before a text: the token that begins one, else the one that ended the text before it."""
        found = self._tokenizer.bos_token_id
        return int(self._tokenizer.eos_token_id if found is None else found)

    @property
    def _pad(self) -> int:
        found = self._tokenizer.pad_token_id
        return self._first if found is None else int(found)

    def _load(self, card: AdapterCard | None) -> Any:
        name = card.engine_name if card is not None else ""
        if self._held == name:
            return self._model
        folder = None
        if card is not None:
            refuse_scorer(card)
            folder = folder_for(self._registry, card, self._base)
        model, self._model, self._held = self._bare(), None, None
        self._model = (model if folder is None else PeftModel.from_pretrained(model, str(folder))).eval()
        self._held = name
        return self._model

    def _bare(self) -> Any:
        """The base model: what the present version was put on, where that left its weights as they are."""
        if self._held == "":
            return self._model
        if isinstance(self._model, PeftModel) and self._model.active_peft_config.peft_type == "LORA":
            return self._model.unload()
        self._model = None  # not two of them at once
        return load_weights(self._base.path).to("cuda" if torch.cuda.is_available() else "cpu")


def _batches(rows: Sequence[tuple[Ids, Ids]], words: int) -> Iterator[list[int]]:
    """Numbers of rows that go together: about equally long, and few enough for the memory; no row without a text."""
    order = sorted((n for n, (_, text) in enumerate(rows) if text), key=lambda n: (sum(map(len, rows[n])), n))
    batch: list[int] = []
    for number in order:
        width = sum(map(len, rows[number]))
        if batch and (len(batch) == ROWS or (len(batch) + 1) * width * words > LOGITS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _log_probs(model: Any, rows: Sequence[tuple[Ids, Ids]], pad: int) -> list[list[float]]:
    """For each row the log-probability of each token of its text."""
    ids, mask = padded([before + text for before, text in rows], pad)
    first = min(len(before) for before, _ in rows) - 1  # counted from the end, as soft prompts stand before the ids
    device = next(model.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        logits = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False,
            logits_to_keep=torch.arange(first - ids.shape[1], 0, device=device),
        ).logits  # fmt: skip
    return [
        _of_text(logits[row, len(before) - 1 - first : len(before) + len(text) - 1 - first], text)
        for row, (before, text) in enumerate(rows)
    ]


def _of_text(logits: Tensor, text: Ids) -> list[float]:
    """From the logits before each token [tokens, V]."""
    values = logits.float().log_softmax(-1).gather(1, torch.tensor(text, device=logits.device)[:, None])
    return [round(value, 5) for value in values.flatten().tolist()]
