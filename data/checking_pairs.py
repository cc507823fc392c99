"""Checks that compare records with one another and with exams: repeats, leaks between splits, contradictions."""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator

from data.checking_report import Example, Finding, Seen, Severity, Target, counted
from data.checking_texts import excerpt
from data.contamination import NGRAM, Exam, Hit, Overlap
from data.duplicates import Tell, find_near, keep, parts, words
from data.records import (
    SPLITS,
    AnyRecord,
    LabelledRecord,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
    answer,
    question,
)

_STAYS = {split: rank for rank, split in enumerate(reversed(SPLITS))}  # as `dedupe`: the examined row stays


class Repeats:
    """Exact and near duplicates, within the splits and across them, and questions that stand in two splits.

    Keeps the texts: near duplicates can only be found among all of them.
    """

    def __init__(self, target: Target, examples: int, tell: Tell) -> None:
        self.target, self.examples, self.tell = target, examples, tell
        self._ids: dict[str, int] = {}
        self._exact: list[tuple[int, int]] = []
        self._where: list[str] = []
        self._splits = bytearray()
        self._parts: list[tuple[str, ...]] = []  # of a repeat: nothing
        self._asked = array("q")
        self._best: dict[int, int] = {}  # words of a question → the position in the split that outranks the others

    def add(self, seen: Seen) -> None:
        position = len(self._where)
        first = self._ids.setdefault(seen.row.id, position)
        if first != position:
            self._exact.append((position, first))
        key = _number(words(question(seen.row.record)))
        self._where.append(seen.where)
        self._splits.append(_STAYS[seen.row.split])
        self._parts.append(() if first != position else parts(seen.row.record))
        self._asked.append(key)
        best = self._best.setdefault(key, position)
        if self._splits[position] < self._splits[best]:
            self._best[key] = position

    def findings(self) -> Iterator[Finding]:
        dedupe = self.target.command("dedupe", "clean")
        if self._exact:
            message = counted(len(self._exact), "record repeats", "records repeat") + " another one word for word"
            yield self._finding("exact duplicates", message, dedupe, self._exact)
        leaks = [(i, best) for i, key in enumerate(self._asked)
                 if self._splits[best := self._best[key]] != self._splits[i]]  # fmt: skip
        near = self.target.command("dedupe --near", "clean")
        if leaks:
            message = (
                counted(len(leaks), "question stands", "questions stand")
                + ", with the same words, in validation or test as well: what is measured there would be memory"
            )
            yield self._finding("leakage", message, near, leaks)
        within, across = self._near({i for i, _ in leaks})
        if within:
            message = (
                counted(len(within), "record nearly repeats", "records nearly repeat")
                + " another one (one word in ten differs at most)"
            )
            yield self._finding("near duplicates", message, near, within)
        if across:
            message = (
                counted(len(across), "record nearly repeats", "records nearly repeat")
                + " one of another split, in question and answer"
            )
            yield self._finding("near leakage", message, near, across)

    def _near(self, leaks: set[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The records that `dedupe --near` would drop, each with one that stays: of the same split, and of another."""
        order = sorted((i for i, text in enumerate(self._parts) if text), key=lambda i: (self._splits[i], i))
        found = find_near([self._parts[i] for i in order], self.tell)
        partner = {order[b]: order[a] for a, b in reversed(found.pairs)}
        partner |= {order[b]: order[a] for b, a in enumerate(found.first) if a != b}
        stays = {order[place] for place in keep(found)}
        gone = [(i, partner[i]) for i in sorted(partner.keys() - stays)]
        across = [(i, j) for i, j in gone if self._splits[i] != self._splits[j] and i not in leaks]
        return [(i, j) for i, j in gone if self._splits[i] == self._splits[j]], across

    def _finding(self, check: str, message: str, next_step: str, pairs: list[tuple[int, int]]) -> Finding:
        examples = tuple(
            Example(record=self._where[i], other=self._where[j], text=excerpt((self._parts[i] or self._parts[j])[0]))
            for i, j in pairs[: self.examples]
        )
        return Finding(check=check, severity="warning", count=len(pairs), message=message, next_step=next_step,
                       examples=examples)  # fmt: skip


class Conflicts:
    """The same question with another label, another choice, or another answer."""

    def __init__(self, target: Target, examples: int) -> None:
        self.target, self.examples = target, examples
        self._first: dict[int, tuple[int, str]] = {}  # what is asked → what the first record says to it, and where
        self._found: list[Example] = []
        self._count = 0
        self._kind = ""

    def add(self, seen: Seen) -> None:
        record = seen.row.record
        self._kind = record.kind
        asked, said = _asked_and_said(record)
        if not asked:
            return
        key, value = _number((asked,)), _number((said,))
        first, where = self._first.setdefault(key, (value, seen.where))
        if first != value:
            self._count += 1
            if len(self._found) < self.examples:
                self._found.append(Example(record=seen.where, other=where, text=excerpt(question(record))))

    def findings(self) -> Iterator[Finding]:
        if not self._count:
            return
        if self._kind in ("chat", "instruction"):
            message = (
                counted(self._count, "record answers", "records answer") + " a question otherwise than an earlier one"
            )
            step = "look at some: several good answers to one question are fine, contradictions are not"
        elif self._kind == "labelled":
            message = counted(self._count, "text stands", "texts stand") + " with another label elsewhere"
            step = "decide on one label, mend the file and import it again"
        else:
            message = counted(self._count, "record prefers", "records prefer") + " the answer that another one rejects"
            step = "where people disagree, import the pair as a tie, or leave it out"
        severity = "note" if self._kind in ("chat", "instruction") else "warning"
        yield Finding(check="conflicts", severity=severity, count=self._count, message=message, next_step=step,
                      examples=tuple(self._found))  # fmt: skip


class Exams:
    """Contamination: records of the train split whose question an exam asks, or that hold a passage of it."""

    def __init__(self, target: Target, exams: Iterable[tuple[str, AnyRecord]], examples: int, tell: Tell) -> None:
        self.target, self.examples, self.tell = target, examples, tell
        self._exam = Exam(exams)
        self._seen: list[tuple[str, str]] = []  # of the train split: where, and what it asks

    def add(self, seen: Seen) -> None:
        if seen.row.split == "train":
            self._exam.add(seen.row.record)
            self._seen.append((seen.where, question(seen.row.record)))

    def findings(self) -> Iterator[Finding]:
        hits = self._exam.hits(self.tell)
        names = dict.fromkeys(place.partition("/")[0] for place in self._exam.places)
        drop = self.target.command(" ".join(["dedupe", *(f"--against {name}" for name in names)]), "clean")
        said: tuple[tuple[Overlap, Severity, str, tuple[str, str], str], ...] = (
            ("same", "error", "exam questions", ("train record asks", "train records ask"),
             "a question of the exam, with the same words"),
            ("near", "warning", "near exam questions", ("train record nearly asks", "train records nearly ask"),
             "a question of the exam"),
            ("passage", "warning", "exam passages", ("train record shares", "train records share"),
             f"{NGRAM} words in a row with the exam"),
        )  # fmt: skip
        for overlap, severity, check, verbs, what in said:
            if found := hits[overlap]:
                look = f"look at them, and leave out what gives the exam away (all of them: --examples {len(found)})"
                yield Finding(
                    check=check, severity=severity, count=len(found), message=f"{counted(len(found), *verbs)} {what}",
                    next_step=look if overlap == "passage" else drop, examples=self._examples(found),
                )  # fmt: skip

    def _examples(self, found: list[Hit]) -> tuple[Example, ...]:
        shown = [(*self._seen[hit.position], self._exam.places[hit.exam]) for hit in found[: self.examples]]
        return tuple(Example(record=where, other=exam, text=excerpt(asked)) for where, asked, exam in shown)


def _asked_and_said(record: AnyRecord) -> tuple[str, str]:
    """What two records share if they are about the same, and what they must agree on then; case and signs aside."""
    if isinstance(record, LabelledRecord):
        return _folded(question(record)), record.label or " ".join(record.tags or ())
    if isinstance(record, RankingRecord | RatedRecord):
        return "", ""  # several people judge the same replies: that is data, no contradiction
    turns = [m.content for m in record.messages]
    if isinstance(record, PreferenceRecord):
        if record.tie:
            return "", ""
        return _folded("\n".join([*turns, *sorted((record.chosen, record.rejected))])), _folded(record.chosen)
    return _folded("\n".join(turns[:-1])), _folded(answer(record))


def _folded(text: str) -> str:
    """Words in their order, without case and punctuation; a text without words as it is."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def _number(texts: tuple[str, ...]) -> int:
    """64 bits of a hash: a million questions collide with a probability of 1 in 10⁷."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(texts).encode(), digest_size=8).digest(), "big", signed=True)
