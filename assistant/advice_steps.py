"""The steps of the advisor's run: one arm made, measured, tested, dropped or left out, each if there is time for it.

advice_run.py says in which order. What was done before a kill is known and not done again, and what was decided then
(an arm that cannot win, one that there was no time for) stays decided.
"""

from collections.abc import Callable, Iterable, Sequence

from adapters.progress import duration
from assistant.advice_bench import ASKED_AGAIN, BASELINE, CHOSEN_ON, Bench
from assistant.advice_budget import Clock, Pace, is_trained
from assistant.advice_curves import hope
from assistant.advice_files import Journal, Notes, Tried
from assistant.advice_promising import cannot_win
from assistant.advice_types import Arm, Records, Task

Tell = Callable[[str], None]
CLOSING_S = 20.0  # for the verdict and the report


class Steps:
    """All arms of a run, what is known of each, and the time that is left."""

    def __init__(self, arms: Sequence[Arm], task: Task, records: Records, notes: Notes, journal: Journal,
                 earlier_s: float | None, tell: Tell) -> None:  # fmt: skip
        self.arms, self.notes, self.journal = list(arms), notes, journal
        self._task, self._tell, self._now = task, tell, ""
        self.train, self._chosen_on = len(records.train), min(CHOSEN_ON, len(records.validation))
        self._test = len(records.test)
        self.clock = Clock(journal.asked.budget_minutes or 0, journal.spent_s)
        self.pace = Pace(arms, earlier_s)
        for arm in arms:
            self.pace.learn(notes.tried(arm.name))

    def tried(self, arm: Arm) -> Tried:
        """What is known of an arm."""
        return self.notes.tried(arm.name)

    # --- one arm ---

    def try_out(self, bench: Bench, arm: Arm, rows: int, ahead_s: float = 0.0, inner: Arm | None = None) -> None:
        """Make and measure an arm if it may still win, what it needs is there, and there is time for it.

        `ahead_s`: seconds that must be left for more promising ones; `inner`: the arm as the bench's lab knows it.
        """
        tried = self.tried(arm)
        if rows in tried.validation or tried.stopped or tried.left or tried.failed:
            return
        if missing := [need for need in arm.needs if self.notes.tried(need).rows is None]:
            self.leave(arm, f"it needs {missing[0]}, which is not there")
            return
        needed = self.step_s(arm.name, rows) + self.pace.asking_s(arm.name, self._test)
        if arm.name != BASELINE and not self.fits(needed + ahead_s):
            what = f"{rows:,} training records" if tried.rows is not None else "it"
            self.leave(arm, f"no time: {what} would take about {duration(needed)}")
            return
        self._at(arm)
        bench.try_out(arm, rows, inner)

    def more_of(self, bench: Bench, arm: Arm, rows: int) -> None:
        """One more point of an arm's learning curve, if there is time."""
        if rows not in self.tried(arm).validation and self.fits(self.step_s(arm.name, rows)):
            self._at(arm)
            bench.try_out(arm, rows)

    def ask_test(self, bench: Bench, arm: Arm) -> None:
        """Ask an arm the test records, unless it was asked."""
        if not self.tried(arm).is_tested:
            self._at(arm)
            bench.ask_test(arm)

    def ask_again(self, bench: Bench, arm: Arm) -> None:
        """Ask some questions again, if there is time."""
        tried = self.tried(arm)
        if tried.is_tested and tried.consistency is None and self.fits(3 * self.pace.asking_s(arm.name, ASKED_AGAIN)):
            self._at(arm)
            bench.ask_again(arm)

    def leave(self, arm: Arm, why: str) -> None:
        """There is no time for it, or for more of it."""
        tried = self.tried(arm)
        self.notes.keep_tried(tried.model_copy(update={"left": tried.left or why}))

    def fail(self, arm: Arm, why: str) -> None:
        """It cannot be made."""
        self.notes.keep_tried(self.tried(arm).model_copy(update={"failed": why}))

    def drop(self, arms: Iterable[Arm], rows: int) -> None:
        """Stop those that cannot win, whatever learning from `rows` training records may bring them."""
        best = next(iter(self.best_first([arm for arm in self.arms if self.tried(arm).alive])), None)
        leader = self.tried(best).best if best is not None else None
        for arm in arms:
            tried = self.tried(arm)
            if leader is None or tried.best is None or not tried.alive or arm.name in (BASELINE, best and best.name):
                continue
            more = hope(tried.curve, rows, self._task) if arm.learns else 0.0
            cheaper = best is not None and arm.upkeep < best.upkeep  # it wins where it meets the target
            target = self.journal.asked.target if cheaper else None
            if why := cannot_win(tried.best, leader, more, self._task, self.journal.asked.seed, target):
                self.notes.keep_tried(tried.model_copy(update={"stopped": why}))

    # --- all of them ---

    def best_first(self, arms: Sequence[Arm]) -> list[Arm]:
        """By their figures on validation; those without any keep their order, after the others."""
        sign = -1 if self._task.better == "higher" else 1

        def key(arm: Arm) -> tuple[bool, float]:
            best = self.tried(arm).best
            return best is None, 0.0 if best is None else sign * best.main.value

        return sorted(arms, key=key)

    def after_training(self, arm: Arm) -> list[str]:
        """The trained arms that an arm is made of."""
        trained = {one.name for one in self.arms if is_trained(one)}
        return [need for need in arm.needs if need in trained]

    # --- time ---

    def step_s(self, arm: str, rows: int) -> float:
        """Seconds to make an arm and to measure it on validation."""
        return self.pace.making_s(arm, rows) + self.pace.asking_s(arm, self._chosen_on)

    @property
    def free_s(self) -> float:
        """Seconds that are left but for the tests of those that may win."""
        open_ = [one for one in map(self.tried, self.arms) if one.alive and not one.is_tested]
        reserved = sum(self.pace.asking_s(one.arm, self._test) for one in open_)
        return self.clock.left_s - reserved - CLOSING_S

    def fits(self, seconds: float) -> bool:
        """Whether there is time for it."""
        return seconds <= self.free_s

    def fits_test(self, arm: Arm) -> bool:
        """Whether there is time to ask an arm the test records."""
        return self.fits(self.pace.asking_s(arm.name, self._test))

    # --- what is noted and told ---

    def noted(self, tried: Tried) -> None:
        """A step is done."""
        self.pace.learn(tried)
        self.keep()

    def keep(self, **changes: object) -> None:
        """Write down how far the run is."""
        self.journal = self.journal.model_copy(update={**changes, "spent_s": self.clock.spent_s})
        self.notes.keep(self.journal)

    def say(self, text: str) -> None:
        """Tell what is done now, and the time."""
        left = self.clock.left_s
        self._tell(f"{self._now or 'advice'}, {text}; {f'at most {duration(left)} left' if left > 0 else 'closing'}")

    def _at(self, arm: Arm) -> None:
        place = next(number for number, one in enumerate(self.arms, 1) if one.name == arm.name)
        self._now = f"arm {place} of {len(self.arms)}: {arm.name}"
