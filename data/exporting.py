"""A dataset as a file for other tools, or for an import elsewhere: row by row, whole or not at all.

`SHAPES` says what a record becomes: our own columns (`jsonl`, `csv`, `parquet`, `conll`), OpenAI's chat and DPO lines,
the columns of TRL's trainers. Where records of a kind have no place in a shape, it is refused; ties have none among
pairs and are counted. Shapes: TRL, docs/source/dataset_formats.md; OpenAI, fine-tuning guide.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from data.dataset import DatasetCard, Row, iter_rows, load_card
from data.errors import BrogueError, DataError
from data.exporting_files import FILES
from data.home import Home
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    Kind,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    Split,
    assign_split,
    position,
    split_at,
)

Fields = dict[str, Any]
Shape = Callable[[AnyRecord], Iterator[Fields]]
_TABLES = ("jsonl", "csv", "parquet")
_BOOKS = ("split", "group", "subject", "synthetic_of")  # what our own columns say of a row beside its record


class Exported(NamedTuple):
    """What was written."""

    lines: int
    left_out: int  # records without a line, such as ties among pairs
    synthetic: int  # of the records, those that a model made
    resplit: int  # records that an import of it would put into another split; 0: it gives the same splits
    books: tuple[str, ...]  # columns beside the record: split, group, subject, synthetic_of


def export(home: Home, name: str, to: Path, format: str, split: Split | None, replace: bool,
           on_progress: Callable[[int], None] = lambda _: None) -> Exported:  # fmt: skip
    """Write dataset `name`, or one split of it, to the file `to`; TRL's and OpenAI's columns go into Parquet too."""
    card = load_card(home, name)
    shape = _shape(card, format)
    written_as = format if format in FILES else "parquet" if to.suffix == ".parquet" else "jsonl"
    with whole_file(to, replace) as temporary:
        rows = (row for row in iter_rows(home, name) if split is None or row.split == split)
        maker = _Maker(shape, card, _books(home, card, split) if format in _TABLES else ())
        FILES[written_as](temporary, maker.lines(rows, on_progress))
        if not maker.written:
            raise DataError(_nothing(card, format, split, maker.left_out))
    return Exported(maker.written, maker.left_out, maker.synthetic, maker.resplit, maker.books)


def guess_format(to: Path) -> str:
    """The format that a file's name tells."""
    suffix = to.suffix.removeprefix(".").lower()
    if suffix not in FILES:
        raise BrogueError(f"'{to}' does not tell how to write it; end it in .{', .'.join(FILES)}, or add --format")
    return suffix


class _Maker:
    """Rows into lines, counted."""

    def __init__(self, shape: Shape, card: DatasetCard, books: tuple[str, ...]) -> None:
        self._shape, self._shares, self.books = shape, card.shares, books
        self.written = self.left_out = self.synthetic = self.resplit = 0

    def lines(self, rows: Iterator[Row], on_progress: Callable[[int], None]) -> Iterator[Fields]:
        for number, row in enumerate(rows, 1):
            before = self.written
            for fields in self._shape(row.record):
                self.written += 1
                yield fields | {name: getattr(row, name) for name in self.books}
            self.left_out += before == self.written
            self.synthetic += row.synthetic_of is not None
            self.resplit += self._again(row) != row.split
            if number % 10_000 == 0:
                on_progress(number)

    def _again(self, row: Row) -> Split | None:
        """The split that an import of what is written gives the row."""
        if self._shares is None:
            return None
        if row.group is not None and "group" in self.books:
            return split_at(position(row.group), self._shares)
        return assign_split(row.record, self._shares)


def _books(home: Home, card: DatasetCard, split: Split | None) -> tuple[str, ...]:
    """The columns beside the record that any row has something in."""
    wanted = [name for name in _BOOKS if name != "split"]
    found = {name for row in iter_rows(home, card.name) for name in wanted if getattr(row, name) is not None}
    return tuple(name for name in _BOOKS if name in found or (name == "split" and split is None))


def _nothing(card: DatasetCard, format: str, split: Split | None, left_out: int) -> str:
    where = f"the {split} split of '{card.name}'" if split else f"dataset '{card.name}'"
    why = "holds only ties" if left_out else "is empty"
    return f"{where} {why}, so there is nothing to write as {format}"


@contextmanager
def whole_file(to: Path, replace: bool) -> Iterator[Path]:
    """A file beside `to` that takes its place when the block succeeds, and vanishes otherwise."""
    if to.is_dir():
        raise BrogueError(f"{to} is a folder; name a file in it")
    if to.exists() and not replace:
        raise BrogueError(f"{to} exists already; choose another name or add --replace")
    if not to.parent.is_dir():
        raise BrogueError(f"no folder {to.parent}; make it first: mkdir -p {to.parent}")
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(to)
    except OSError as error:
        raise BrogueError(f"cannot write {to} ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _shape(card: DatasetCard, format: str) -> Shape:
    if format not in SHAPES:
        raise BrogueError(f"no format '{format}'; have: {', '.join(SHAPES)}")
    found = SHAPES[format].get(card.kind)
    if found is None:
        fitting = [name for name, kinds in SHAPES.items() if card.kind in kinds]
        raise BrogueError(
            f"'{format}' takes {' or '.join(SHAPES[format])} records, and '{card.name}' holds {card.kind} records; "
            f"for these there is --format {', '.join(fitting)}"
        )
    return found


def _messages(messages: tuple[Message, ...]) -> list[Fields]:
    return [message.model_dump() for message in messages]


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


def _pairs(record: AnyRecord) -> Iterator[tuple[list[Fields], str, str]]:
    """(conversation, better answer, worse answer); of a ranking every two answers of unequal rank."""
    if isinstance(record, PreferenceRecord):
        if not record.tie:
            yield _messages(record.messages), record.chosen, record.rejected
    elif isinstance(record, RankingRecord):
        ranked = sorted(zip(record.ranks, record.replies, strict=True), key=lambda one: one[0])
        for (best, better), (worst, worse) in combinations(ranked, 2):
            if best < worst and better != worse:
                yield _messages(record.messages), better, worse


def _openai_dpo(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in _pairs(record):
        yield {"input": {"messages": before}, "preferred_output": _said(better), "non_preferred_output": _said(worse)}


def _trl_dpo(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in _pairs(record):
        yield {"prompt": before, "chosen": _said(better), "rejected": _said(worse)}


def _trl_reward(record: AnyRecord) -> Iterator[Fields]:
    for before, better, worse in _pairs(record):
        yield {"chosen": before + _said(better), "rejected": before + _said(worse)}


_ALL: dict[Kind, Shape] = dict.fromkeys(("chat", "instruction", "labelled", "preference", "ranking"), _own)
SHAPES: dict[str, dict[Kind, Shape]] = {
    "jsonl": _ALL,
    "csv": {"chat": _table, "instruction": _table, "labelled": _table, "preference": _pair_cells},
    "parquet": _ALL,
    "conll": {"labelled": _conll},
    "openai": {"chat": _conversation, "instruction": _conversation, "preference": _openai_dpo, "ranking": _openai_dpo},
    "trl-sft": {"chat": _conversation, "instruction": _prompt_completion},
    "trl-dpo": {"preference": _trl_dpo, "ranking": _trl_dpo},
    "trl-reward": {"preference": _trl_reward, "ranking": _trl_reward},
}
