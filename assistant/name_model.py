"""Names of people in texts, found by a token-classification model of transformers that the user names.

In: the model (a folder or a Hugging Face id) and texts. Out: where names stand in them. Any model that labels tokens as
a person's will do, on a GPU if there is one. It sees what is longer than its window in windows that overlap by a
quarter; of what two windows hold, each decides the half that it sees more around of.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adapters.hub import locate
from data.errors import BrogueError, one_line
from data.home import Home

Tell = Callable[[str], None]
Spans = list[tuple[int, int]]

MAX_WINDOW = 512  # tokens; models of names are trained on sentences, more around them tells them nothing
MIN_WINDOW = 16
_TEXTS_AT_ONCE = 256
_BATCH_TOKENS, _GPU_BATCH_TOKENS = 4_096, 65_536
_PERSON = {"per", "pers", "person", "persname", "personname", "name", "fullname", "firstname", "givenname",
           "middlename", "lastname", "surname", "familyname"}  # fmt: skip
_TAG = re.compile(r"(?:([BIESLUM])[-_.])?(.+)", re.IGNORECASE)
_STARTS = "BSU"  # a name begins here, in BIO, BIOES and BILOU
# A model may name a part of a word. Scripts from Thai on write words without blanks, or hang other words to a name.
_LETTER = re.compile(r"[^\W_\u0e00-\U0010ffff]")


class Label(NamedTuple):
    """What a model's label says: such as B-PER."""

    starts: bool
    sort: str  # of the name, such as "per" or "surname"


class NameModel:
    """A model on disk, checked; it is loaded when the first text comes."""

    def __init__(self, model: str, home: Home, tell: Tell) -> None:
        """BrogueError if `model` is none that finds names of people."""
        self.name, self.folder = locate(model, home, "--names", "name a token-classification model", tell)
        config = _config(self.name, self.folder)
        self._persons = _person_labels(self.name, config)
        positions = config.get("max_position_embeddings")
        self._positions = positions - 2 if isinstance(positions, int) else MAX_WINDOW  # RoBERTa keeps two for itself
        self.sha256 = _hash_weights(self.name, self.folder)
        self._loaded: tuple[Any, Any] | None = None

    def find(self, texts: Sequence[str], tell: Tell) -> list[Spans]:
        """For each text, the names in it: positions of characters, in order, without overlaps."""
        found: list[Spans] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tell(f"looking for names in text {start:,} of {len(texts):,}")
            found += self._find(texts[start : start + _TEXTS_AT_ONCE])
        return found

    def _find(self, texts: Sequence[str]) -> list[Spans]:
        tokenizer, model = self._load()
        size = min(MAX_WINDOW, tokenizer.model_max_length, self._positions)
        overlap = size // 4
        encoded = tokenizer(list(texts), truncation=True, max_length=size, stride=overlap, padding=False,
                            return_overflowing_tokens=True, return_offsets_mapping=True,
                            return_special_tokens_mask=True)  # fmt: skip
        of_text: list[int] = encoded["overflow_to_sample_mapping"]
        names: list[list[tuple[int, int, Label]]] = [[] for _ in texts]
        for window, labels in _predict(tokenizer, model, encoded["input_ids"], self._persons):
            first = window == 0 or of_text[window - 1] != of_text[window]
            last = window + 1 == len(of_text) or of_text[window + 1] != of_text[window]
            special = encoded["special_tokens_mask"][window]
            tokens = [i for i, mark in enumerate(special) if not mark]
            kept = tokens[0 if first else overlap // 2 : None if last else len(tokens) - (overlap - overlap // 2)]
            offsets = encoded["offset_mapping"][window]
            names[of_text[window]] += [(*offsets[i], label) for i in kept if (label := labels.get(i)) is not None]
        return [_join(text, sorted(tokens)) for text, tokens in zip(texts, names, strict=True)]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForTokenClassification, AutoTokenizer
            from transformers.utils import logging

            logging.disable_progress_bar()
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model, report = AutoModelForTokenClassification.from_pretrained(
                    self.folder, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
            except Exception as error:  # a folder may be wrong in any way
                raise BrogueError(f"model '{self.name}' cannot be loaded ({one_line(error, 160)})") from error
            if report["missing_keys"]:
                raise BrogueError(f"model '{self.name}' lacks weights: {one_line(sorted(report['missing_keys']), 120)}")
            size = min(tokenizer.model_max_length, self._positions)
            if not tokenizer.is_fast or size < MIN_WINDOW:
                raise BrogueError(
                    f"model '{self.name}' needs a fast tokenizer (tokenizer.json) and windows of {MIN_WINDOW} tokens "
                    f"or more; it has {'one' if tokenizer.is_fast else 'none'}, and {size} tokens; name another one"
                )
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._loaded = tokenizer, model.to(device).eval()
        return self._loaded


def _predict(
    tokenizer: Any, model: Any, windows: list[list[int]], persons: dict[int, Label]
) -> Iterator[tuple[int, dict[int, Label]]]:
    """For each window, which of its tokens belong to a name: all labels of persons together are likelier than the
    others. Windows of like length go together, so that little is padded."""
    import torch

    budget = _GPU_BATCH_TOKENS if model.device.type == "cuda" else _BATCH_TOKENS
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
    ours = sorted(persons)
    while order:
        size = max(1, budget // max(1, len(windows[order[0]])))
        batch, order = order[:size], order[size:]
        inputs = tokenizer.pad({"input_ids": [windows[i] for i in batch]}, padding_side="right", return_tensors="pt")
        with torch.inference_mode():
            logits = model(**{key: value.to(model.device) for key, value in inputs.items()}).logits.float()
        likely = logits.softmax(dim=-1)[..., ours]
        is_name, best = (likely.sum(dim=-1) >= 0.5).cpu(), likely.argmax(dim=-1).cpu()
        for row, window in enumerate(batch):
            tokens = is_name[row, : len(windows[window])].nonzero().flatten().tolist()
            yield window, {token: persons[ours[int(best[row, token])]] for token in tokens}


def _join(text: str, tokens: list[tuple[int, int, Label]]) -> Spans:
    """Names of the tokens that are part of one: whole words, without blanks and signs at their ends."""
    names: Spans = []
    before: Label | None = None
    for token_start, token_end, label in tokens:
        start, end = token_start, token_end
        while start > 0 and _LETTER.match(text[start - 1]) and _LETTER.match(text[start]):
            start -= 1
        while end < len(text) and _LETTER.match(text[end]) and _LETTER.match(text[end - 1]):
            end += 1
        while start < end and not text[start].isalnum():
            start += 1
        while end > start and not text[end - 1].isalnum():
            end -= 1
        if start == end:
            continue
        again = label.starts and before is not None and before.sort == label.sort
        if names and start < names[-1][1]:  # another part of the same word
            names[-1] = names[-1][0], max(end, names[-1][1])
        elif names and not again and re.fullmatch(r"[\s'’.-]{0,2}", text[names[-1][1] : start]):
            names[-1] = names[-1][0], end
        else:
            names.append((start, end))
        before = label
    return names


def _person_labels(name: str, config: dict[str, Any]) -> dict[int, Label]:
    """The labels that stand for a person's name, by their number."""
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if not any(kind.endswith("ForTokenClassification") for kind in kinds):
        found = ", ".join(kinds) or "no architecture"
        raise BrogueError(f"--names wants a token-classification model; the config of '{name}' says {found}")
    labels = {int(number): str(label) for number, label in (config.get("id2label") or {}).items()}
    persons: dict[int, Label] = {}
    for number, label in labels.items():
        tag = _TAG.fullmatch(label)
        if tag and (sort := re.sub(r"[\W_]", "", tag[2]).casefold()) in _PERSON:
            persons[number] = Label((tag[1] or "").upper() in tuple(_STARTS), sort)
    if not persons:
        found = one_line(", ".join(labels.values()) or "none", 120)
        raise BrogueError(f"model '{name}' has no label for a person, such as PER or B-PERSON; its labels: {found}")
    return persons


def _config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrogueError(f"model '{name}' has no config.json that can be read ({one_line(error, 120)})") from error
    if not isinstance(config, dict):
        raise BrogueError(f"model '{name}': wanted an object in config.json, found {type(config).__name__}")
    return config


def _hash_weights(name: str, folder: Path) -> str:
    """The sha256 over the weights, the tokenizer and the labels: all that decides what is found."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BrogueError(f"model '{name}' has no weights as *.safetensors in {folder}; name another one")
    digest = hashlib.sha256()
    for path in (*weights, folder / "tokenizer.json", folder / "config.json"):
        if path.exists():
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
