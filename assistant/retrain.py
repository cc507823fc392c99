"""What each step of the loop does: judgements → dataset → reward model → version → exam → gate → its place.

adapters/loop.py keeps how far a round is. A step that was cut off finds here what it had made already, so that nothing
is collected, trained or asked twice.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from adapters import lineage, loop, runs
from adapters.exam_suites import load_suite
from adapters.gate_rules import DEFAULT, load_gate
from adapters.loop import Round, Step, StepName
from adapters.registry import AdapterCard, CanaryPlan, Registry
from adapters.train_checks import check_options
from assistant import exams, retrain_judgements
from assistant.console import say, working
from assistant.retrain_judgements import new_judgements as new_judgements
from data.dataset import DatasetCard
from data.errors import BrogueError, unknown
from data.home import Home
from data.settings import first_problem

if TYPE_CHECKING:
    from adapters.train import TrainConfig
    from assistant.client import Admin

OWN = ("preference", "voice", "repetition", "cost")  # measures that take the round's records if a suite names none
OPTIONS = ("epochs", "batch_size", "learning_rate", "beta", "rounds", "max_new_tokens", "kl_target", "max_tokens")
WHO = "brogue retrain"


class Steps:
    """The steps of rounds in one home."""

    def __init__(self, home: Home) -> None:
        self._home, self._registry = home, Registry(home)

    @property
    def table(self) -> Mapping[StepName, Step]:
        return {
            "collect": self.collect, "reward": self.reward, "train": self.train,
            "exam": self.exam, "gate": self.gate, "place": self.place,
        }  # fmt: skip

    def check(self, state: Round) -> None:
        """Refuse in one line what could not be brought to its end, before anything is written."""
        for name in state.asked.options:
            if name not in OPTIONS:
                raise unknown("--train-option", name, list(OPTIONS), "The rest is the loop's to set.")
        check_options(self.config(state, "train"))
        load_gate(self._home, state.asked.gate or DEFAULT)
        if state.asked.suite is not None:
            load_suite(self._home, state.asked.suite)
        exams.running(self._home)
        if "collect" not in state.steps:
            retrain_judgements.require_enough(self._home, state)

    def collect(self, state: Round) -> dict[str, Any]:
        """The judgements of the round's time as its dataset."""
        card, counts = retrain_judgements.collect(self._home, state)
        say(f"learning from {retrain_judgements.words(counts)}")
        return {"dataset": card.name, "kind": card.kind, "records": card.records, "judgements": counts["kept"]}

    def reward(self, state: Round) -> dict[str, Any]:
        """A reward model of the same judgements: what PPO learns from, and what judges the exam's answers."""
        return _trained(self._train(state, "reward", state.judge))

    def train(self, state: Round) -> dict[str, Any]:
        """The version, from the one that was stable when the round began."""
        return _trained(self._train(state, "train", state.adapter))

    def _train(self, state: Round, step: StepName, adapter: str) -> AdapterCard:
        from assistant.cli_train import train_here
        from data.dataset import load_card

        dataset, config = load_card(self._home, state.dataset), self.config(state, step)
        if (card := self._made(dataset, adapter, config)) is not None:
            say(f"{card.name} was trained before this round was stopped")
            return card
        return train_here(self._home, adapter, dataset, config)

    def _made(self, dataset: DatasetCard, adapter: str, config: "TrainConfig") -> AdapterCard | None:
        """What came of this very training, if a kill left no time to note it. Its dataset is the round's own."""
        asked = config.model_dump(exclude_none=True, exclude={"rank", "listwise"})
        for card in lineage.trained_on(self._registry, dataset.digest):
            ours = card.adapter == adapter and card.dataset == dataset.name
            if ours and all(card.config.get(name) == value for name, value in asked.items()):
                if card.run and (self._home.runs / card.run).exists():
                    runs.finish(self._home.runs / card.run, card.name)
                return card
        return None

    def config(self, state: Round, step: StepName) -> "TrainConfig":
        """How a step of a round trains."""
        from adapters.train import TrainConfig

        prompt, seed = self._registry.resolve(state.start).system_prompt, state.asked.seed
        if step == "reward":
            return TrainConfig(recipe="reward", system_prompt=prompt, seed=seed)
        given = {"recipe": state.asked.recipe, "start": state.start, "system_prompt": prompt, "seed": seed}
        if state.asked.recipe == "ppo":
            given["reward"] = state.came_of("reward", "version") or f"{state.judge}@1"
        try:
            return TrainConfig.model_validate(state.asked.options | given)
        except ValidationError as error:
            raise BrogueError(f"--train-option: {first_problem(error, TrainConfig)}") from error

    def exam(self, state: Round) -> dict[str, Any]:
        """The version beside the one that it started from and the base model."""
        from adapters import exam

        assert state.version is not None
        asked = exam.plan(self._home, state.version, against=state.start, suite=state.asked.suite,
                          judge=state.came_of("reward", "version"), seed=state.asked.seed)  # fmt: skip
        parts = tuple(
            part.model_copy(update={"data": state.dataset}) if part.data is None and part.measure in OWN else part
            for part in asked.suite.parts
        )
        asked = asked._replace(suite=asked.suite.model_copy(update={"parts": parts}))
        with working("exam") as tell:
            found = exam.run_exam(self._home, asked, exams.running(self._home), tell)
        return {"exam": found.id, "figures": len(found.measures), "left_out": list(found.left_out)}

    def gate(self, state: Round) -> dict[str, Any]:
        """What the rules say of the exam; it is kept beside the version."""
        from adapters import exam_files

        found = exam_files.load(self._home, state.came_of("exam", "exam"))
        verdict = exams.judged(self._home, found, state.asked.gate or DEFAULT).verdict
        assert verdict is not None
        return verdict.model_dump(mode="json")

    def place(self, state: Round) -> dict[str, Any]:
        """Stable, canary, candidate, or no alias: by the verdict and by what was asked."""
        assert state.version is not None
        adapter, _, number = state.version.partition("@")
        alias, because = self._alias(state)
        if alias is not None:
            plan = CanaryPlan(share=state.asked.canary or 10) if alias == "canary" else None
            self._admin().set_alias(adapter, alias, int(number), WHO, because,
                                    **({} if plan is None else plan.model_dump()))  # fmt: skip
        return {"alias": alias, "because": because}

    def _alias(self, state: Round) -> tuple[str | None, str]:
        """What the version is to become, and why."""
        result, stable = state.came_of("gate", "result"), self._registry.resolve(state.adapter).name
        why = f"round {state.number}: {result}"
        if result == "fail":
            return None, why
        if stable not in (state.start, state.version):
            return "candidate", f"{why}; but {stable} is stable by now, not {state.start}"
        if stable == state.version:  # it was moved when the process was killed
            return "stable", why
        if result == "pass" and state.asked.auto:
            return "stable", why
        return ("canary" if result == "pass" and state.asked.canary else "candidate"), why

    def _admin(self) -> "Admin":
        from assistant.client import Admin

        running = exams.running(self._home)
        return Admin(running.url, running.key)


def refuse_same(home: Home, state: Round) -> None:
    """Refuse a new round that would do again what the last one did: nothing was said since."""
    known = loop.rounds(home, state.adapter)
    last = known[-1] if known else None
    if last is None or last.number >= state.number or (last.asked, last.start) != (state.asked, state.start):
        return
    if not new_judgements(home, state.adapter, last.until):
        raise BrogueError(
            f"nothing was said of {state.adapter} since round {last.number} ({last.version}: "
            f"{last.came_of('gate', 'result')}), so this would be the same again; another --recipe or --seed is not"
        )


def _trained(card: AdapterCard) -> dict[str, Any]:
    return {"version": card.name, "minutes": card.minutes, "scores": card.scores}
