"""Checks of single records: secrets, personal data, foul words, answers that say nothing or break off, faulty lines."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.checking_report import Example, Finding, Seen, Severity, Target, counted
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
        self._foul: Counter[str] = Counter()
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
            if "foul words" not in found and (foul := foul_words(text)):
                found.add("foul words")
                self._foul.update({*foul})
                self._take("foul words", seen, text, text.casefold().find(foul[0]))
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
        words = ", ".join(f"{word} {n:,}" for word, n in self._foul.most_common(5))
        hold, look = ("record holds", "records hold"), "look at some"
        mend = "complete them or leave them out: a model learns to break off too"
        found = [
            self._finding("secrets", "warning", hold, "what looks like a password or an access key", redact),
            self._finding("personal data", "warning", hold, f"personal data ({kinds})", redact),
            self._finding(
                "empty answers", "warning", ("answer says", "answers say"), "nothing ('n/a')", "leave them out"
            ),
            self._finding(
                "cut off", "warning", ("answer breaks", "answers break"), "off in mid-sentence or code", mend
            ),
            self._finding("foul words", "note", hold, f"a word of a list of foul ones: {words}", look),
        ]
        # Where many answers end without a sign that is how the author writes.
        if self._counts["perhaps cut off"] <= max(1, self._answers // 20):
            ends = ("long answer ends", "long answers end")
            found.append(self._finding("perhaps cut off", "note", ends, "without a closing sign", look))
        yield from (finding for finding in found if finding.count)

    def _finding(self, check: str, severity: Severity, verbs: tuple[str, str], what: str, step: str) -> Finding:
        count = self._counts[check]
        return Finding(check=check, severity=severity, count=count, message=f"{counted(count, *verbs)} {what}",
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
            message = counted(count, "record is", "records are") + f" faulty: {why}"
            yield Finding(check=sort, severity="error", count=count, message=message,
                          next_step=step, examples=tuple(shown[sort][:examples]))  # fmt: skip


def _sort(why: str) -> str:
    """What a fault is called in a report."""
    if "is by '" in why or "last turn" in why:
        return "roles"
    return "empty" if "empty" in why else "schema"
