"""The tallies of all gateways of a store: a row for each version and gateway.

A row holds all that its gateway ever counted and is written by that gateway alone, so that writing it twice changes
nothing, and what all rows of a version say together is the version's tally.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from data.store import Store
from data.store_schema import TallyRow
from data.tallies import Tally

_COUNTS = tuple(asdict(Tally()))


class Tallies:
    """The tallies of a store. Every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, gateway: str, counted: Mapping[tuple[str, int], Tally]) -> None:
        """Put a gateway's own tallies, by adapter and version, in the place of what stood there."""
        if not counted:
            return
        with self._store.writing() as session:
            insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(TallyRow)
            rows = [
                {"adapter": adapter, "version": version, "gateway": gateway, **asdict(tally)}
                for (adapter, version), tally in sorted(counted.items(), key=lambda item: item[0])
            ]
            anew = {name: insert.excluded[name] for name in _COUNTS}
            keys = ["adapter", "version", "gateway"]
            session.execute(insert.on_conflict_do_update(index_elements=keys, set_=anew), rows)

    def read(self, adapters: Collection[str] | None = None) -> dict[tuple[str, int], dict[str, Tally]]:
        """By adapter and version what each gateway counted; of these adapters, or of all."""
        query = select(TallyRow.adapter, TallyRow.version, TallyRow.gateway,
                       *(getattr(TallyRow, name) for name in _COUNTS))  # fmt: skip
        if adapters is not None:
            query = query.where(TallyRow.adapter.in_(sorted(adapters)))
        found: defaultdict[tuple[str, int], dict[str, Tally]] = defaultdict(dict)
        with self._store.reading() as session:
            for adapter, version, gateway, *counts in session.execute(query):
                found[adapter, version][gateway] = Tally(*counts)
        return dict(found)
