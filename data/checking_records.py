"""Checks of single records: secrets, personal data, foul words, answers that say nothing or break off, faulty lines."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.checking_report import Example, Finding, Seen, Severity, Target
from data.checking_texts import excerpt, foul_words, is_no_answer, maybe_cut, sensitive, surely_cut
from data.records import LabelledRecord, answer
from data.redaction import texts

_LINE = re.compile(r"(.+?:\d+): (.*)", re.DOTALL)


class Texts:
    """What single texts show: secrets, personal data, foul words, answers that are empty or cut off."""

    def __init__(self, target: Target, examples: int) -> None:
        self.target, self.examples = target, examples
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[Example]] = defaultdict(list)
        self._kinds: Counter[str] = Counter()
        self._answers = 0

    def add(self, seen: Seen) -> None:
        record = seen.row.record
        found: set[str] = set()
        for text in texts(record):
            spans = sensitive(text)
            self._kinds.update(span.kind for span in spans)
            for check in ("secrets", "personal data"):
                hit = next((span for span in spans if (span.kind == "SECRET") == (check == "secrets")), None)
                if hit is not None and check not in found:
                    found.add(check)
                    self._take(check, seen, text, hit.start)
            if "foul words" not in found and foul_words(text):
                found.add("foul words")
                self._take("foul words", seen, text)
        if not isinstance(record, LabelledRecord):
            self._look_at_answer(seen, answer(record))

    def _look_at_answer(self, seen: Seen, text: str) -> None:
        self._answers += 1
        if is_no_answer(text):
            self._take("empty answers", seen, text)
        elif surely_cut(text):
            self._take("cut off", seen, f"…{text.rstrip()[-80:]}")
        elif maybe_cut(text):
            self._take("perhaps cut off", seen, f"…{text.rstrip()[-80:]}")

    def _take(self, check: str, seen: Seen, text: str, around: int = 0) -> None:
        self._counts[check] += 1
        if len(self._examples[check]) < self.examples:
            self._examples[check].append(Example(record=seen.where, text=excerpt(text, around)))

    def findings(self) -> Iterator[Finding]:
        redact = self.target.command("redact", "redacted")
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in self._kinds.most_common() if kind != "SECRET")
        rules: dict[str, tuple[Severity, str, str]] = {
            "secrets": ("warning", "records hold what looks like a password or an access key", redact),
            "personal data": ("warning", f"records hold personal data ({kinds})", redact),
            "empty answers": ("warning", "answers say nothing (such as 'n/a' or '...')", "leave them out of the file"),
            "cut off": ("warning", "answers break off (at a comma, a dash, or inside code)", "complete them or leave "
                        "them out: a model learns to break off too"),
            "foul words": ("note", "records hold a foul word (an English list, some of it harmless)", ""),
        }  # fmt: skip
        # Where many answers end without a sign that is how the author writes.
        perhaps = self._counts["perhaps cut off"]
        if perhaps and perhaps <= max(1, self._answers // 20):
            rules["perhaps cut off"] = ("note", "long answers end without a closing sign", "look at some")
        for check, (severity, message, step) in rules.items():
            if count := self._counts[check]:
                yield Finding(check=check, severity=severity, count=count, message=f"{count:,} {message}",
                              next_step=step, examples=tuple(self._examples[check]))  # fmt: skip


@dataclass
class Faults:
    """Records of a file that could not be read: counted by why, the first ones with their lines."""

    refused: Counter[str] = field(default_factory=Counter)  # why, its numbers as N → records
    lines: list[str] = field(default_factory=list)  # "file:line: why"

    def findings(self, target: Target, examples: int) -> Iterator[Finding]:
        """One error for each sort of fault."""
        groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for why, count in self.refused.items():
            groups[_sort(why)][why] += count
        shown: defaultdict[str, list[Example]] = defaultdict(list)
        for line in self.lines:
            if found := _LINE.match(line):
                shown[_sort(found[2])].append(Example(record=found[1], text=found[2]))
        step = f"mend these lines, or leave them out: brogue data import {target.name} --skip-faulty --into NAME"
        for sort, reasons in groups.items():
            count, why = reasons.total(), "; ".join(reason for reason, _ in reasons.most_common(2))
            yield Finding(check=sort, severity="error", count=count, message=f"{count:,} records are faulty: {why}",
                          next_step=step, examples=tuple(shown[sort][:examples]))  # fmt: skip


def _sort(why: str) -> str:
    """What a fault is called in a report."""
    if "is by '" in why or "last turn" in why:
        return "roles"
    return "empty" if "empty" in why else "schema"
