"""What is counted of a version's answers. data/store_tallies.py keeps it for all gateways of a store."""

from dataclasses import asdict, dataclass


@dataclass
class Tally:
    """What became of one version's answers."""

    answers: int = 0
    errors: int = 0
    up: int = 0
    down: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.answers + other.answers, self.errors + other.errors, self.up + other.up, self.down + other.down
        )  # fmt: skip

    def since(self, before: "Tally") -> "Tally":
        """What was added to `before`; a rating that was changed later never makes it negative."""
        mine, theirs = asdict(self), asdict(before)
        return Tally(**{name: max(0, mine[name] - theirs[name]) for name in mine})
