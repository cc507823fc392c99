"""What a record becomes in a file: our own columns, OpenAI's chat and DPO lines, the columns of TRL's trainers.

A ranking of k answers becomes every two of them that are not tied, and each of these pairs weighs 2/k, so that the
ranking weighs as much as k - 1 comparisons. Shapes: TRL, docs/source/dataset_formats.md; OpenAI, fine-tuning guide.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from data.errors import BrogueError
from data.records import (
    KINDS,
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    Kind,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
)

Fields = dict[str, Any]
Shape = Callable[[AnyRecord], Iterator[Fields]]


def _messages(messages: tuple[Message, ...]) -> list[Fields]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _said(text: str) -> list[Fields]:
    return [{"role": "assistant", "content": text}]


def _own(record: AnyRecord) -> Iterator[Fields]:
    """Our own fields, under the names that an import knows."""
    if isinstance(record, LabelledRecord):
        fields = {"tokens": list(record.tokens), "tags": list(record.tags or ())} if record.tokens else None
        yield fields or {"text": record.text, "label": record.label}
    elif isinstance(record, InstructionRecord):
        yield {"prompt": record.prompt, "response": record.response, "system": record.system}
    else:
        yield record.model_dump(mode="json", exclude={"kind"})


def _pair_cells(record: AnyRecord) -> Iterator[Fields]:
    """A preference in a table: only one question, and a system message, have a cell."""
    assert isinstance(record, PreferenceRecord)
    *system, question = record.messages
    if len(system) > 1 or (system and system[0].role != "system"):
        raise BrogueError("a conversation of several turns has no place in a table's cell; use --format jsonl")
    yield {"prompt": question.content, "system": system[0].content if system else None, "chosen": record.chosen,
           "rejected": record.rejected, "tie": "1" if record.tie else None}  # fmt: skip


def _table(record: AnyRecord) -> Iterator[Fields]:
    if isinstance(record, LabelledRecord) and record.tokens:
        raise BrogueError("tokens and their tags have no place in a table's cell; use --format conll, jsonl or parquet")
    return _own(record)


def _conll(record: AnyRecord) -> Iterator[Fields]:
    if not isinstance(record, LabelledRecord) or not record.tokens:
        raise BrogueError("CoNLL holds tokens and their tags; these records hold a text and its label: use csv")
    for token in (*record.tokens, *(record.tags or ())):
        if len(token.split()) != 1 or token != token.strip():
            raise BrogueError(f"the token or tag '{token}' holds a blank, which CoNLL cannot; use --format jsonl")
    return _own(record)


def _conversation(record: AnyRecord) -> Iterator[Fields]:
    assert isinstance(record, ChatRecord | InstructionRecord)
    yield {"messages": _messages(record.messages)}


def _prompt_completion(record: AnyRecord) -> Iterator[Fields]:
    assert isinstance(record, InstructionRecord)
    *before, last = _messages(record.messages)
    yield {"prompt": before, "completion": [last]}


def pairs(record: AnyRecord) -> Iterator[tuple[list[Fields], str, str]]:
    """(conversation, better answer, worse answer); of a ranking every two answers of unequal rank."""
    if isinstance(record, PreferenceRecord):
        if not record.tie:
            yield _messages(record.messages), record.chosen, record.rejected
    elif isinstance(record, RankingRecord):
        before = _messages(record.messages)
        ranked = sorted(zip(record.ranks, record.replies, strict=True), key=lambda one: one[0])
        for (best, better), (worst, worse) in combinations(ranked, 2):
            if best < worst and better != worse:
                yield before, better, worse


def pair_weight(record: AnyRecord) -> float:
    """What each of a record's `pairs` weighs, times the row's own weight."""
    return 2 / len(record.replies) if isinstance(record, RankingRecord) else 1.0


def _openai_dpo(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in pairs(record):
        yield {"input": {"messages": before}, "preferred_output": _said(better), "non_preferred_output": _said(worse)}


def _trl_dpo(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in pairs(record):
        yield {"prompt": before, "chosen": _said(better), "rejected": _said(worse)}


def _trl_reward(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in pairs(record):
        yield {"chosen": before + _said(better), "rejected": before + _said(worse)}


def _trl_kto(record: AnyRecord) -> Iterator[Fields]:
    assert isinstance(record, RatedRecord)
    *before, last = _messages(record.messages)
    yield {"prompt": before, "completion": [last], "label": record.good}


_ALL: dict[Kind, Shape] = dict.fromkeys(KINDS, _own)
SHAPES: dict[str, dict[Kind, Shape]] = {
    "jsonl": _ALL,
    "csv": {"chat": _table, "instruction": _table, "labelled": _table, "preference": _pair_cells},
    "parquet": _ALL,
    "conll": {"labelled": _conll},
    "openai": {"chat": _conversation, "instruction": _conversation, "preference": _openai_dpo, "ranking": _openai_dpo},
    "trl-sft": {"chat": _conversation, "instruction": _prompt_completion},
    "trl-dpo": {"preference": _trl_dpo, "ranking": _trl_dpo},
    "trl-kto": {"rated": _trl_kto},
    "trl-reward": {"preference": _trl_reward, "ranking": _trl_reward},
}
