"""Splits a dataset anew, and evens out its train split. Always the same for the same rows, and never random.

What must stay together is a unit: the rows with one question, or the rows of one group. Every unit has a place between
0 and 100, and the shares say which split that is. Rows that a model made stand in train, and so does the unit of the
row that they were made of, or a rewording of an exam's question would be learnt.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from data.dataset import Row, Shares
from data.errors import DataError
from data.records import LabelledRecord, Split, hash_of, place_of, position, question_key, split_at

SplitBy = Literal["hash", "group", "stratified"]
BalanceBy = Literal["label", "group"]


@dataclass
class _Units:
    """What is kept of the rows to place them: no texts."""

    rows: Counter[str] = field(default_factory=Counter)  # unit → its rows
    labels: dict[str, str] = field(default_factory=dict)  # unit → the label of its first row
    of_record: dict[str, str] = field(default_factory=dict)  # record id → unit
    parents: set[str] = field(default_factory=set)  # ids that a model made records of
    in_train: set[str] = field(default_factory=set)


def plan_split(rows: Iterable[Row], by: SplitBy, shares: Shares) -> dict[str, Split]:
    """The split of every unit (see `unit`). Raises DataError where rows lack what they are to be split by.

    hash: by the question alone, so that a question stays in its split when the data grows. group: the groups in the
    order of their hashes, as many as fill a share. stratified: each label by itself, within one question of the shares;
    one question at least of each label is in train. (scikit-learn's splitter was left aside: it refuses labels with
    one text, and tests with fewer rows than there are labels.)
    """
    units = _collect(rows, by)
    places = {"hash": _hash_places, "group": _group_places, "stratified": _stratified_places}[by](units)
    pinned = units.in_train | {units.of_record[parent] for parent in units.parents if parent in units.of_record}
    return {unit: "train" if unit in pinned else split_at(place, shares) for unit, place in places.items()}


def split_rows(rows: Iterable[Row], by: SplitBy, plan: dict[str, Split], counts: Counter[str]) -> Iterator[Row]:
    """The rows in the splits that `plan` gives them; `counts` is told how many moved."""
    for row in rows:
        split: Split = "train" if row.synthetic_of is not None else plan[unit(row, by)]
        counts["moved"] += split != row.split
        yield row if split == row.split else row.model_copy(update={"split": split})


def unit(row: Row, by: SplitBy) -> str:
    """What `row` must stay together with: its group, or a hash of its question; empty without a group."""
    if by == "group":
        return row.group or ""
    return hash_of(question_key(row.record))


def _collect(rows: Iterable[Row], by: SplitBy) -> _Units:
    units = _Units()
    lacking = Counter[str]()
    for row in rows:
        key = unit(row, by)
        units.of_record[row.id] = key
        if row.synthetic_of is not None:
            units.parents.add(row.synthetic_of)
            units.in_train.add(key)
            continue
        label = row.record.label if isinstance(row.record, LabelledRecord) else None
        lacking["group"] += not key
        lacking["label"] += label is None
        units.rows[key] += 1
        units.labels.setdefault(key, label or "")
    total = units.rows.total()
    if by == "group" and lacking["group"]:
        raise DataError(
            f"{lacking['group']} of {total} rows have no group; import the file with --group-column COLUMN, "
            "or split --by hash"
        )
    if by == "stratified" and lacking["label"]:
        raise DataError(
            f"{lacking['label']} of {total} rows have no label to stratify by; split --by hash or --by group"
        )
    return units


def _hash_places(units: _Units) -> dict[str, float]:
    return {key: place_of(key) for key in units.rows}


def _group_places(units: _Units) -> dict[str, float]:
    """The middle of each group, with all rows laid out in a line."""
    places, before, total = dict[str, float](), 0, units.rows.total()
    for key in sorted(units.rows, key=lambda key: (position(key), key)):
        places[key] = 100 * (before + units.rows[key] / 2) / total
        before += units.rows[key]
    return places


def _stratified_places(units: _Units) -> dict[str, float]:
    """Each label's questions evenly along the line. Labels start at places of their own, or what is lost by rounding
    would be lost to all of them on the same side."""
    by_label = defaultdict[str, list[str]](list)
    for key in sorted(units.rows):
        by_label[units.labels[key]].append(key)
    places = dict[str, float]()
    for label, keys in by_label.items():
        start = position(label) / 100
        places |= {key: 100 * (rank + start) / len(keys) for rank, key in enumerate(keys)}
        places[keys[0]] = 0.0
    return places


def plan_balance(rows: Iterable[Row], by: BalanceBy, at_most: int | None) -> tuple[set[int], int, str]:
    """The positions of the train rows that stay, how many each label or group may have, and the smallest one's name.

    Without `at_most` every label keeps as many as the smallest has. Rows that people wrote stay before those that a
    model made; of equals the row with the smaller id stays.
    """
    there = defaultdict[str, list[tuple[bool, str, int]]](list)
    for place, row in enumerate(rows):
        if row.split != "train":
            continue
        label = row.record.label if isinstance(row.record, LabelledRecord) else None
        name = row.group if by == "group" else label
        if name is None:
            raise DataError(f"record {row.id} has no {by}, so train cannot be balanced by {by}; {_NEXT[by]}")
        there[name].append((row.synthetic_of is not None, row.id, place))
    if not there:
        raise DataError("there are no rows in train; nothing to balance")
    smallest = min(there, key=lambda name: (len(there[name]), name))
    limit = at_most or len(there[smallest])
    return {place for found in there.values() for _, _, place in sorted(found)[:limit]}, limit, smallest


_NEXT: dict[BalanceBy, str] = {
    "label": "only texts with one label each have one, other kinds can be balanced --by group",
    "group": "import the file with --group-column COLUMN",
}


def balance_rows(rows: Iterable[Row], stay: set[int], counts: Counter[str]) -> Iterator[Row]:
    """The rows without those of train whose position is not in `stay`; `counts` is told how many went."""
    for place, row in enumerate(rows):
        dropped = row.split == "train" and place not in stay
        counts["dropped"] += dropped
        if not dropped:
            yield row
