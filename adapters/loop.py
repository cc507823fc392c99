"""The loop from judgements to a better version: which steps it has, how far each round is, what came of it.

A round of an adapter is a folder `<home>/loops/<adapter>-<n>/` with one file, `state.json`, replaced whole after each
step. A step that stands in it is never done again; one that a kill cut off is begun again and finds what is there
(a dataset by its name, a version by the dataset it learnt from, a training by its run, kept answers of the exam).
What each step does is handed in (assistant/retrain.py). Pure files: no torch, no network.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import AwareDatetime, Field, ValidationError

from adapters.holding import held
from adapters.holding import holder as _holder
from adapters.recipes import SCORED
from adapters.registry import AdapterCard, Registry
from data.errors import BrogueError, one_line
from data.home import Home, write_json
from data.settings import Frozen

StepName = Literal["collect", "reward", "train", "exam", "gate", "place"]
STEPS: tuple[StepName, ...] = get_args(StepName)
RECIPES = ("dpo", "ppo", "sft", "kto")  # those that learn from judgements
PAIRED = ("dpo", *SCORED)  # of these a reward model is made: to learn from, or to judge the exam
STATE, LOCK = "state.json", "lock"


class Asked(Frozen):
    """What a round was asked to do."""

    adapter: str
    recipe: str = "dpo"
    auto: bool = False  # a version that passes goes live
    canary: int | None = Field(None, ge=1, le=99)  # percent of the traffic that it is tried on instead
    everything: bool = False  # also what was said before the version that training starts from
    suite: str | None = None
    gate: str | None = None
    options: dict[str, Any] = {}  # of the training, by the names of `TrainConfig`
    seed: int = 0


class Done(Frozen):
    """A step that is complete."""

    minutes: float  # of all attempts, but those that a kill ended
    result: dict[str, Any]  # what came of it, for the next steps and for people


class Round(Frozen):
    """A round as it stands."""

    adapter: str
    number: int
    asked: Asked
    start: str  # `name@n`: the version that training starts from, and that it is compared with
    since: AwareDatetime | None  # the judgements' time
    until: AwareDatetime  # not included
    created: AwareDatetime
    steps: dict[StepName, Done] = {}
    doing: StepName | None = None
    spent: float = 0  # minutes of attempts at the next step
    error: str | None = None  # why it stopped, as it was told

    @property
    def id(self) -> str:
        return f"{self.adapter}-{self.number}"

    @property
    def dataset(self) -> str:
        return f"{self.adapter}-round-{self.number}"

    @property
    def judge(self) -> str:
        """The adapter whose versions are the reward models."""
        return f"{self.adapter}-reward"

    @property
    def names(self) -> tuple[StepName, ...]:
        """The steps of this round."""
        return tuple(name for name in STEPS if name != "reward" or self.asked.recipe in PAIRED)

    @property
    def complete(self) -> bool:
        return all(name in self.steps for name in self.names)

    def came_of(self, step: StepName, what: str) -> Any:
        """Something that came of a step; none as long as it is not complete."""
        return self.steps[step].result.get(what) if step in self.steps else None

    @property
    def version(self) -> str | None:
        """What was trained, `name@n`."""
        found: str | None = self.came_of("train", "version")
        return found


Step = Callable[[Round], dict[str, Any]]
Tell = Callable[[str], None]


def begin(home: Home, asked: Asked) -> Round:
    """The adapter's unfinished round, or a new one. Raises `BrogueError` if an unfinished one was asked differently.

    Nothing of a new one is written yet.
    """
    known = rounds(home, asked.adapter)
    if known and not known[-1].complete:
        if known[-1].asked != asked:
            raise BrogueError(
                f"round {known[-1].number} of {asked.adapter} is not complete ({where(known[-1])}) and was asked "
                f"otherwise: {words(known[-1].asked)}. Give that again, or drop it: brogue retrain "
                f"{asked.adapter} --drop"
            )
        return known[-1]
    start, now = Registry(home).resolve(asked.adapter), datetime.now(UTC)
    number = max((one.number for one in known), default=0) + 1
    while (home.datasets / f"{asked.adapter}-round-{number}").exists():  # somebody's own
        number += 1
    since = None if asked.everything else learnt_until(start, known)
    return Round(adapter=asked.adapter, number=number, asked=asked, start=start.name, since=since, until=now,
                 created=now)  # fmt: skip


def learnt_until(start: AdapterCard, known: list[Round]) -> datetime:
    """Until when a version has learnt from judgements: as its round collected them, else when it was made."""
    made = next((one for one in known if one.version == start.name), None)
    return made.until if made else datetime.fromisoformat(start.created).astimezone(UTC)


def run(home: Home, state: Round, steps: Mapping[StepName, Step], tell: Tell) -> Round:
    """Do what is left of a round, and write down after each step how far it is. Gives the whole of it."""
    state = state.model_copy(update={"error": None})
    for number, name in enumerate(state.names, 1):
        if name in state.steps:
            tell(f"{number}/{len(state.names)} {name}: complete before")
            continue
        state = state.model_copy(update={"doing": name})
        _write(home, state)
        tell(f"{number}/{len(state.names)} {name}")
        began = time.monotonic()
        try:
            result = steps[name](state)
        except BaseException as error:  # Ctrl-C, too
            told = one_line(error) if isinstance(error, BrogueError) else None
            _write(home, state.model_copy(update={"doing": None, "error": told, "spent": _spent(state, began)}))
            raise
        done = Done(minutes=_spent(state, began), result=result)
        state = state.model_copy(update={"steps": {**state.steps, name: done}, "doing": None, "spent": 0})
        _write(home, state)
    return state


def _spent(state: Round, began: float) -> float:
    return round(state.spent + (time.monotonic() - began) / 60, 2)


def rounds(home: Home, adapter: str) -> list[Round]:
    """The rounds of an adapter, the first one first. A file that cannot be read is told in one line."""
    found = []
    for path in _folder(home).glob(f"{adapter}-[0-9]*/{STATE}"):
        try:
            state = Round.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise BrogueError(f"{path}: not a round of the loop ({one_line(error, 120)}); remove its folder") from error
        if state.adapter == adapter:  # `acme-2` is an adapter's name, too
            found.append(state)
    return sorted(found, key=lambda one: one.number)


def drop(home: Home, state: Round) -> None:
    """Forget an unfinished round; what it made (dataset, versions) stays."""
    path = _folder(home) / state.id / STATE
    path.unlink(missing_ok=True)
    path.parent.rmdir()


@contextmanager
def alone(home: Home, adapter: str) -> Iterator[None]:
    """Nobody else retrains this adapter; the kernel lets go of it when the process dies."""
    path = _lock(home, adapter)
    with held(path, lambda: f"{adapter} is being retrained already (process {_holder(path)}); wait for it, or stop it"):
        yield


def holder(home: Home, adapter: str) -> int | None:
    """The process that retrains an adapter now, if one does."""
    return _holder(_lock(home, adapter))


def where(state: Round) -> str:
    """How far a round is, for a person."""
    left = next((name for name in state.names if name not in state.steps), None)
    return "complete" if left is None else f"next: {left}{f'; it said: {state.error}' if state.error else ''}"


def arguments(asked: Asked) -> list[str]:
    """What stands behind `brogue` in the command that asks for this."""
    given = ["retrain", asked.adapter, "--recipe", asked.recipe, *(["--auto"] if asked.auto else [])]
    given += [] if asked.canary is None else ["--canary", str(asked.canary)]
    given += ["--all"] if asked.everything else []
    for name, value in (("--suite", asked.suite), ("--gate", asked.gate)):
        given += [name, value] if value else []
    for name, value in asked.options.items():
        given += ["--train-option", f"{name}={json.dumps(value)}"]
    return given + (["--seed", str(asked.seed)] if asked.seed else [])


def words(asked: Asked) -> str:
    """The command that asks for this."""
    return f"brogue {shlex.join(arguments(asked))}"


def _write(home: Home, state: Round) -> None:
    write_json(_folder(home) / state.id / STATE, state.model_dump(mode="json"))


def _folder(home: Home) -> Path:
    return home.root / "loops"


def _lock(home: Home, adapter: str) -> Path:
    return _folder(home) / f".{adapter}.{LOCK}"
