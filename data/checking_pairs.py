"""Checks that compare records with one another and with exams: repeats, leaks between splits, contradictions."""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator

from data.checking_report import Example, Finding, Seen, Target, counted
from data.checking_texts import excerpt
from data.duplicates import Tell, find_near, keep, parts, words
from data.errors import DataError
from data.records import SPLITS, AnyRecord, LabelledRecord, PreferenceRecord, RankingRecord, answer, question

NGRAM = 13  # words in a row that two texts hardly share by chance; source: Brown et al. (2020), appendix C
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

    def __init__(self, exams: Iterable[tuple[str, AnyRecord]], examples: int, tell: Tell) -> None:
        self.examples, self.tell = examples, tell
        self._questions: list[str] = []
        self._places: list[str] = []  # dataset and record id of each question
        self._ngrams: dict[int, int] = {}
        for place, record in exams:
            self._places.append(place)
            self._questions.append(parts(record)[0])
            for key in _ngrams(_whole(record)):
                self._ngrams.setdefault(key, len(self._places) - 1)
        if not self._questions:
            raise DataError("the exam datasets hold no records; name others with --exam")
        self._same = {words(text): i for i, text in reversed(list(enumerate(self._questions)))}
        self._asked: list[tuple[str, str]] = []  # of records that are neither the same nor share a passage
        self._found: dict[str, list[tuple[str, int, str]]] = {"same": [], "passage": [], "near": []}

    def add(self, seen: Seen) -> None:
        if seen.row.split != "train":
            return
        asked = parts(seen.row.record)[0]
        same = self._same.get(words(asked))
        if same is not None:
            self._found["same"].append((seen.where, same, asked))
            return
        shared = next((self._ngrams[k] for k in _ngrams(_whole(seen.row.record)) if k in self._ngrams), None)
        if shared is not None:
            self._found["passage"].append((seen.where, shared, asked))
        else:
            self._asked.append((seen.where, asked))

    def findings(self) -> Iterator[Finding]:
        number = len(self._questions)
        near = find_near([(text,) for text in (*self._questions, *(asked for _, asked in self._asked))], self.tell)
        exam_of = {b: a for a, b in reversed(near.pairs) if a < number <= b}
        for (where, asked), first in zip(self._asked, near.first[number:], strict=True):
            if first in exam_of:
                self._found["near"].append((where, exam_of[first], asked))
        words_of = {
            "same": (
                "error",
                "exam questions",
                ("train record asks", "train records ask"),
                " a question of the exam, with the same words",
            ),
            "passage": (
                "warning",
                "exam passages",
                ("train record shares", "train records share"),
                f" {NGRAM} words in a row with the exam",
            ),
            "near": (
                "warning",
                "near exam questions",
                ("train record nearly asks", "train records nearly ask"),
                " a question of the exam",
            ),
        }
        for key, (severity, check, verbs, what) in words_of.items():
            if found := self._found[key]:
                examples = tuple(
                    Example(record=where, other=self._places[exam], text=excerpt(text))
                    for where, exam, text in found[: self.examples]
                )
                yield Finding.model_validate({
                    "check": check, "severity": severity, "count": len(found),
                    "message": counted(len(found), *verbs) + what,
                    "next_step": "leave these records out of the file and import it again (all of them: --json "
                    f"--examples {len(found)})", "examples": examples,
                })  # fmt: skip


def _asked_and_said(record: AnyRecord) -> tuple[str, str]:
    """What two records share if they are about the same, and what they must agree on then; case and signs aside."""
    if isinstance(record, LabelledRecord):
        return _folded(question(record)), record.label or " ".join(record.tags or ())
    if isinstance(record, RankingRecord):
        return "", ""  # several people rank the same replies: that is data, no contradiction
    turns = [m.content for m in record.messages]
    if isinstance(record, PreferenceRecord):
        if record.tie:
            return "", ""
        return _folded("\n".join([*turns, *sorted((record.chosen, record.rejected))])), _folded(record.chosen)
    return _folded("\n".join(turns[:-1])), _folded(answer(record))


def _folded(text: str) -> str:
    """Words in their order, without case and punctuation; a text without words as it is."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def _whole(record: AnyRecord) -> str:
    return "\n".join(parts(record))


def _ngrams(text: str) -> Iterator[int]:
    tokens = _folded(text).split()
    return (hash(tuple(tokens[i : i + NGRAM])) for i in range(len(tokens) - NGRAM + 1))


def _number(texts: tuple[str, ...]) -> int:
    """64 bits of a hash: a million questions collide with a probability of 1 in 10⁷."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(texts).encode(), digest_size=8).digest(), "big", signed=True)
