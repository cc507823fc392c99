"""A canary against stable: where both began, and what they did since. Pure Python.

Each gateway keeps its own trial. What another gateway counts is compared from where it stands when it is first read
after the start: what was heard of it before may be old, and what it counted long ago must not look new. What is lost by
that is what it counts in the seconds up to then. A gateway that could not reach the store when the trial began brings
with its next row what it counted until it can; nothing tells that apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from data.tallies import Tally

Pair = tuple[Tally, Tally]  # of stable and of the canary


@dataclass
class Trial:
    """A canary against stable, and the tallies that both began with: here, and in other gateways by their ids."""

    stable: int
    canary: int
    stable_before: Tally
    canary_before: Tally
    elsewhere: dict[str, Pair] = field(default_factory=dict)

    def begin_elsewhere(self, counted: Mapping[str, Pair]) -> bool:
        """Take in the other gateways' tallies as they are now; whether one of them begins to count from here.

        One does that is new since the start, and one that has lost what it had counted.
        """
        begun = False
        for gateway in counted.keys() | self.elsewhere.keys():
            pair, before = counted.get(gateway, (Tally(), Tally())), self.elsewhere.get(gateway)
            if before is None or any(now.answers < was.answers for now, was in zip(pair, before, strict=True)):
                self.elsewhere[gateway] = pair
                begun = True
        return begun

    def since(self, own: Pair, counted: Mapping[str, Pair]) -> Pair:
        """What stable and canary did since the start, here and in the gateways that have begun to count.

        The difference is taken of the sums: where a rating was changed at another gateway than it was given, it is
        minus one there.
        """
        begun = [(counted.get(gateway, before), before) for gateway, before in self.elsewhere.items()]
        stable = sum((now for (now, _), _ in begun), own[0]), sum((was for _, (was, _) in begun), self.stable_before)
        canary = sum((now for (_, now), _ in begun), own[1]), sum((was for _, (_, was) in begun), self.canary_before)
        return stable[0].since(stable[1]), canary[0].since(canary[1])
