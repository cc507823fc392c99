"""Replaces personal data by placeholders: the same value has the same one everywhere in a dataset ([EMAIL_1])."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from data.dataset import Row
from data.personal import PERSONAL_KINDS, PersonalKind, find_personal, same_value
from data.records import AnyRecord, InstructionRecord, LabelledRecord, Message, RankingRecord, record_id

NOT_RECOGNISED = "names of people and places, postal addresses and dates of birth are not recognised"
_PLACEHOLDER = re.compile(rf"\[({'|'.join(PERSONAL_KINDS)})_(\d{{1,9}})\]")


class Redacted(NamedTuple):
    """What became of a dataset."""

    rows: list[Row]
    changed: list[tuple[Row, Row]]  # before, after
    counts: dict[str, int]  # findings by kind; rows changed; rows dropped since their two answers became the same


class Redactor:
    """Knows the placeholders of one dataset. Numbers go up in the order in which values are met."""

    def __init__(self) -> None:
        self.counts: Counter[PersonalKind] = Counter()
        self._numbers: dict[tuple[PersonalKind, str], int] = {}
        self._last: Counter[str] = Counter()

    def reserve(self, text: str) -> None:
        """Keep clear of the placeholders that `text` holds already, from an earlier redaction."""
        for kind, number in _PLACEHOLDER.findall(text):
            self._last[kind] = max(self._last[kind], int(number))

    def text(self, text: str) -> str:
        """`text` with placeholders."""
        done, end = [], 0
        for kind, start, stop in find_personal(text):
            done += [text[end:start], self._placeholder(kind, text[start:stop])]
            end = stop
        return "".join(done) + text[end:]

    def tokens(self, tokens: Sequence[str]) -> tuple[str, ...]:
        """As many tokens as before: each that belongs to a finding becomes its placeholder."""
        text, done, position = " ".join(tokens), [], 0
        spans = [(s.start, s.end, self._placeholder(s.kind, text[s.start : s.end])) for s in find_personal(text)]
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

    def _placeholder(self, kind: PersonalKind, value: str) -> str:
        self.counts[kind] += 1
        key = kind, same_value(kind, value)
        if key not in self._numbers:
            self._last[kind] += 1
            self._numbers[key] = self._last[kind]
        return f"[{kind}_{self._numbers[key]}]"


def redact(rows: Sequence[Row]) -> Redacted:
    """All rows with placeholders. A row keeps its split: its question may have changed, what it is used for has not."""
    redactor = Redactor()
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
    counts: dict[str, int] = {kind: redactor.counts[kind] for kind in PERSONAL_KINDS}
    return Redacted(done, changed, counts | {"changed": len(changed), "dropped": dropped})


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
