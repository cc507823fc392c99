"""Replaces personal data by placeholders: the same value has the same one everywhere in a dataset ([EMAIL_1]).

Names of people are found by a function that the caller hands in, since they need a model; a placeholder of theirs is
[NAME_1]. A given name alone is another value than the full name, and has a number of its own.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from data.dataset import Row
from data.personal import PERSONAL_KINDS, PersonalKind, find_personal, same_value
from data.records import AnyRecord, InstructionRecord, LabelledRecord, Message, RankingRecord, record_id

NOT_RECOGNISED = "names of people and places, postal addresses and dates of birth are not recognised"
NOT_RECOGNISED_WITH_NAMES = (
    "names of people are recognised where the model sees them: read some rows for what it missed; "
    "names of places, postal addresses and dates of birth are not recognised"
)
ReplacedKind = PersonalKind | Literal["NAME"]
FindNames = Callable[[Sequence[str]], Sequence[Sequence[tuple[int, int]]]]  # for each text, where names stand in it
Names = Mapping[str, Sequence[tuple[int, int]]]  # the same, by text
_PLACEHOLDER = re.compile(rf"\[({'|'.join(PERSONAL_KINDS)}|NAME)_(\d{{1,9}})\]")


_NAME_PIECE = re.compile(r"[^\W\d_]{2,}(?:[\s'’.-]{1,2}[^\W\d_]{2,})*")


class Redacted(NamedTuple):
    """What became of a dataset."""

    rows: list[Row]
    changed: list[tuple[Row, Row]]  # before, after
    counts: dict[str, int]  # findings by kind; rows changed; rows dropped since their two answers became the same


class Redactor:
    """Knows the placeholders of one dataset. Numbers go up in the order in which values are met."""

    def __init__(self, names: Names | None = None) -> None:
        self.counts: Counter[ReplacedKind] = Counter()
        self._names = names or {}
        self._numbers: dict[tuple[ReplacedKind, str], int] = {}
        self._last: Counter[str] = Counter()

    def reserve(self, text: str) -> None:
        """Keep clear of the placeholders that `text` holds already, from an earlier redaction."""
        for kind, number in _PLACEHOLDER.findall(text):
            self._last[kind] = max(self._last[kind], int(number))

    def text(self, text: str) -> str:
        """`text` with placeholders."""
        done, end = [], 0
        for kind, start, stop in self._find(text):
            done += [text[end:start], self._placeholder(kind, text[start:stop])]
            end = stop
        return "".join(done) + text[end:]

    def tokens(self, tokens: Sequence[str]) -> tuple[str, ...]:
        """As many tokens as before: each that belongs to a finding becomes its placeholder."""
        text, done, position = " ".join(tokens), [], 0
        spans = [(start, end, self._placeholder(kind, text[start:end])) for kind, start, end in self._find(text)]
        for token in tokens:
            end = position + len(token)
            hit = next((placeholder for start, stop, placeholder in spans if start < end and position < stop), token)
            done.append(hit)
            position = end + 1
        return tuple(done)

    def record(self, record: AnyRecord) -> AnyRecord:
        """`record` with placeholders in every text; labels, tags and ranks stay. Raises ValidationError if the answers
        of a preference became the same text."""
        new: dict[str, Any] = dict(record)
        if isinstance(record, LabelledRecord):
            new["text"] = None if record.text is None else self.text(record.text)
            new["tokens"] = None if record.tokens is None else self.tokens(record.tokens)
        elif isinstance(record, InstructionRecord):
            new |= {"prompt": self.text(record.prompt), "response": self.text(record.response)}
            new["system"] = None if record.system is None else self.text(record.system)
        else:
            new["messages"] = tuple(Message(role=m.role, content=self.text(m.content)) for m in record.messages)
            if isinstance(record, RankingRecord):
                new["replies"] = tuple(self.text(reply) for reply in record.replies)
            else:
                new |= {key: self.text(new[key]) for key in ("chosen", "rejected") if key in new}
        return type(record).model_validate(new)

    def _find(self, text: str) -> list[tuple[ReplacedKind, int, int]]:
        """What is personal in `text`, in its order: of a name what is left beside other findings and placeholders."""
        found: list[tuple[ReplacedKind, int, int]] = [*find_personal(text)]
        if text not in self._names:
            return found
        taken = bytearray(len(text))
        for start, end in [*((s, e) for _, s, e in found), *(m.span() for m in _PLACEHOLDER.finditer(text))]:
            taken[start:end] = b"\1" * (end - start)
        for start, end in self._names[text]:
            if not any(taken[start:end]):
                found.append(("NAME", start, end))
                continue
            rest = "".join(" " if taken[i] else text[i] for i in range(start, end))
            pieces = (m.span() for m in _NAME_PIECE.finditer(rest))
            found += [("NAME", start + begin, start + stop) for begin, stop in pieces]
        return sorted(found, key=lambda finding: finding[1])

    def _placeholder(self, kind: ReplacedKind, value: str) -> str:
        self.counts[kind] += 1
        key = kind, " ".join(value.casefold().split()) if kind == "NAME" else same_value(kind, value)
        if key not in self._numbers:
            self._last[kind] += 1
            self._numbers[key] = self._last[kind]
        return f"[{kind}_{self._numbers[key]}]"


def redact(rows: Sequence[Row], find_names: FindNames | None = None) -> Redacted:
    """All rows with placeholders. A row keeps its split: its question may have changed, what it is used for has not."""
    redactor = Redactor(_names_in(rows, find_names) if find_names else None)
    for row in rows:
        for text in texts(row.record):
            redactor.reserve(text)
    done, changed, dropped = [], [], 0
    for row in rows:
        try:
            record = redactor.record(row.record)
        except ValidationError:
            dropped += 1
            continue
        new = row if record == row.record else row.model_copy(update={"id": record_id(record), "record": record})
        done.append(new)
        if new is not row:
            changed.append((row, new))
    renamed = {before.id: after.id for before, after in changed}
    done = [row.model_copy(update={"synthetic_of": renamed[row.synthetic_of]}) if row.synthetic_of in renamed else row
            for row in done]  # fmt: skip
    kinds: list[ReplacedKind] = [*PERSONAL_KINDS, *(["NAME"] if find_names else [])]  # type: ignore[list-item]
    counts: dict[str, int] = {kind: redactor.counts[kind] for kind in kinds}
    return Redacted(done, changed, counts | {"changed": len(changed), "dropped": dropped})


def _names_in(rows: Sequence[Row], find_names: FindNames) -> Names:
    """Where names stand in each of the rows' texts; the same text (a system message) is looked at once."""
    distinct = list(dict.fromkeys(text for row in rows for text in texts(row.record)))
    return {text: names for text, names in zip(distinct, find_names(distinct), strict=True) if names}


def texts(record: AnyRecord) -> Iterator[str]:
    """Every text of a record that people wrote; no labels."""
    if isinstance(record, LabelledRecord):
        yield record.text if record.text is not None else " ".join(record.tokens or ())
    elif isinstance(record, InstructionRecord):
        yield from filter(None, (record.system, record.prompt, record.response))
    else:
        yield from (message.content for message in record.messages)
        if isinstance(record, RankingRecord):
            yield from record.replies
        else:
            yield from (value for key, value in record if key in ("chosen", "rejected"))
