"""The exam: a version, what it is compared with and the base model answer the same prompts, scored by measures.

`run_exam` gives an `Exam` with all figures; the verdict is the gate's (gate.py). What was asked once is kept, so a kill
costs what was in the air, and an exam that was asked in the same words before is read from its file.
"""

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from adapters import exam_files
from adapters.base_model import BaseModel, prepare
from adapters.exam_asking import Gateway, Unreachable
from adapters.exam_kept import key_of
from adapters.exam_moved import most_moved
from adapters.exam_room import ExamRoom, is_file
from adapters.exam_statistics import measured
from adapters.exam_suites import suite_for
from adapters.exam_types import Arm, Exam, Measured, Part, Room, Scores, Suite
from adapters.measures import find
from adapters.registry import AdapterCard, Registry, refuse_scorer, require_scorer
from data.dataset import load_card
from data.errors import BrogueError
from data.formats_files import digest
from data.home import Home
from data.settings import load_settings

Tell = Callable[[str], None]


class Asked(NamedTuple):
    """A whole exam as it is asked, everything resolved."""

    version: AdapterCard
    against: AdapterCard | None  # none: there is no version before it
    suite: Suite
    judge: AdapterCard | None
    seed: int
    left_out: tuple[str, ...] = ()  # known before
    lenient: bool = False  # what cannot be measured is left out and named, as in a suite that nobody wrote


def plan(
    home: Home, version: str, *, against: str | None = None, suite: str | None = None, judge: str | None = None,
    limit: int | None = None, seed: int = 0,
) -> Asked:  # fmt: skip
    """What the names mean. `against`: none, the stable version, or the one before it if it is stable itself.

    `suite`: a name, a YAML file or a folder of JSONL files; none: what the home has. `limit`: items of each part at
    most. Raises `BrogueError` for what is not there.
    """
    registry = Registry(home)
    card = registry.resolve(version)
    refuse_scorer(card)
    before = registry.resolve(against) if against is not None else _before(registry, card)
    if before is not None and before.name == card.name:
        raise BrogueError(f"{card.name} cannot be examined against itself; name another: --against {card.adapter}@N")
    if before is not None:
        refuse_scorer(before)
    scorer = registry.resolve(judge) if judge is not None else None
    if scorer is not None:
        require_scorer(scorer)
    found, left = suite_for(home, card, suite)
    if limit is not None:
        parts = tuple(part.model_copy(update={"limit": min(limit, part.limit)}) for part in found.parts)
        found = found.model_copy(update={"parts": parts})
    return Asked(card, before, found, scorer, seed, tuple(left or ()), lenient=left is not None)


def _before(registry: Registry, card: AdapterCard) -> AdapterCard | None:
    """The stable version; if that is the one that is asked for, the one before it."""
    stable = registry.aliases(card.adapter).get("stable")
    if stable is not None and stable != card.version:
        return registry.card(card.adapter, stable)
    number = registry.previous(card.adapter)
    if number is None:
        earlier = [n for n in registry.versions(card.adapter) if n < card.version and registry.chats(card.adapter, n)]
        number = max(earlier, default=None)
    return None if number is None else registry.card(card.adapter, number)


def run_exam(home: Home, asked: Asked, gateway: Gateway, tell: Tell, again: bool = False) -> Exam:
    """Sit the exam and write it down; one that was sat before is read, unless it is to be measured `again`.

    Kept answers are never asked for again. Raises `BrogueError`: a gateway that is away, data that does not fit.
    """
    base = prepare(load_settings(home.settings_file).base_model, home, tell)
    id = exam_id(home, asked, base)
    if not again and id in exam_files.ids(home):
        return exam_files.load(home, id)
    began = time.monotonic()
    cards: dict[Arm, AdapterCard | None] = {"version": asked.version}
    cards |= {"against": asked.against} if asked.against is not None else {}
    cards["base"] = None
    room = ExamRoom(home, base, cards, gateway, asked.judge, asked.seed, tell)
    scores, left = sit(room, asked.suite, tell, asked.lenient)
    figures = [measured(one, room.arms, asked.seed) for one in scores]
    left += [f"{one.name}: it cannot be reckoned from these answers" for one in figures if not reckoned(one)]
    better, worse = most_moved(scores, "against" if asked.against is not None else "base")
    exam = Exam(
        id=id,
        adapter=asked.version.adapter,
        names={arm: card.name if card is not None else base.name for arm, card in cards.items()},
        suite=asked.suite,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        minutes=round((time.monotonic() - began) / 60, 2),
        seed=asked.seed,
        judge=asked.judge.name if asked.judge is not None else None,
        measures=tuple(one for one in figures if reckoned(one)),
        better=better,
        worse=worse,
        left_out=(*asked.left_out, *left),
    )
    exam_files.save(home, exam)
    return exam


def sit(room: Room, suite: Suite, tell: Tell, lenient: bool = False) -> tuple[list[Scores], list[str]]:
    """(the scores of every part, what was left out and why). Raises `BrogueError` for a part, unless `lenient`."""
    scores: list[Scores] = []
    left: list[str] = []
    for number, part in enumerate(suite.parts, 1):
        tell(f"part {number} of {len(suite.parts)}: {part.prefix}")
        try:
            found = find(part.measure)(room, part)
        except Unreachable:
            raise
        except BrogueError as error:
            if not lenient:
                raise BrogueError(f"part '{part.prefix}' of suite '{suite.name}': {error}") from error
            left.append(f"{part.prefix}: {error}")
        else:
            scores += found
    return scores, left


def reckoned(figure: Measured) -> bool:
    """Whether there is a number for every arm: a mean over nothing is none."""
    return bool(figure.arms) and all(math.isfinite(found.value) for found in figure.arms.values())


def exam_id(home: Home, asked: Asked, base: BaseModel) -> str:
    """`<adapter>-<n>-<8 hex of all that was asked>`: the same exam has the same id, whenever it is asked."""
    cards = [card.engine_name if card is not None else None for card in (asked.version, asked.against, asked.judge)]
    settings: Mapping[str, Any] = load_settings(home.settings_file).model_dump(mode="json")
    data = [_content(home, part) for part in asked.suite.parts]
    key = key_of(cards, base.sha256, asked.suite.model_dump(mode="json"), data, asked.seed, settings.get("prices"))
    return f"{asked.version.adapter}-{asked.version.version}-{key[:8]}"


def _content(home: Home, part: Part) -> str | None:
    """What stands for the content of a part's data."""
    if part.data is None:
        return None
    return digest(Path(part.data)) if is_file(part.data) else load_card(home, part.data).digest
