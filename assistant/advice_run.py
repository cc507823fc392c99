"""The advisor's run: every arm is made and measured, as far as the budget goes; then the verdict.

First all that is cheap to make, then the trained arms in rounds on more and more records (successive halving on the
validation records), then what is made of both, then other base models. Those that may still win are asked the test
records at the end; what time is left goes into learning curves and repeats.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.base_model import BaseModel, prepare
from adapters.exam_asking import Gateway
from adapters.holding import held, holder
from adapters.registry import Registry
from assistant import advice_results
from assistant.advice_arms import arms_for
from assistant.advice_bench import BASELINE, Bench
from assistant.advice_budget import GOOD_ROWS, earlier_example_s, in_rounds, is_trained, ladder, rungs
from assistant.advice_files import Asked as Asked
from assistant.advice_files import Journal, Notes, advice_id, load, save
from assistant.advice_lab import Lab
from assistant.advice_other import OtherArm, other_arms, other_base
from assistant.advice_steps import Steps
from assistant.advice_task import read_records, read_task
from assistant.advice_types import Advice, Arm, Records, Task
from data.errors import BrogueError, one_line, unknown
from data.home import Home
from data.settings import load_settings

Tell = Callable[[str], None]
TEST = 200  # records, where nobody says otherwise
ENGINE_S = 150.0  # to start another base model's
QUICK_S = 30.0  # to make an arm; learning curves of what takes longer come last


def run_advice(home: Home, asked: Asked, gateway: Gateway, tell: Tell) -> Advice:
    """The advice that is asked for: read if it is complete, else begun or gone on with.

    Whatever ends it early, the same call goes on where it was. Raises `BrogueError`: data that does not fit, an arm
    that is not known, a gateway that is away.
    """
    settings = load_settings(home.settings_file)
    path = asked.knowledge and Path(asked.knowledge).absolute()
    minutes = asked.budget_minutes or settings.advisor.budget_minutes
    asked = asked.model_copy(update={"budget_minutes": minutes, "knowledge": path})
    task = read_task(home, asked.data, metric=asked.metric)
    records = read_records(home, task, limit=asked.limit or TEST)
    base = prepare(settings.base_model, home, tell)
    id = advice_id(home, asked, task, base)
    notes = Notes(home, id)
    with held(notes.lock, lambda: f"this very advice is being worked out already (process {holder(notes.lock)})"):
        journal = notes.begin(asked)
        if journal.complete:
            return load(home, id)
        return Run(home, id, task, records, base, gateway, notes, journal, tell).advice()


class Run:
    """One run, from where it was."""

    def __init__(self, home: Home, id: str, task: Task, records: Records, base: BaseModel, gateway: Gateway,
                 notes: Notes, journal: Journal, tell: Tell) -> None:  # fmt: skip
        self._home, self._id, self._task, self._records, self._base = home, id, task, records, base
        self._asked = asked = journal.asked
        settings = load_settings(home.settings_file)
        arms = arms_for(task, records._replace(test=[]), settings, asked.knowledge is not None)
        others = other_arms(arms, settings.advisor.other_bases)
        chosen = _chosen(asked.arms, [*arms, *(other.arm for other in others)])
        self._own = [arm for arm in arms if arm.name in chosen]
        self._others = [other for other in others if other.arm.name in chosen]
        known = [*self._own, *(other.arm for other in self._others)]
        self._steps = Steps(known, task, records, notes, journal, earlier_example_s(Registry(home), base), tell)
        lab = Lab(home, id, task, base, gateway, asked.seed, self._steps.say, asked.knowledge)
        self._bench = Bench(lab, records, notes, self._steps.noted)

    def advice(self) -> Advice:
        """All of it, to the verdict."""
        steps = self._steps
        steps.keep(complete=False)
        try:
            self._cheap()
            self._trained()
            self._once()
            self._other_bases()
            self._tests(self._own, self._bench)
            self._curves(QUICK_S)
            for arm in self._alive():
                steps.ask_again(self._bench, arm)
            self._late_tests()
            self._curves(math.inf)
        finally:
            steps.keep()
        results = advice_results.results(self._home, [(arm, steps.tried(arm)) for arm in steps.arms])
        found = advice_results.advice(self._id, self._asked, self._task, self._records, self._base, results,
                                      steps.clock.spent_s / 60)  # fmt: skip
        save(self._home, found)
        steps.keep(complete=True)
        return found

    def _cheap(self) -> None:
        """What takes seconds to make, of all training records."""
        cheap = [arm for arm in self._own if not in_rounds(arm)]
        for arm in cheap:
            self._steps.try_out(self._bench, arm, self._steps.train)
        self._steps.drop(cheap, self._steps.train)

    def _trained(self) -> None:
        """The trained arms and slow specialists, in rounds; after each those are dropped that cannot win any more."""
        steps = self._steps
        arms = [arm for arm in self._own if in_rounds(arm) and arm.learns and not steps.after_training(arm)]
        if arms and not steps.journal.ladder:
            self._plan(arms)
        rounds = steps.journal.ladder
        for number, rows in enumerate(rounds):
            going = steps.best_first(arms)
            for arm in going:
                later = 0.0 if arm is going[0] else sum(steps.step_s(going[0].name, n) for n in rounds[number + 1 :])
                steps.try_out(self._bench, arm, rows, later)
            steps.drop(arms, rounds[-1])

    def _plan(self, arms: Sequence[Arm]) -> None:
        """How many records the trained arms learn from in each round, by the time there is; noted, so that it stays."""
        steps = self._steps
        if not steps.pace.knows_training:  # the first training is the measurement
            first = next((arm for arm in arms if is_trained(arm)), arms[0])
            steps.try_out(self._bench, first, min(steps.train, GOOD_ROWS // 4))
        questions = len(self._records.validation)
        found = ladder(steps.train, [arm.name for arm in arms], steps.pace, questions, steps.free_s)
        for arm in arms[found.arms :]:
            if steps.tried(arm).rows is None:
                steps.leave(arm, f"no time: it has room for {found.arms or 'none'} of {len(arms)} trainings")
        steps.keep(ladder=found.rounds)

    def _once(self) -> None:
        """What is made of a trained arm and something else, as that arm was trained last; and what is trained without
        rounds, of as many records as the last of them, since it takes an engine of its own."""
        steps = self._steps
        combined = [arm for arm in self._own if steps.after_training(arm)]
        for arm in combined:
            rows = [steps.notes.tried(need).rows or steps.train for need in steps.after_training(arm)]
            steps.try_out(self._bench, arm, rows[0])
        alone = [arm for arm in self._own if is_trained(arm) and not arm.learns and arm not in combined]
        for arm in alone:
            steps.try_out(self._bench, arm, self._most_rows, ENGINE_S)
        steps.drop([*combined, *alone], 0)

    @property
    def _most_rows(self) -> int:
        """That trained arms learn from."""
        return self._steps.journal.ladder[-1] if self._steps.journal.ladder else self._steps.train

    def _other_bases(self) -> None:
        """Arms of other base models, one engine at a time; they are tested while it runs."""
        for setting in dict.fromkeys(other.base for other in self._others):
            group = [other for other in self._others if other.base == setting]
            if all(self._is_settled(other.arm) for other in group):
                continue
            if self._steps.fits(ENGINE_S + self._steps.step_s(BASELINE, self._steps.train)):
                self._other_base(setting, group)
            else:
                for other in group:
                    self._steps.leave(other.arm, "no time for another base model's engine")

    def _other_base(self, setting: str, group: Sequence[OtherArm]) -> None:
        steps = self._steps
        try:
            with other_base(self._home, self._id, setting, steps.say) as own:
                lab = Lab(own.home, self._id, self._task, own.base, own.gateway, self._asked.seed, steps.say)
                bench = Bench(lab, self._records, steps.notes, steps.noted, setting)
                for other in group:
                    count = self._most_rows if in_rounds(other.inner) else steps.train
                    steps.try_out(bench, other.arm, count, inner=other.inner)
                steps.drop([other.arm for other in group], 0)
                self._tests([other.arm for other in group], bench)
        except BrogueError as error:
            for other in group:
                if not self._is_settled(other.arm):
                    steps.fail(other.arm, one_line(error))

    def _is_settled(self, arm: Arm) -> bool:
        tried = self._steps.tried(arm)
        return tried.is_tested or bool(tried.stopped or tried.left)

    def _tests(self, arms: Sequence[Arm], bench: Bench) -> None:
        """The test records: the prompt alone first, then all that may win, and the best of either sort in any case."""
        steps = self._steps
        going = steps.best_first([arm for arm in arms if steps.tried(arm).rows is not None])
        sorts = [[arm for arm in going if is_trained(arm) is trained] for trained in (False, True)]
        wanted = [arm for arm in going if arm.name == BASELINE]
        wanted += [arm for arm in going if steps.tried(arm).alive] + [sort[0] for sort in sorts if sort]
        for arm in wanted:
            steps.ask_test(bench, arm)

    def _alive(self) -> list[Arm]:
        steps = self._steps
        return steps.best_first([arm for arm in self._own if steps.tried(arm).alive])

    def _curves(self, most_s: float) -> None:
        """What is missing of the learning curves of those that may win and take no longer to make, the best first."""
        steps = self._steps
        for arm in self._alive():
            if not arm.learns or steps.after_training(arm) or steps.pace.making_s(arm.name, steps.train) > most_s:
                continue
            for rows in rungs(steps.tried(arm).rows or 0)[:-1]:
                steps.more_of(self._bench, arm, rows)

    def _late_tests(self) -> None:
        """The dropped ones too, if there is time: how far behind they are is worth knowing."""
        for arm in self._steps.best_first(self._own):
            if self._steps.tried(arm).stopped and self._steps.fits_test(arm):
                self._steps.ask_test(self._bench, arm)


def _chosen(names: Sequence[str], arms: Sequence[Arm]) -> set[str]:
    """The names that are asked for, with what these need; all of them where none are named."""
    known = {arm.name: arm for arm in arms}
    found, open_ = set[str](), list(names or known)
    while open_:
        name = open_.pop()
        if name not in known:
            raise unknown("arm", name, list(known), "See: docs/advisor.md")
        if name not in found:
            found.add(name)
            open_ += known[name].needs
    return found
