"""What the registry's files hold: a version's card, what changes of an adapter, what a gate said of a version.

Pure types, and how one state follows from another; `registry.py` reads and writes them.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from data.errors import BrogueError
from data.settings import Frozen

# How the engine answers in a version's voice: by the LoRA that was trained; by a LoRA that equals what was trained;
# with vectors before each prompt; from weights of the version's own, which take an engine of their own.
Served = Literal["native", "converted", "soft-prompt", "merged"]


class AdapterCard(Frozen):
    """What a version is: where it came from and what was measured of it."""

    adapter: str
    version: int
    base_model: str
    base_sha256: str
    dataset: str
    dataset_digest: str
    recipe: str
    method: str
    rank: int
    served: Served = "native"
    config: dict[str, Any]  # the whole training configuration
    labels: tuple[str, ...] = ()  # what a classification head chooses among, in the order of its outputs
    system_prompt: str | None  # what it was trained with and must be served with
    parent: int | None
    scores: dict[str, float]  # losses in nats per answer token
    minutes: float
    created: str
    files: dict[str, str]  # file name → sha256
    run: str | None = None  # id of the training that it came of

    @property
    def name(self) -> str:
        return f"{self.adapter}@{self.version}"

    @property
    def chats(self) -> bool:
        """Can it be talked to? Reward models give scores, classification heads give labels."""
        return self.recipe != "reward" and not self.config.get("head")

    @property
    def engine_name(self) -> str:
        """The name inside the engine: never used twice, since the prefix cache is keyed by it."""
        content = hashlib.sha256("".join(f"{n}:{h}\n" for n, h in sorted(self.files.items())).encode())
        return f"{self.name}-{content.hexdigest()[:6]}"


class Move(Frozen):
    """One move of an alias."""

    time: str  # ISO, UTC
    alias: str
    before: int | None
    after: int | None
    who: str
    why: str
    against: str = ""  # the verdict that it went against, in words: somebody forced it


class CanaryPlan(Frozen):
    """How the canary is tried out."""

    share: int = Field(10, ge=0, le=100)  # percent of the assistants' traffic on this adapter
    shadow: bool = False  # answer the stable version's questions too, in the background, never shown


class Mark(Frozen):
    """Something that became true of a version after it was trained. It never says whose data it was."""

    version: int
    time: str  # ISO, UTC
    what: Literal["forgotten"] = "forgotten"
    records: int  # how many of the records that it learnt from are concerned
    of: str  # a hash over their ids, so that the same is not marked twice

    @property
    def words(self) -> str:
        """The mark for a person, with what to do."""
        some = f"{self.records} record{'s' * (self.records > 1)}"
        return (
            f"learnt from {some} that brogue data forget removed on {self.time[:10]}; "
            "train a version without, and promote that"
        )


Result = Literal["pass", "fail", "not enough evidence"]


class RuleResult(Frozen):
    """What one rule of a gate says."""

    rule: str  # as written
    result: Result
    because: str  # one line with the figures
    more: int | None = None  # further items that would probably settle it


class Verdict(Frozen):
    """What a gate says of a version."""

    result: Result
    rules: tuple[RuleResult, ...]
    gate: str  # the rules' name
    exam: str  # id of the exam that it rests on
    time: str  # ISO, UTC

    @property
    def more(self) -> int | None:
        """Further items after which every open rule would probably be settled; none if nobody can say."""
        open_ = [rule.more for rule in self.rules if rule.result == "not enough evidence"]
        known = [more for more in open_ if more is not None]
        return max(known) if known and len(known) == len(open_) else None

    @property
    def words(self) -> str:
        """The verdict for a person, in one line."""
        about = f"gate '{self.gate}', exam {self.exam}"
        if self.result == "pass":
            return f"passed its exam ({about})"
        against = [rule.because for rule in self.rules if rule.result == self.result]
        first = f": {against[0]}" if against else ""
        others = f", and {len(against) - 1} more" if len(against) > 1 else ""
        verb = "failed its exam" if self.result == "fail" else "has too little evidence for a verdict"
        enough = f"; about {self.more} more items would probably settle it" if self.more else ""
        return f"{verb} ({about}){first}{others}{enough if self.result != 'fail' else ''}"


class AdapterState(Frozen):
    """What changes of an adapter."""

    aliases: dict[str, int] = {}
    canary: CanaryPlan | None = None
    retired: tuple[int, ...] = ()
    history: tuple[Move, ...] = ()  # oldest first
    marks: tuple[Mark, ...] = ()  # oldest first

    def marks_of(self, version: int) -> list[Mark]:
        """What a version is marked with."""
        return [mark for mark in self.marks if mark.version == version]


def moved(state: AdapterState, alias: str, version: int | None, who: str, why: str,
           plan: CanaryPlan | None, against: str = "") -> AdapterState:  # fmt: skip
    """The state after a move, with the moves that follow from it."""
    moves = {alias: (version, why)}
    if alias == "stable":
        moves |= {a: (None, "it became stable") for a, n in state.aliases.items() if n == version and a != "stable"}
    aliases = {a: n for a, n in state.aliases.items() if a not in moves}
    aliases |= {a: n for a, (n, _) in moves.items() if n is not None}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    history = [
        Move(time=now, alias=a, before=state.aliases.get(a), after=n, who=who, why=reason,
             against=against if a == alias else "")
        for a, (n, reason) in moves.items()
    ]  # fmt: skip
    canary = plan if alias == "canary" else state.canary if "canary" in aliases else None
    return state.model_copy(update={"aliases": aliases, "canary": canary, "history": (*state.history, *history)})


def require_scorer(card: AdapterCard) -> None:
    """Only a reward model can score answers."""
    if card.recipe != "reward":
        raise BrogueError(f"{card.name} is no reward model (recipe {card.recipe}); train one: --recipe reward")


def refuse_scorer(card: AdapterCard) -> None:
    """A reward model gives numbers, a classification head labels: no answers."""
    if not card.chats:
        what = "a reward model: it scores answers" if card.recipe == "reward" else "a classifier: it labels texts"
        raise BrogueError(
            f"{card.name} is {what} and cannot chat. Promote a version of another recipe: brogue adapters list"
        )


def require_classifier(card: AdapterCard) -> None:
    """Only a classification head can label texts without an engine."""
    if not card.labels:
        raise BrogueError(f"{card.name} is no classifier (recipe {card.recipe}); train one: --recipe labelled --head")
