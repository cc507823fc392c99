"""Checks that count: lengths, classes, languages, and how the records stand in the splits."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from data.checking_report import Bar, Example, Finding, Lengths, Seen, Target, counted, share
from data.checking_texts import UNDETERMINED, excerpt, language
from data.records import SPLITS, AnyRecord, LabelledRecord, PreferenceRecord, RankingRecord, Split, question

CountTokens = Callable[[list[str]], list[int]]
BATCH, BATCH_CHARACTERS = 512, 1_000_000  # texts are counted so many at once, or so long
BARS = 30
SHOWN_CLASSES = 100
FEW = 5  # a class with fewer records in train is hardly learnt
SKEW = 20  # the largest class against the middle one


class Sizes:
    """Lengths of records in the base model's tokens, or in words where no model is there."""

    def __init__(self, target: Target, examples: int, limit: int, count_tokens: CountTokens | None) -> None:
        self.target, self.examples, self.limit = target, examples, limit
        self.unit: Literal["tokens", "words"] = "words" if count_tokens is None else "tokens"
        self._count = count_tokens or (lambda texts: [len(text.split()) for text in texts])
        self._waiting: list[tuple[str, Split, str]] = []
        self._characters = 0
        self._long: Counter[Split] = Counter()
        self._of: Counter[Split] = Counter()
        self._examples: list[Example] = []
        self.lengths = array("L")

    def add(self, seen: Seen) -> None:
        text = _whole(seen.row.record)
        self._waiting.append((seen.where, seen.row.split, text))
        self._characters += len(text)
        if len(self._waiting) == BATCH or self._characters > BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        counts = self._count([text for _, _, text in self._waiting])
        for (where, split, text), count in zip(self._waiting, counts, strict=True):
            self.lengths.append(count)
            self._of[split] += 1
            if count > self.limit:
                self._long[split] += 1
                if len(self._examples) < self.examples:
                    self._examples.append(Example(record=where, text=f"{count:,} {self.unit}: {excerpt(text)}"))
        self._waiting.clear()
        self._characters = 0

    def findings(self) -> Iterator[Finding]:
        self._flush()
        if self.unit == "words":
            message = "lengths are in words, since no base model is on this machine yet; its tokens will be more"
            yield Finding(check="lengths in words", severity="note", count=0, message=message, next_step="brogue up")
        if not (long := self._long.total()):
            return
        all_of_train = self._long["train"] == self._of["train"] > 0
        message = (
            counted(long, "record has", "records have")
            + f" more than {self.limit:,} {self.unit}: training leaves out such answers"
        )
        if all_of_train:
            message = f"every train record has more than {self.limit:,} {self.unit}, so that nothing is left to learn"
        step = "shorten them, or train with more: --max-tokens N"
        yield Finding(check="over-long", severity="error" if all_of_train else "warning", count=long, message=message,
                      next_step=step, examples=tuple(self._examples))  # fmt: skip

    def histogram(self) -> tuple[Bar, ...]:
        """At most BARS bars of equal width; the last one holds all beyond the 99th percentile."""
        if not self.lengths:
            return ()
        ordered = sorted(self.lengths)
        top = max(ordered[(len(ordered) - 1) * 99 // 100], 1)
        width = -(-(top + 1) // BARS)
        bars = Counter(min(length // width, top // width) for length in ordered)
        last = top // width
        return tuple(
            Bar(low=i * width, high=ordered[-1] if i == last else (i + 1) * width - 1, count=bars[i])
            for i in range(last + 1)
        )


class Classes:
    """Labels of classified texts, tags of tokens, how preferences go."""

    def __init__(self, target: Target, examples: int) -> None:
        self.target, self.examples = target, examples
        self.counts: Counter[str] = Counter()
        self.of_record: list[str] = []  # each record's label, to tell lengths by class; none for other kinds
        self._splits: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
        self._first: dict[str, str] = {}
        self._longer = self._pairs = 0

    def add(self, seen: Seen) -> None:
        record = seen.row.record
        if isinstance(record, PreferenceRecord) and not record.tie:
            self._pairs += 1
            self._longer += len(record.chosen) > len(record.rejected)
        if not isinstance(record, LabelledRecord):
            return
        labels = [record.label] if record.label else [tag for tag in record.tags or () if tag != "O"]
        for label in labels:
            self.counts[label] += 1
            self._splits[seen.row.split][label] += 1
            self._first.setdefault(label, seen.where)
        if record.label:
            self.of_record.append(record.label)

    def findings(self) -> Iterator[Finding]:
        if self._pairs >= 20 and not 0.3 <= self._longer / self._pairs <= 0.7:
            way = "longer" if self._longer * 2 > self._pairs else "shorter"
            part = max(self._longer, self._pairs - self._longer) / self._pairs
            message = f"in {part:.0%} of the pairs the chosen answer is the {way} one: a model may learn just that"
            yield Finding(check="length of the chosen", severity="note", count=self._pairs, message=message)
        if not self.counts:
            return
        if len(self.counts) == 1:
            message = f"every record has the same label, '{next(iter(self.counts))}': there is nothing to tell apart"
            yield Finding(check="classes", severity="warning", count=self.counts.total(), message=message,
                          next_step="check which column is the label: --label-column")  # fmt: skip
            return
        train = self._splits["train"]
        few = [label for label in self.counts if train[label] < FEW]
        if few and train:
            message = (
                counted(len(few), "class has", "classes have")
                + f" fewer than {FEW} records in train (of {len(self.counts):,} classes)"
            )
            shown = sorted(few, key=lambda label: train[label])[: self.examples]
            examples = [Example(record=self._first[label], text=f"{label}: {train[label]} in train") for label in shown]
            yield Finding(check="few examples", severity="warning", count=len(few), message=message,
                          next_step="add records of these classes, or join them with others",
                          examples=tuple(examples))  # fmt: skip
        (largest, most), middle = self.counts.most_common(1)[0], sorted(self.counts.values())[len(self.counts) // 2]
        if most > SKEW * middle:
            message = f"the class '{largest}' has {most:,} records, the middle one {middle:,}"
            yield Finding(check="balance", severity="warning", count=most, message=message,
                          next_step=self.target.command("balance", "balanced"))  # fmt: skip


class Languages:
    """Which languages the records are written in."""

    def __init__(self, target: Target, examples: int) -> None:
        self.target, self.examples = target, examples
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}

    def add(self, seen: Seen) -> None:
        text = _whole(seen.row.record)
        code = language(text)
        self.counts[code] += 1
        kept = self._examples.setdefault(code, [])
        if len(kept) < self.examples:
            kept.append(Example(record=seen.where, text=f"{code}: {excerpt(text)}"))

    def findings(self) -> Iterator[Finding]:
        told = Counter({code: n for code, n in self.counts.items() if code != UNDETERMINED})
        if len(told) < 2:
            return
        main, _ = told.most_common(1)[0]
        others = told.total() - told[main]
        if others < max(2, told.total() / 100):
            return  # so few are as likely mistaken as foreign
        mix = ", ".join(f"{code} {n / told.total():.0%}" for code, n in told.most_common(5) if n * 200 >= told.total())
        examples = [example for code, _ in told.most_common() if code != main for example in self._examples[code]]
        message = f"{share(others, told.total())} records are not in the main language ({mix})"
        yield Finding(check="languages", severity="note", count=others, message=message,
                      next_step="fine if it is meant so; short texts are easily mistaken",
                      examples=tuple(examples[: self.examples]))  # fmt: skip


class Splits:
    """Whether there is something to learn from and something to measure with."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.counts: Counter[Split] = Counter()

    def add(self, seen: Seen) -> None:
        self.counts[seen.row.split] += 1

    def findings(self) -> Iterator[Finding]:
        total = self.counts.total()
        if total and not self.counts["train"]:
            yield Finding(check="splits", severity="warning", count=total, message="the train split is empty",
                          next_step=self.target.command("split", "split"))  # fmt: skip
        for split in SPLITS[1:]:
            if self.counts["train"] and not self.counts[split]:
                message = f"the {split} split is empty: a version cannot be measured on it"
                yield Finding(check="splits", severity="note", count=0, message=message,
                              next_step=self.target.command("split", "split"))  # fmt: skip


def lengths_of(values: "array[int] | list[int]") -> Lengths | None:
    """Quantiles of `values`; None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    quarter, median, three, p95 = (ordered[(len(ordered) - 1) * percent // 100] for percent in (25, 50, 75, 95))
    return Lengths(count=len(ordered), quarter=quarter, median=median, three_quarters=three, p95=p95,
                   longest=ordered[-1])  # fmt: skip


def _whole(record: AnyRecord) -> str:
    """What of a record a training reads: of several answers, the longest."""
    if isinstance(record, LabelledRecord):
        return question(record)
    texts = [m.content for m in record.messages]
    if isinstance(record, PreferenceRecord):
        texts.append(max(record.chosen, record.rejected, key=len))
    elif isinstance(record, RankingRecord):
        texts.append(max(record.replies, key=len))
    return "\n".join(texts)
