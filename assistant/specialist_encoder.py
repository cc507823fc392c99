"""A specialist that is the embedding model itself, tuned to the labels of texts or the tags of words.

A head is first learnt on the model's vectors as they are, then all layers together: so the tuning begins where the
plain head ends and does not tear up what the model knows (Kumar et al. 2022, "Fine-tuning can distort pretrained
features"). The words' own embeddings stay as they are. What is kept are the layers that were tuned, in half precision.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.threads import share_processor
from assistant.embeddings import local_model
from assistant.embeddings_models import multiplies_bfloat16
from assistant.specialist_labels import label_judge
from assistant.specialist_logistic import choose
from assistant.specialist_tags import best_shift, decoded, judges_names, tag_judge
from assistant.specialist_types import Answerer, Floats, Learned, Lesson, Tools, asked, tagged, targets, words_of
from data.errors import DataError, one_line
from data.settings import load_settings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_BATCH = 32
_SEEN = 15_000  # examples that are to be seen
_PASSES = (3, 10)  # at least, at most; more where that would be fewer steps than _STEPS
_STEPS, _LOOK = 100, 20  # steps at least; steps between two looks at the validation records
_PATIENCE = 3  # looks without a gain, then it ends
_RATE, _HEAD_RATE, _WARM_UP = 1e-4, 1e-3, 0.1  # peaks of AdamW; the first tenth of the steps warms up
_JUDGED = 400  # validation records that decide which pass was best
_MOST = 150_000_000  # numbers to be tuned without a GPU; more would take hours
_NEVER = -20.0  # a label without a training row begins here
Inputs = Sequence[Any]  # texts, or lists of words


class Net(NamedTuple):
    """The embedding model and a head on it."""

    model: "SentenceTransformer"
    head: Any  # torch.nn.Linear
    by_word: bool

    def logits(self, batch: Inputs) -> "tuple[Tensor, list[list[int]]]":
        """[texts or words, labels]; and of each text which words it could read, in that order."""
        if not self.by_word:
            moved = {k: v.to(self.model.device) if hasattr(v, "to") else v for k, v in self._read(batch).items()}
            return self.head(self.model(moved)["sentence_embedding"]), [[] for _ in batch]
        limit = self.model.max_seq_length or 512
        read = self.model.tokenizer([list(words) for words in batch], is_split_into_words=True, truncation=True,
                                    max_length=limit, padding=True, return_tensors="pt")  # fmt: skip
        hidden = self.model[0]({k: v.to(self.model.device) for k, v in read.items()})["token_embeddings"]
        rows, places, words = [], [], []
        for row in range(len(batch)):
            ids = read.word_ids(row)
            first = {word: at for at, word in reversed(list(enumerate(ids))) if word is not None}
            words.append(sorted(first))
            rows += [row] * len(first)
            places += [first[word] for word in sorted(first)]
        return self.head(hidden[rows, places]), words

    def _read(self, batch: Inputs) -> dict[str, Any]:
        return dict(self.model.preprocess(list(batch)))

    def log_shares(self, inputs: Inputs) -> list[Floats]:
        """Log-probabilities: of each text [1, labels], or [words, labels]; a word that was cut off is nothing."""
        import torch

        found: list[Floats] = []
        self.model.eval()
        for start in range(0, len(inputs), _BATCH):
            batch = inputs[start : start + _BATCH]
            with torch.inference_mode():
                logits, words = self.logits(batch)
                shares = logits.float().log_softmax(-1).cpu().numpy()
            found += list(self._by_text(batch, shares, words))
        return found

    def _by_text(self, batch: Inputs, shares: Floats, words: list[list[int]]) -> Iterator[Floats]:
        done = 0
        for given, read in zip(batch, words, strict=True):
            count = len(read) if self.by_word else 1
            rows: Floats = np.zeros((len(given) if self.by_word else 1, shares.shape[1]), np.float32)
            rows[read if self.by_word else [0]] = shares[done : done + count]
            done += count
            yield rows


def learn(lesson: Lesson) -> Learned:
    """Tune the embedding model; the best pass over the records, by the validation records, is kept."""
    share_processor(serving=False)
    import torch

    labels, by_word = lesson.labels, lesson.task.kind == "tags"
    number = {label: n for n, label in enumerate(labels)}
    torch.manual_seed(0)
    net = _open(lesson.tools, len(labels), by_word)
    tuned = _tunable(net)
    wanted = [[number[label] for label in targets(row)] for row in lesson.train]
    inputs = [words_of(row) if by_word else asked(row) for row in lesson.train]
    if not by_word:
        _begin(net, lesson, inputs, [one[0] for one in wanted])
    held_out = lesson.validation[:_JUDGED]
    best = _Best(net, tuned, lesson, held_out)
    each = -(-len(inputs) // _BATCH)  # steps of a pass
    passes = max(min(_PASSES[1], max(_PASSES[0], round(_SEEN / len(inputs)))), -(-_STEPS // each))
    taught = [(given, right, row.weight) for given, right, row in zip(inputs, wanted, lesson.train, strict=True)]
    for done in _passes(net, tuned, taught, passes, lesson.tools):
        if (done * each % _LOOK < each or done == passes) and best.after(done):
            break
    arrays = {name: value.astype(np.float16) for name, value in best.kept.items()}
    facts = {"labels": labels, "by_word": by_word, "shift": best.shift}
    metric = "entity_f1" if by_word and judges_names(labels) else "accuracy" if by_word else ""
    return Learned(arrays, facts, best.score, (f"best after {best.at} of {passes} passes",), metric=metric)


def open_encoder(learned: Learned, tools: Tools) -> Answerer:
    """Labels of texts, or each word of a text with its tag."""
    import torch

    facts = learned.facts
    net = _open(tools, len(facts["labels"]), facts["by_word"])
    known = _parameters(net)
    with torch.no_grad():
        for name, array in learned.arrays.items():
            known[name].copy_(torch.from_numpy(array.astype(np.float32)))

    def answers(texts: Sequence[str]) -> list[str]:
        if not facts["by_word"]:
            return [facts["labels"][int(one[0].argmax())] for one in net.log_shares(texts)]
        split = [text.split() for text in texts]
        found = [decoded(facts["labels"], one, facts["shift"]) for one in net.log_shares(split)]
        return [tagged(words, tags) for words, tags in zip(split, found, strict=True)]

    return answers


class _Best:
    """The weights that were best on the validation records so far; without such records, the last ones."""

    def __init__(self, net: Net, tuned: dict[str, Any], lesson: Lesson, held_out: Sequence[Any]) -> None:
        self._net, self._tuned, self._lesson = net, tuned, lesson
        self._inputs = [words_of(row) if net.by_word else asked(row) for row in held_out]
        self._wanted = [targets(row) for row in held_out]
        self.at, self.shift = 0, 0.0
        self.score: float | None = None
        self.kept: dict[str, NDArray[Any]] = {}
        self._without_gain = 0
        self.after(0)

    def after(self, passes: int) -> bool:
        """Look at the weights after so many passes; whether several looks in a row have shown no gain."""
        score, shift = self._judge() if self._inputs else (None, 0.0)
        self._without_gain += 1
        if score is None or self.score is None or score > self.score:
            self.at, self.score, self.shift, self._without_gain = passes, score, shift, 0
            self.kept = {name: value.detach().float().cpu().numpy().copy() for name, value in self._tuned.items()}
        return self._without_gain >= _PATIENCE

    def _judge(self) -> tuple[float, float]:
        shares, labels = self._net.log_shares(self._inputs), self._lesson.labels
        if self._net.by_word:
            shift, score = best_shift(labels, shares, tag_judge(self._wanted))
            return score, shift
        said = [labels[int(one[0].argmax())] for one in shares]
        return label_judge(self._lesson.task.metric)([one[0] for one in self._wanted], said), 0.0


def _passes(net: Net, tuned: dict[str, Any], taught: list[tuple[Any, list[int], float]], passes: int,
            tools: Tools) -> Iterator[int]:  # fmt: skip
    """Train; yields after each pass over the examples. The rate warms up and then falls to zero in a line."""
    import torch

    steps = passes * -(-len(taught) // _BATCH)
    head = [value for name, value in tuned.items() if name.startswith("head.")]
    body = [value for name, value in tuned.items() if not name.startswith("head.")]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": _RATE}, {"params": head, "lr": _HEAD_RATE}], weight_decay=0.01
    )
    warm = max(1, round(_WARM_UP * steps))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    chance, done = random.Random(0), 0
    for one in range(1, passes + 1):
        net.model.train()
        order = chance.sample(taught, len(taught))
        for start in range(0, len(order), _BATCH):
            _step(net, order[start : start + _BATCH], optimizer, list(tuned.values()))
            rate.step()
            done += 1
            if done % 10 == 0:
                tools.tell(f"tuning the embedding model, step {done} of {steps}")
        yield one


def _step(net: Net, batch: Sequence[tuple[Any, list[int], float]], optimizer: Any, tuned: list[Any]) -> None:
    import torch

    device = net.model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or multiplies_bfloat16()):
        logits, words = net.logits([given for given, _, _ in batch])
    right = [right[word] for (_, right, _), some in zip(batch, words, strict=True) for word in (some or [0])]
    weight = [weight for (_, _, weight), some in zip(batch, words, strict=True) for _ in (some or [0])]
    losses = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(right, device=device), reduction="none")
    shares = torch.tensor(weight, device=device)
    ((losses * shares).sum() / shares.sum()).backward()
    torch.nn.utils.clip_grad_norm_(tuned, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _open(tools: Tools, labels: int, by_word: bool) -> Net:
    """The home's embedding model in float32 with a head that gives all labels alike."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    settings = load_settings(tools.home.settings_file).knowledge
    if settings.embedding_url:
        raise DataError(
            f"'encoder' tunes the embedding model, but it is behind {settings.embedding_url}; "
            "name a folder or a hub id as knowledge.embedding_model"
        )
    _, folder = local_model(settings, tools.home, tools.tell)
    try:
        model = SentenceTransformer(str(folder), model_kwargs={"dtype": torch.float32}, local_files_only=True)
    except Exception as error:  # a folder may be wrong in any way
        raise DataError(f"embedding model {folder} cannot be loaded ({one_line(error, 160)})") from error
    if by_word and not getattr(model.tokenizer, "is_fast", False):
        raise DataError(f"'encoder' tags words only with a fast tokenizer (tokenizer.json); {folder} has none")
    width = model[0].get_embedding_dimension() if by_word else model.get_embedding_dimension()
    head = torch.nn.Linear(width or 1, labels).to(model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return Net(model, head, by_word)


def _parameters(net: Net) -> dict[str, Any]:
    both = (("model.", net.model), ("head.", net.head))
    return {prefix + name: value for prefix, part in both for name, value in part.named_parameters()}


def _tunable(net: Net) -> dict[str, Any]:
    """All that is tuned: all but the words' own embeddings. Raises `DataError` where that is too much without a GPU."""
    for value in net.model[0].auto_model.get_input_embeddings().parameters():
        value.requires_grad_(False)
    found = {name: value for name, value in _parameters(net).items() if value.requires_grad}
    count = sum(value.numel() for value in found.values())
    if net.model.device.type == "cpu" and count > _MOST:
        raise DataError(f"'encoder' would tune {count / 1e6:.0f} million numbers; that takes a GPU, or a smaller model")
    return found


def _begin(net: Net, lesson: Lesson, inputs: Inputs, labels: Sequence[int]) -> None:
    """Set the head to what logistic regression learns from the model's vectors as they are."""
    import torch

    lesson.tools.tell(f"learning {len(lesson.labels)} labels from {len(inputs)} texts")
    vectors = net.model.encode(list(inputs), batch_size=_BATCH, show_progress_bar=False)
    linear = choose(vectors, labels, len(lesson.labels), [row.weight for row in lesson.train], None).linear
    with torch.no_grad():
        net.head.weight.copy_(torch.from_numpy(np.asarray(linear.weights, np.float32)))
        net.head.bias.copy_(torch.from_numpy(np.maximum(np.asarray(linear.bias, np.float32), _NEVER)))
