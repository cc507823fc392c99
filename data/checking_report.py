"""What a check of a dataset says: findings, worst first, and the figures that its plots are drawn from."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from data.dataset import Row
from data.records import Kind, Split
from data.settings import Frozen

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Example(Frozen):
    """One record that a finding speaks of. Texts are shortened; secrets and personal data in them are masked."""

    record: str  # its id, or file:line
    text: str = ""
    other: str | None = None  # the record that it collides with


class Finding(Frozen):
    """One thing that is to be known of a dataset.

    error: training on it would fail, or what is measured on it would mean nothing. warning: it will likely make the
    trained model or its exam worse. note: good to know.
    """

    check: str
    severity: Severity
    count: int  # records that it is about, unless the message says of what
    message: str
    next_step: str = ""  # what to do or to type
    examples: tuple[Example, ...] = ()


class Bar(Frozen):
    """One bar of a histogram: records from `low` to `high`, both included."""

    low: int
    high: int
    count: int


class Lengths(Frozen):
    """How long some records are, in the report's unit."""

    count: int
    quarter: int  # a quarter of the records are at most so long
    median: int
    three_quarters: int
    p95: int
    longest: int


class Report(Frozen):
    """All that was found in a dataset or a file."""

    target: str
    kind: Kind
    format: str  # how the file was written; "dataset" for one that is imported already
    records: int
    splits: dict[Split, int]
    findings: tuple[Finding, ...]  # errors first, then by count
    unit: Literal["tokens", "words"]  # of all lengths: the base model's tokens, where one is there
    limit: int  # longer records are left out of a training; in tokens
    lengths: Lengths | None
    histogram: tuple[Bar, ...]
    classes: dict[str, int]  # labels or tags → records (or tokens); the largest ones
    other_classes: int  # so many further ones
    lengths_by_class: dict[str, Lengths]
    languages: dict[str, int]  # ISO 639 codes → records; "undetermined" for texts too short to tell

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]


class Seen(NamedTuple):
    """A record that is being checked, and how a person finds it."""

    where: str  # its id, or file:line
    row: Row


class Target(NamedTuple):
    """What is checked, as far as next steps depend on it."""

    name: str
    is_file: bool = False

    def command(self, command: str, suffix: str) -> str:
        """`brogue data <command>` for this dataset; for a file, what to do once it is imported."""
        if self.is_file:
            return f"after the import: brogue data {command} NAME --into NAME-{suffix}"
        words, _, options = command.partition(" ")
        return f"brogue data {words} {self.name}{' ' + options if options else ''} --into {self.name}-{suffix}"


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first."""
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count)))


def counted(count: int, one: str, more: str) -> str:
    """Such as "1 record holds" or "1,200 records hold"."""
    return f"{count:,} {one if count == 1 else more}"


def share(count: int, total: int) -> str:
    """Such as "12 (3%)"; a share that is not nought is never written as 0%."""
    percent = 100 * count / total if total else 0
    return f"{count:,} ({f'{percent:.0f}' if percent >= 1 or not count else '<1'}%)"
