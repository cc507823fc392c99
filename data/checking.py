"""The check of a dataset: one pass over its records, then what can only be told of all of them together.

In: records one by one, each with where it was found. Out: a `Report`. Each check is a class with `add` (a record) and
`findings` (at the end). Nothing is changed, and what a report shows of a text is shortened and masked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from data.checking_figures import SHOWN_CLASSES, Classes, CountTokens, Languages, Sizes, Splits, lengths_of
from data.checking_pairs import Conflicts, Exams, Repeats
from data.checking_records import Faults, Texts
from data.checking_report import Finding, Lengths, Report, Seen, Target, ordered
from data.duplicates import Tell
from data.records import SPLITS, AnyRecord, Kind

MAX_TOKENS = 1024  # as `brogue train` leaves longer rows out, unless it is told otherwise
PROGRESS_RECORDS = 2_000


class Check(Protocol):
    """One thing that is looked for."""

    def add(self, seen: Seen) -> None:
        """Look at one record; keep as little of it as will do."""

    def findings(self) -> Iterator[Finding]:
        """What was found, after the last record."""


@dataclass(frozen=True)
class Options:
    """What a check measures with."""

    count_tokens: CountTokens | None = None  # the base model's; none: lengths are in words
    limit: int = MAX_TOKENS
    exams: Iterable[tuple[str, AnyRecord]] | None = None  # records of exam datasets, with where each stands
    examples: int = 5  # shown with each finding


def check(target: Target, kind: Kind, format: str, rows: Iterable[Seen], faults: Faults, options: Options,
          tell: Tell) -> Report:  # fmt: skip
    """Look at all `rows`; `faults` may be filled while they are read."""
    sizes = Sizes(target, options.examples, options.limit, options.count_tokens)
    classes, languages = Classes(target, options.examples), Languages(target, options.examples)
    splits = Splits(target)
    checks: list[Check] = [splits, sizes, classes, languages, Texts(target, options.examples),
                           Conflicts(target, options.examples), Repeats(target, options.examples, tell)]  # fmt: skip
    if options.exams is not None:
        checks.append(Exams(target, options.exams, options.examples, tell))
    for number, seen in enumerate(rows, 1):
        for one in checks:
            one.add(seen)
        if number % PROGRESS_RECORDS == 0:
            tell(f"{number:,} records")
    findings = [*faults.findings(target, options.examples)]
    for one in checks:
        findings += one.findings()
    shown = dict(classes.counts.most_common(SHOWN_CLASSES))
    return Report(
        target=target.name, kind=kind, format=format, records=splits.counts.total(),
        splits={split: splits.counts[split] for split in SPLITS}, findings=ordered(findings), unit=sizes.unit,
        limit=options.limit, lengths=lengths_of(sizes.lengths), histogram=sizes.histogram(), classes=shown,
        other_classes=len(classes.counts) - len(shown), lengths_by_class=_by_class(classes, sizes, shown),
        languages=dict(languages.counts.most_common()),
    )  # fmt: skip


def _by_class(classes: Classes, sizes: Sizes, shown: Iterable[str]) -> dict[str, Lengths]:
    """Lengths of the shown classes; for kinds without labels there are none."""
    if len(classes.of_record) != len(sizes.lengths):
        return {}
    values: dict[str, list[int]] = {label: [] for label in shown}
    for label, length in zip(classes.of_record, sizes.lengths, strict=True):
        if label in values:
            values[label].append(length)
    lengths = {label: lengths_of(found) for label, found in values.items()}
    return {label: found for label, found in lengths.items() if found is not None}
