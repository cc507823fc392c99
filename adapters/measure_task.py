"""Measure `task`: does a version give the answers that its held-out records want?

Labels and tags: adapters/measure_task_labels.py. Answers in words (chat, instruction) are compared with the records'
own: exact match and token-F1 as SQuAD reckons them (Rajpurkar 2016), ROUGE-L (Lin 2004; rouge-score), chrF (Popović
2015) and BLEU (Papineni 2002) of the whole (sacrebleu), and how likely the version finds the record's answer; JSON
objects field by field (adapters/measure_task_fields.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.exam_types import Arm, Item, Messages, Part, Parts, Room, Scores, mean
from adapters.measure_data import means
from adapters.measure_pieces import AskOptions, held_out, item, messages, options, sums
from adapters.measure_task_fields import field_scores
from adapters.measure_task_labels import LabelOptions, label_scores
from data.dataset import Row
from data.errors import DataError
from data.records import ChatRecord, InstructionRecord, LabelledRecord, answer

# Words of letters and digits; of scripts that put no blanks between words, single characters.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")


class TextOptions(AskOptions):
    """Options for answers in words."""

    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"  # sacrebleu's; zh for Chinese, char for others
    perplexity: bool = True  # also ask how likely the records' answers are


def measure(room: Room, part: Part) -> list[Scores]:
    """The figures that fit the records' kind. Raises `BrogueError` where the kind has no right answer."""
    rows = held_out(room, part)
    first = rows[0].record
    if isinstance(first, LabelledRecord):
        return label_scores(room, part, rows, options(part, LabelOptions))
    if isinstance(first, ChatRecord | InstructionRecord):
        return text_scores(room, part, rows, options(part, TextOptions))
    raise DataError(
        f"'{part.prefix}' wants labelled, instruction or chat records; {part.data} holds {first.kind} ones. "
        "Their measure is: preference"
    )


def text_scores(room: Room, part: Part, rows: Sequence[Row], chosen: TextOptions) -> list[Scores]:
    """Figures of answers in words."""
    asked, wanted = [messages(row.record) for row in rows], [answer(row.record) for row in rows]
    given = {arm: [a.text for a in room.answers(arm, asked, **chosen.sampling)] for arm in room.arms}
    items = [
        item(row, prompt, {arm: texts[n] for arm, texts in given.items()})
        for n, (row, prompt) in enumerate(zip(rows, asked, strict=True))
    ]
    found = [_each(part, name, score, given, wanted, items) for name, score in (
        ("exact_match", exact_match), ("token_f1", token_f1), ("rouge_l", rouge_l()),
    )]  # fmt: skip
    found += field_scores(part, given, wanted, items)
    found += corpus_scores(part, given, wanted, items, chosen.bleu_tokenize)
    return found + (_likelihood(room, part, asked, wanted, items) if chosen.perplexity else [])


def _each(part: Part, name: str, score: Callable[[str, str], float], given: dict[Arm, list[str]],
          wanted: Sequence[str], items: Sequence[Item]) -> Scores:  # fmt: skip
    scores = {arm: [score(*pair) for pair in zip(texts, wanted, strict=True)] for arm, texts in given.items()}
    return means(f"{part.prefix}.{name}", "higher", items, scores)


def words(text: str) -> list[str]:
    """The text's words in small letters, without punctuation. Of ASCII texts, those that rouge-score makes."""
    return _WORD.findall(text.lower())


def exact_match(given: str, wanted: str) -> float:
    """1 if the words are the same; of texts without words, if the texts are."""
    mine, theirs = words(given), words(wanted)
    return float(mine == theirs if mine or theirs else given.strip() == wanted.strip())


def token_f1(given: str, wanted: str) -> float:
    """Harmonic mean of the shares of words that both have (bags of words); without words, exact match."""
    mine, theirs = Counter(words(given)), Counter(words(wanted))
    if not mine or not theirs:
        return exact_match(given, wanted)
    return 2 * (mine & theirs).total() / (mine.total() + theirs.total())


class _Words:
    """`words` as rouge-score calls it."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge_l() -> Callable[[str, str], float]:
    """A function that gives an answer's ROUGE-L (F1 of the longest common subsequence of words)."""
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())  # its own knows no letters but a to z
    return lambda given, wanted: float(scorer.score(wanted, given)["rougeL"].fmeasure)


def corpus_scores(part: Part, given: dict[Arm, list[str]], wanted: Sequence[str], items: Sequence[Item],
                  tokenize: str) -> list[Scores]:  # fmt: skip
    """chrF and BLEU of the whole, 0 to 100: sacrebleu's counts are the parts, so that they can be resampled."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return [
        Scores(
            f"{part.prefix}.{name}", "points", "higher",
            {arm: _statistics(metric, texts, wanted) for arm, texts in given.items()}, items, _corpus_value(metric),
        )
        for name, metric in (("chrf", CHRF()), ("bleu", BLEU(tokenize=tokenize, force=True)))
    ]  # fmt: skip


def _statistics(metric: Any, given: Sequence[str], wanted: Sequence[str]) -> Parts:
    found: Parts = np.array(metric._extract_corpus_statistics(given, [list(wanted)]), dtype=np.float64)
    return found


def _corpus_value(metric: Any) -> Callable[[Parts], NDArray[np.float64]]:
    def value(rows: Parts) -> NDArray[np.float64]:
        return np.array([metric._compute_score_from_stats(row.tolist()).score for row in rows])

    return value


def perplexity(rows: Parts) -> NDArray[np.float64]:
    """exp of the nats per token."""
    found: NDArray[np.float64] = np.exp(mean(rows))
    return found


def _likelihood(room: Room, part: Part, asked: Sequence[Messages], wanted: Sequence[str],
                items: Sequence[Item]) -> list[Scores]:  # fmt: skip
    """How likely the records' own answers are: nats per token over all of them, and its exp."""
    parts: dict[Arm, Parts] = {}
    for arm in room.arms:
        tokens = room.likelihoods(arm, asked, wanted)
        parts[arm] = np.array([[-nats, len(one)] for nats, one in zip(sums(tokens), tokens, strict=True)])
        if not parts[arm][:, 1].any():
            room.say(f"'{part.prefix}' is without perplexity: no question leaves room for an answer in the context")
            return []
    silent = [one._replace(answers={}) for one in items]  # which prompts moved is told by the loss already
    return [
        Scores(f"{part.prefix}.loss", "nats", "lower", parts, items, note="per token of the records' own answers"),
        Scores(f"{part.prefix}.perplexity", "points", "lower", parts, silent, perplexity),
    ]
