"""The base model's engines as they are: which of them requests may go to, how each is, how their slots are used."""

from collections.abc import Sequence
from typing import NamedTuple

import httpx

from serve.engine_api import Unavailable
from serve.replica import Replica


class SlotUse(NamedTuple):
    """Of adapter slots."""

    total: int
    in_use: int
    wanted: int  # distinct versions that hold one or wait for one
    waiting: int  # requests


class Rotation:
    """Engines, some of which requests may go to. Nothing here changes them."""

    def __init__(self, engines: Sequence[Replica]) -> None:
        self._all = engines

    @property
    def clients(self) -> list[httpx.AsyncClient]:
        """To each engine, also to those that are away."""
        return [replica.client for replica in self._all]

    @property
    def are_behind(self) -> bool:
        """Is there any to be brought up to date?"""
        return any(replica.is_behind for replica in self._all)

    @property
    def open(self) -> list[Replica]:
        """Those that requests may go to."""
        return [replica for replica in self._all if replica.is_open]

    @property
    def are_dead(self) -> bool:
        """None of them will come back by itself."""
        return all(replica.is_dead for replica in self._all)

    def why_closed(self) -> str | None:
        """Why no request can be answered now, or none."""
        if self.open:
            return None
        reasons = {replica.name: replica.why_closed or "" for replica in self._all}
        if len(reasons) == 1:
            return next(iter(reasons.values()))
        return f"none of {len(reasons)} engines can answer: {'; '.join(f'{n}: {why}' for n, why in reasons.items())}"

    def states(self) -> list[dict[str, str | int]]:
        """Each engine, for whoever runs them."""
        return [
            {"name": one.name, "state": "ready" if one.is_open else "out of rotation", "detail": one.why_closed or "",
             "answers_now": one.busy, "adapters": len(one.loader.loaded)}
            for one in self._all
        ]  # fmt: skip

    def slots(self) -> SlotUse:
        """Of all engines that are open."""
        each = [one.loader.slots for one in self.open or self._all]
        wanted = {name for slots in each for name in slots.wanted_names}
        in_use, waiting = sum(slots.in_use for slots in each), sum(slots.waiting() for slots in each)
        return SlotUse(sum(slots.total for slots in each), in_use, len(wanted), waiting)

    def waiting(self, name: str) -> int:
        """Requests of a version, by its engine name, that wait for a slot."""
        return sum(replica.loader.slots.waiting(name) for replica in self._all)

    def why_missing(self) -> str:
        """Why fewer engines than there are can answer, in one line."""
        away = [f"{one.name} is {one.why_closed}" for one in self._all if not one.is_open]
        return "; ".join(away)

    def _least_busy(self, among: Sequence[Replica], name: str | None = None) -> Replica:
        """Where a request waits least: first of all where the version has a slot or finds one."""
        if not among:
            raise Unavailable(self.why_closed() or "no engine can answer now")
        return min(among, key=lambda one: (name is not None and not one.loader.slots.is_free_for(name), one.busy))
