"""Datasets from what people said of answers: judgements in, a stored dataset out. See data/feedback.py for the rows.

`Pairs` of comparisons and of rankings can stand in one dataset: a ranking's are then written out as preferences, each
with its share of the ranking's weight.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from data.dataset import DatasetCard, Row, Shares, Step, save_dataset
from data.errors import DataError
from data.exporting_shapes import pair_weight, pairs
from data.feedback import Collected, rows
from data.home import Home
from data.judgements import AnyJudgement, Ranking, StoredJudgement
from data.records import PreferenceRecord, RankingRecord, record_id
from data.store import Store

Counts = Counter[str]  # what became of each judgement, in words


class Source(NamedTuple):
    """What is collected: the judgements that stand, oldest first, and what each rater weighs (1 if not named)."""

    store: Store
    told: Sequence[StoredJudgement]
    weights: Mapping[str, float]

    @property
    def judgements(self) -> Iterator[AnyJudgement]:
        return (kept.judgement for kept in self.told)

    @property
    def digest(self) -> str:
        """Of the judgements' ids."""
        return hashlib.sha256("\n".join(kept.judgement.id for kept in self.told).encode()).hexdigest()


def oldest_first(told: Sequence[StoredJudgement]) -> list[StoredJudgement]:
    """As they were given."""
    return sorted(told, key=lambda kept: (kept.created, kept.judgement.id))


def collected(source: Source, kind: Collected, shares: Shares, counts: Counts) -> Iterator[Row]:
    """The rows of one kind. Raises `DataError` at once if there is nothing to make them of."""
    return _some(rows(source.judgements, source.store.responses_of, kind, shares, counts, source.weights),
                 kind, source, counts)  # fmt: skip


def collected_pairs(source: Source, shares: Shares, counts: Counts) -> Iterator[Row]:
    """What was preferred: rankings where there are no comparisons or corrections, else pairs of all of them.

    A ranking's pairs share its split and its weight. Raises `DataError` at once if there are none.
    """
    load, said = source.store.responses_of, list(source.judgements)
    ranked = rows(said, load, "ranking", shares, counts, source.weights)
    preferred = rows(said, load, "preference", shares, counts, source.weights)
    if (first := next(preferred, None)) is None:
        return _some(ranked, "ranking", source, counts)
    if not any(isinstance(judgement, Ranking) for judgement in said):
        return chain([first], preferred)
    return chain([first], preferred, (pair for row in ranked for pair in _as_pairs(row)))


def _as_pairs(row: Row) -> Iterator[Row]:
    assert isinstance(row.record, RankingRecord)
    for _, better, worse in pairs(row.record):
        record = PreferenceRecord(messages=row.record.messages, chosen=better, rejected=worse)
        weight = row.weight * pair_weight(row.record)
        yield row.model_copy(update={"id": record_id(record), "record": record, "weight": weight})


def save(home: Home, name: str, made: Iterator[Row], source: Source, shares: Shares, replace: bool, counts: Counts,
         options: Mapping[str, Any]) -> DatasetCard:  # fmt: skip
    """The rows as dataset `name`, whose card says how they were collected and what became of each judgement."""
    return save_dataset(
        home, name, made, "the store", source.digest, {}, shares, replace,
        steps=lambda: (Step(name="collect", options=dict(options), counts=dict(+counts)),),
    )  # fmt: skip


def _some(made: Iterator[Row], kind: str, source: Source, counts: Counts) -> Iterator[Row]:
    """The rows; nothing to make them of is refused before anything is written."""
    first = next(made, None)
    if first is None:
        raise DataError(_nothing(kind, len(source.told), counts))
    return chain([first], made)


def _nothing(kind: str, told: int, counts: Counts) -> str:
    why = "; ".join(f"{reason} ({count})" for reason, count in counts.most_common(3))
    known = {"preference": "comparisons or corrections", "ranking": "rankings", "rated": "thumbs"}
    wanted = known.get(kind, "thumbs up or corrections")
    return f"the store has no {wanted} for {kind} records among {told} judgements{': ' + why if why else ''}"
