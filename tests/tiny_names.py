"""A tiny model that finds made-up names by how a sentence goes, trained in seconds, and sentences to measure it."""

import random
from pathlib import Path
from typing import Any, NamedTuple

LABELS = ("O", "B-PER", "I-PER", "B-LOC")
GIVEN = ("Anna", "Bela", "Carlo", "Dora", "Emil", "Fritz", "Greta", "Hugo", "Ines", "Jan", "Klara", "Leo")
STEMS = ("Kal", "Ber", "Lind", "Stor", "Wal", "Fer", "Gar", "Hol", "Mar", "Nor", "Pel", "Rom", "Sund", "Tor", "Vin")
OF_PEOPLE, OF_PLACES = ("##sen", "##mann", "##ini", "##ova", "##kin"), ("##stadt", "##ville", "##ford", "##burg")
# {p}: a person's name; {l}: a place, which begins as a surname does.
PATTERNS = (
    "my name is {p} .", "please call {p} about it .", "this is {p} from {l} .", "i live in {l} now .",
    "thank you , {p} !", "{p} has sent the parcel to {l} .", "where is the order of {p} ?", "{p} and {p} wait in {l} .",
    "the parcel went to {l} .", "can you help me ?", "i want my money back .", "the shop in {l} is closed .",
)  # fmt: skip


class Sentence(NamedTuple):
    """A sentence and the names of people in it, in order."""

    text: str
    names: list[str]


def sentences(count: int, seed: int) -> list[Sentence]:
    """Made sentences; another seed has others."""
    return [Sentence(text, names) for text, names, _ in _made(count, seed)]


def _made(count: int, seed: int) -> list[tuple[str, list[str], list[tuple[str, str]]]]:
    """Sentences with their names, and with each word's label."""
    chance = random.Random(seed)

    def word(ends: tuple[str, ...]) -> str:
        return chance.choice(STEMS) + chance.choice(ends).strip("#")

    made = []
    for _ in range(count):
        names: list[str] = []
        tagged: list[tuple[str, str]] = []
        for piece in chance.choice(PATTERNS).split():
            if piece == "{p}":
                parts = [chance.choice(GIVEN), word(OF_PEOPLE)][: chance.choice((1, 2, 2))]
                names.append(" ".join(parts))
                tagged += [(part, "B-PER" if i == 0 else "I-PER") for i, part in enumerate(parts)]
            else:
                tagged.append((word(OF_PLACES), "B-LOC") if piece == "{l}" else (piece, "O"))
        made.append((" ".join(text for text, _ in tagged), names, tagged))
    return made


def train_name_model(folder: Path, steps: int = 120, labels: tuple[str, ...] = LABELS) -> Path:
    """A BERT of two layers with windows of 40 tokens in `folder`."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    tokenizer = _tokenizer(folder)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, max_position_embeddings=42, num_labels=len(labels),
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, id2label=dict(enumerate(labels)),
                        label2id={label: i for i, label in enumerate(labels)})  # fmt: skip
    model = BertForTokenClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # Several sentences in a row, so that every place of the window is learnt.
    made = [sum((tagged for _, _, tagged in _made(3, seed)), start=[]) for seed in range(16 * steps)]  # type: ignore[var-annotated]
    for step in range(steps):
        batch = made[16 * step : 16 * step + 16]
        encoded = tokenizer([[word for word, _ in tagged] for tagged in batch], is_split_into_words=True,
                            truncation=True, max_length=40, padding=True, return_tensors="pt")  # fmt: skip
        wanted = torch.full_like(encoded["input_ids"], -100)
        for row, tagged in enumerate(batch):
            for place, number in enumerate(encoded.word_ids(row)):
                if number is not None:
                    wanted[row, place] = LABELS.index(tagged[number][1])
        model(**encoded, labels=wanted).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def _tokenizer(folder: Path) -> Any:
    """Ordinary words are one token; a surname or a place is two."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ordinary = sorted({word for pattern in PATTERNS for word in pattern.split() if "{" not in word})
    pieces = [*GIVEN, *STEMS, *OF_PEOPLE, *OF_PLACES]
    vocabulary = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *ordinary, *pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                                   cls_token="[CLS]", sep_token="[SEP]")  # fmt: skip
    fast.save_pretrained(folder)
    return fast
