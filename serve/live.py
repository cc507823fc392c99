"""Which version each alias means to the requests that come in now.

The registry on disk says what people want; this map says what is live: a version gets here only after it was loaded
and has answered. A request looks its alias up once, at its start, without touching a file.
"""

from collections.abc import Mapping

from adapters.registry import AdapterCard, AdapterState, Registry
from data.errors import UnknownName

_ORDER = {"stable": 0, "canary": 1, "candidate": 2}


class LiveMap:
    """An immutable snapshot of adapter states, replaced in one assignment; cards are read once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cards: dict[tuple[str, int], AdapterCard] = {}
        self._previous: dict[str, int | None] = {}
        self.states: Mapping[str, AdapterState] = {}
        for adapter, state in registry.states().items():
            self.put(adapter, state)

    def put(self, adapter: str, state: AdapterState | None) -> None:
        """Make a state live; none: the adapter is gone."""
        others = {name: kept for name, kept in self.states.items() if name != adapter}
        self._previous[adapter] = self._registry.previous(adapter) if state is not None else None
        self.states = others if state is None else {**others, adapter: state}

    def previous(self, adapter: str) -> int | None:
        """Where a roll back goes."""
        return self._previous.get(adapter)

    def alias(self, adapter: str, alias: str) -> int | None:
        """The version that an alias means now."""
        state = self.states.get(adapter)
        return state.aliases.get(alias) if state else None

    def card(self, adapter: str, version: int) -> AdapterCard:
        """The card of a version, also of one that is no longer on disk but still live."""
        if (adapter, version) not in self._cards:
            self._cards[adapter, version] = self._registry.card(adapter, version)
        return self._cards[adapter, version]

    def resolve(self, reference: str) -> AdapterCard:
        """The card meant by `name`, `name@alias` or `name@n`; what is not known here is looked for on disk."""
        adapter, _, which = reference.partition("@")
        state = self.states.get(adapter)
        if state is not None and which.isdecimal() and len(which) < 10:
            if int(which) in state.retired:
                raise UnknownName(f"{reference} was retired; see: brogue adapters list")
            return self.card(adapter, int(which))
        version = state.aliases.get(which or "stable") if state is not None else None
        return self._registry.resolve(reference) if version is None else self.card(adapter, version)

    def aliased(self) -> list[tuple[str, int]]:
        """Versions with an alias, the most important first."""
        found = [(_ORDER.get(alias, 9), name, n) for name, s in self.states.items() for alias, n in s.aliases.items()]
        return list(dict.fromkeys((name, n) for _, name, n in sorted(found)))

    def canaries(self) -> dict[str, tuple[int, int]]:
        """By adapter the versions that are being compared: stable and canary."""
        pairs = ((name, s.aliases.get("stable"), s.aliases.get("canary")) for name, s in self.states.items())
        return {name: (stable, canary) for name, stable, canary in pairs if stable is not None and canary is not None}

    def kept(self) -> list[tuple[str, int]]:
        """Versions that stay loaded, the most important first: the aliased, then those to roll back to."""
        previous = sorted((name, n) for name, n in self._previous.items() if n is not None)
        return list(dict.fromkeys([*self.aliased(), *previous]))
