"""How long steps of the loop take that were never done here: reckoned from a few answers and steps, asked and measured.

The engine writes a handful of the exam's answers, a training takes three steps on random tokens; what a round of PPO or
an exam would ask is counted (adapters/exam_counting.py). What is reckoned is a bound: reality is mostly shorter.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from adapters import runs
from adapters.base_model import BaseModel, prepare
from adapters.exam_asking import Gateway, Unreachable, ask
from adapters.exam_room import GREEDY
from adapters.exam_types import Answer
from adapters.loop import PAIRED, Round
from adapters.ppo import PPOConfig
from adapters.registry import Registry
from assistant.exams import running
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings

ROWS, TOKENS = 8, 256  # of the measured steps
READING = 0.5  # of a training step's time, at most: it has no backward pass
HELD_OUT = 4 * 64  # answers at most that ppo has written and scored before and after it
PAIR_TOKENS = 128  # of a question with an answer, where people's choices are not collected yet
HELLO = {"messages": [{"role": "user", "content": "Hello, who are you?"}], **GREEDY}  # if the suite asks nothing
Found = tuple[float | None, str]  # minutes, and how they are known


class Probe:
    """What this machine takes for a round's steps; each thing is measured once, when it is first wanted."""

    def __init__(self, home: Home, state: Round, tell: Callable[[str], None]) -> None:
        self._home, self._state, self._tell = home, state, tell

    def training(self, rows: int, passes: int) -> Found:
        """A training on so many rows; a pair counts for two."""
        from adapters.planning import steps

        seconds = steps(rows, ROWS, passes) * ROWS * TOKENS * self._per_token
        return round(seconds / 60, 1), "measured with three steps"

    def ppo(self, config: PPOConfig) -> Found:
        """By the rounds of earlier runs for this base model, else by a round's answers and the measured steps."""
        rounds = config.rounds + HELD_OUT / config.batch_size
        if earlier := self._earlier(config):
            seconds, run = earlier
            return round(rounds * seconds / 60, 1), f"by the rounds of {run}"
        answers = self._asked({"max_tokens": config.max_new_tokens, "temperature": config.temperature})
        if not answers:
            return None, "nothing"
        row = statistics.fmean(answer.prompt_tokens for answer in answers) + config.max_new_tokens
        updates = (config.epochs + 1) * config.batch_size * row * self._per_token  # one more for all that is only read
        seconds = updates + config.batch_size * self._seconds(answers)
        return round(rounds * seconds / 60, 1), f"at most, by {len(answers)} answers and three steps"

    def exam(self, test: int) -> Found:
        """An exam of the version that is to come; `test`: held-out records of its own."""
        answers = self._asked({})
        if not answers:
            return None, "nothing"
        from adapters.counting import token_counter

        questions, tokens = len(self._work.questions), sum(token_counter(self._base.path)(self._work.read))
        if self._state.asked.recipe in PAIRED and not self._choices_are_counted:  # they are not collected yet
            questions, tokens = questions + 3 * test, tokens + 6 * test * PAIR_TOKENS
        seconds = questions * self._seconds(answers) + tokens * self._per_token * READING
        return round(seconds / 60, 1), f"at most, by {len(answers)} answers and three steps"

    def _earlier(self, config: PPOConfig) -> tuple[float, str] | None:
        """(seconds of a round with so many answers, the newest run that has rounds)."""
        for run in runs.all_runs(self._home):
            if run.recipe == "ppo" and run.asked.base_sha256 == self._base.sha256:
                took = [line["seconds"] for line in runs.metrics(self._home, run.id) if "seconds" in line]
                answers = 2 * int(run.asked.config.get("batch_size") or 0)
                if took and answers:
                    return statistics.fmean(took) * config.batch_size / answers, run.id
        return None

    @cached_property
    def _base(self) -> BaseModel:
        return prepare(load_settings(self._home.settings_file).base_model, self._home, self._tell)

    @cached_property
    def _per_token(self) -> float:
        """Seconds of a training for each token."""
        from adapters import methods, planning

        self._tell("measuring three steps")
        speed = planning.measure(self._base, methods.find("lora"), 8, ROWS, TOKENS)
        return speed.seconds_per_step / (ROWS * TOKENS)

    @cached_property
    def _suite(self) -> Any:
        from adapters import exam

        return exam.plan(self._home, self._state.start, suite=self._state.asked.suite).suite

    @property
    def _choices_are_counted(self) -> bool:
        return any(part.measure == "preference" and part.data is not None for part in self._suite.parts)

    @cached_property
    def _work(self) -> Any:
        from adapters.exam_counting import counted

        self._tell("counting what an exam would ask")
        start = Registry(self._home).resolve(self._state.start)
        judge = start.model_copy(update={"adapter": self._state.judge}) if self._state.asked.recipe in PAIRED else None
        return counted(self._home, self._base, start, self._suite, judge)

    @cached_property
    def _gateway(self) -> Gateway | None:
        try:
            return running(self._home)
        except BrogueError:
            return None

    def _asked(self, sampling: Mapping[str, Any]) -> list[Answer]:
        """Some of the exam's questions, answered by the version that training starts from; none without an engine."""
        if self._gateway is None:
            return []
        most = 2 * self._gateway.at_once  # so that most of them are written beside as many others as later
        some = spread(self._work.questions or most * [HELLO], most)
        self._tell(f"{len(some)} answers")
        found: list[Answer] = []
        try:
            ask(self._gateway, self._state.start, self._state.start, [{**question, **sampling} for question in some],
                lambda _, answer: found.append(answer))  # fmt: skip
        except Unreachable:
            return []
        return found

    def _seconds(self, answers: Sequence[Answer]) -> float:
        """Of one more answer: so many are written at a time that one takes."""
        assert self._gateway is not None
        return statistics.fmean(answer.seconds for answer in answers) / min(self._gateway.at_once, len(answers))


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly from all."""
    return [values[number * len(values) // most] for number in range(most)] if len(values) > most else list(values)
