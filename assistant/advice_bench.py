"""Arms on the bench: made, measured on validation, asked the test; every step is noted as soon as it is done."""

import time
from collections.abc import Callable, Sequence

import httpx

from adapters.exam_asking import Unreachable
from adapters.progress import Interrupted
from assistant.advice_arms import make
from assistant.advice_cost import memory
from assistant.advice_figures import consistency, measure
from assistant.advice_files import Notes, Tried
from assistant.advice_lab import Lab
from assistant.advice_room import ArmRoom
from assistant.advice_types import Arm, Figures, Ready, Records
from data.dataset import Row
from data.errors import BrogueError, one_line

BASELINE = "prompt"  # the arm that every other is an alternative to
CHOSEN_ON = 100  # validation records at most that tell which arms go on; what is chosen with them is tested afterwards
ASKED_AGAIN = 30  # questions, to see whether an arm's answers stay the same


class Bench:
    """The arms of one lab. `on_step` is told after each step what is known of the arm then."""

    def __init__(self, lab: Lab, records: Records, notes: Notes, on_step: Callable[[Tried], None],
                 base_model: str | None = None) -> None:  # fmt: skip
        """`base_model`: as settings name another one than the home's."""
        self._lab, self._notes, self._on_step, self._base_model = lab, notes, on_step, base_model
        self._seed = lab.seed
        self._chosen_on, self._test = records.validation[:CHOSEN_ON], records.test
        self._records = records._replace(test=[])  # no arm is made with a test record within its reach

    def try_out(self, arm: Arm, rows: int, inner: Arm | None = None) -> None:
        """Make an arm of the first `rows` training rows and measure it on validation. `inner`: as the lab knows it."""
        self._step(arm, lambda tried: self._tried_out(tried, inner or arm, arm, rows))

    def ask_test(self, arm: Arm) -> None:
        """Measure an arm, as it was made last, on the test records."""
        self._step(arm, self._tested)

    def ask_again(self, arm: Arm) -> None:
        """Whether its answers stay the same."""
        self._step(arm, self._asked_again)

    def _tried_out(self, tried: Tried, inner: Arm, arm: Arm, rows: int) -> Tried:
        if rows not in tried.ready:
            self._lab.tell("being made")
            began = time.monotonic()
            records = self._records._replace(train=self._records.train[:rows])
            ready = self._ready(inner, arm, records)
            tried = tried.model_copy(update={
                "ready": {**tried.ready, rows: ready}, "memory": memory(self._lab.home, ready, self._lab.base),
                "took": {**tried.took, f"make {rows}": time.monotonic() - began},
            })  # fmt: skip
            self._keep(tried)
        self._lab.tell("asked the validation records")
        began = time.monotonic()
        asked = self._chosen_on
        found = self._measured(tried.ready[rows], asked)
        took = {**tried.took, f"validation {rows}": time.monotonic() - began}
        return tried.model_copy(update={"validation": {**tried.validation, rows: found}, "took": took})

    def _ready(self, inner: Arm, arm: Arm, records: Records) -> Ready:
        needs = {of: self._notes.tried(name).last for name, of in zip(arm.needs, inner.needs, strict=True)}
        ready = make(self._lab, inner, records, {name: one for name, one in needs.items() if one is not None})
        return ready if inner is arm else ready.model_copy(update={"arm": arm.name, "base_model": self._base_model})

    def _tested(self, tried: Tried) -> Tried:
        assert tried.last is not None
        self._lab.tell("asked the test records")
        began = time.monotonic()
        found = self._measured(tried.last, self._test)
        took = {**tried.took, "test": time.monotonic() - began}
        return tried.model_copy(update={"test": found, "tested": tried.rows, "took": took, "consistency": None})

    def _asked_again(self, tried: Tried) -> Tried:
        assert tried.last is not None
        self._lab.tell("asked some questions again")
        began = time.monotonic()
        some = self._test[:ASKED_AGAIN]
        found = consistency(self._lab.task, self._room(tried.last, some), some, self._seed)
        took = {**tried.took, "consistency": time.monotonic() - began}
        return tried.model_copy(update={"consistency": found, "took": took})

    def _measured(self, ready: Ready, rows: Sequence[Row]) -> Figures:
        """Answers in words are told from those of the prompt alone, too, where these are known already."""
        prompt = self._notes.tried(BASELINE)
        known = prompt.is_tested if rows is self._test else prompt.last is not None
        beside = self._lab.task.kind == "words" and known and ready.arm != BASELINE and ready.base_model is None
        plain = self._room(prompt.last, rows) if beside and prompt.last is not None else None
        return measure(self._lab.task, self._room(ready, rows), rows, self._seed, plain, brief=rows is not self._test)

    def _room(self, ready: Ready, rows: Sequence[Row]) -> ArmRoom:
        return ArmRoom(self._lab, ready, rows)

    def _step(self, arm: Arm, work: Callable[[Tried], Tried]) -> None:
        """What goes wrong with one arm is noted; that the gateway is away ends the run, which can be taken up again."""
        try:
            self._keep(work(self._notes.tried(arm.name)))
        except Interrupted:
            raise
        except BrogueError as error:
            if isinstance(error, Unreachable) and not _answers(self._lab.gateway.url):
                raise
            self._keep(self._notes.tried(arm.name).model_copy(update={"failed": one_line(error)}))

    def _keep(self, tried: Tried) -> None:
        self._notes.keep_tried(tried)
        self._on_step(tried)


def _answers(url: str) -> bool:
    """Whether the gateway and its engine are there: then it was the arm's own fault."""
    try:
        return httpx.get(f"{url}/ready", timeout=30, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
