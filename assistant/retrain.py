"""What each step of the loop does: judgements → dataset → reward model → version → exam → gate → its place.

adapters/loop.py keeps how far a round is. A step that was cut off finds here what it had made already, so that nothing
is collected, trained or asked twice.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from adapters import lineage, loop, runs
from adapters.exam_suites import load_suite
from adapters.loop import Round, Step, StepName
from adapters.registry import AdapterCard, CanaryPlan, Registry
from assistant.cli_store import opened_store
from assistant.console import say, working
from assistant.services import running_gateway
from data.dataset import DatasetCard
from data.errors import BrogueError
from data.feedback import Collected
from data.home import Home
from data.judgements import StoredJudgement, Wanted
from data.records import assign_split
from data.settings import LoopSettings, first_problem, load_settings

if TYPE_CHECKING:
    from adapters.gate_rules import Gate
    from adapters.train import TrainConfig
    from assistant.client import Admin
    from data.collecting import Counts, Source
    from data.store import Store

KINDS: dict[str, Collected] = {"sft": "chat", "kto": "rated"}  # the other recipes learn from pairs
OWN = ("preference", "voice", "repetition", "cost")  # measures that take the round's records if a suite names none
WHO = "brogue retrain"


class Steps:
    """The steps of rounds in one home."""

    def __init__(self, home: Home) -> None:
        self._home, self._registry = home, Registry(home)
        self._settings: LoopSettings = load_settings(home.settings_file).loop

    @property
    def table(self) -> Mapping[StepName, Step]:
        return {
            "collect": self.collect, "reward": self.reward, "train": self.train,
            "exam": self.exam, "gate": self.gate, "place": self.place,
        }  # fmt: skip

    def check(self, state: Round) -> None:
        """Refuse in one line what could not be brought to its end, before anything is written."""
        self._config(state, "train")
        self._rules(state)
        if state.asked.suite is not None:
            load_suite(self._home, state.asked.suite)
        self._gateway()
        if "collect" in state.steps:
            return
        counts, told, splits = self.count(state)
        if counts["kept"] < self._settings.min_judgements:
            since = "" if state.since is None else f" since {state.start} ({state.since:%Y-%m-%d %H:%M} UTC)"
            older = "" if state.since is None else "; older ones too: --all"
            raise BrogueError(
                f"{state.adapter} has {told} judgements{since}; {state.asked.recipe} can learn from {_words(counts)}; "
                f"wanted at least {self._settings.min_judgements} (min_judgements in [loop] of brogue.toml){older}"
            )
        if missing := [name for name in ("train", "test") if not splits[name]]:
            raise BrogueError(
                f"none of the {counts['kept']} judgements falls into the {missing[0]} split, which goes by their "
                "questions; wait for more, or change split in [loop] of brogue.toml"
            )

    def count(self, state: Round) -> tuple["Counts", int, "Counts"]:
        """(what becomes of the judgements that the recipe looks at, how many there are of all kinds, by split)."""
        from data.feedback import told

        with opened_store(self._home) as store:
            source, counts, splits = self._source(store, state), Counter[str](), Counter[str]()
            kinds: tuple[Collected, ...] = ("preference", "ranking")
            if state.asked.recipe in KINDS:
                kinds = (KINDS[state.asked.recipe],)
            for kind in kinds:
                for one in told(source.judgements, store.responses_of, kind, counts, source.weights):
                    splits[assign_split(one.record, self._settings.split)] += 1
            return counts, len(source.told), splits

    def collect(self, state: Round) -> dict[str, Any]:
        """The judgements of the round's time as its dataset."""
        from data.collecting import collected, collected_pairs, save
        from data.memory import many_objects

        recipe, counts, shares = state.asked.recipe, Counter[str](), self._settings.split
        with opened_store(self._home) as store, many_objects():
            source = self._source(store, state)
            rows = (
                collected(source, KINDS[recipe], shares, counts)
                if recipe in KINDS
                else collected_pairs(source, shares, counts)
            )
            options = {"round": state.id, "since": state.since and state.since.isoformat(), "for": recipe}
            card = save(self._home, state.dataset, rows, source, shares, True, counts, options)
        say(f"learning from {_words(counts)}")
        return {"dataset": card.name, "kind": card.kind, "records": card.records, "judgements": counts["kept"]}

    def _source(self, store: "Store", state: Round) -> "Source":
        from data.collecting import Source, oldest_first
        from data.raters import weights_in

        wanted = Wanted(since=state.since, until=state.until)
        everything = store.judgements(wanted)
        of_it = oldest_first([kept for kept in everything if concerns(kept, state.adapter)])
        return Source(store, of_it, weights_in(store, wanted, everything))

    def reward(self, state: Round) -> dict[str, Any]:
        """A reward model of the same judgements: what PPO learns from, and what judges the exam's answers."""
        return _trained(self._train(state, "reward", state.judge))

    def train(self, state: Round) -> dict[str, Any]:
        """The version, from the one that was stable when the round began."""
        return _trained(self._train(state, "train", state.adapter))

    def _train(self, state: Round, step: StepName, adapter: str) -> AdapterCard:
        from assistant.cli_train import train_here
        from data.dataset import load_card

        dataset, config = load_card(self._home, state.dataset), self._config(state, step)
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

    def _config(self, state: Round, step: StepName) -> "TrainConfig":
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
        from adapters import exam, exam_files
        from adapters.exam_asking import Gateway
        from assistant import exam_report

        assert state.version is not None
        asked = exam.plan(self._home, state.version, against=state.start, suite=state.asked.suite,
                          judge=state.came_of("reward", "version"), seed=state.asked.seed)  # fmt: skip
        parts = tuple(
            part.model_copy(update={"data": state.dataset}) if part.data is None and part.measure in OWN else part
            for part in asked.suite.parts
        )
        asked = asked._replace(suite=asked.suite.model_copy(update={"parts": parts}))
        with working("exam") as tell:
            found = exam.run_exam(self._home, asked, Gateway(*self._gateway()), tell)
        exam_report.write(found, exam_files.report_path(self._home, found.id))
        return {"exam": found.id, "figures": len(found.measures), "left_out": list(found.left_out)}

    def gate(self, state: Round) -> dict[str, Any]:
        """What the rules say of the exam; it is kept beside the version."""
        from adapters import exam_files
        from adapters.gate import judge
        from assistant import exam_report

        found, rules = exam_files.load(self._home, state.came_of("exam", "exam")), self._rules(state)
        verdict = judge(found, rules)
        adapter, _, number = str(state.version).partition("@")
        self._registry.keep_verdict(adapter, int(number), verdict)
        found = found.model_copy(update={"verdict": verdict})
        exam_files.save(self._home, found)
        exam_report.write(found, exam_files.report_path(self._home, found.id))
        return verdict.model_dump(mode="json")

    def _rules(self, state: Round) -> "Gate":
        from adapters.gate_rules import DEFAULT, load_gate

        return load_gate(self._home, state.asked.gate or DEFAULT)

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

        return Admin(*self._gateway())

    def _gateway(self) -> tuple[str, str]:
        """Address and admin key of the running gateway."""
        if (running := running_gateway(self._home)) is None:
            raise BrogueError("the exam asks the engine, which is not running; start it: brogue up")
        return running


def concerns(kept: StoredJudgement, adapter: str) -> bool:
    """Is it about an answer by one of the adapter's versions?"""
    return any(version.startswith(f"{adapter}@") for version in kept.versions)


def new_judgements(home: Home, adapter: str, since: datetime | None) -> int:
    """How many judgements about the adapter there are from `since` on."""
    with opened_store(home) as store:
        return sum(concerns(kept, adapter) for kept in store.judgements(Wanted(since=since)))


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


def _words(counts: "Counts") -> str:
    """How many of the judgements can be learnt from, and why the others cannot."""
    skipped = "; ".join(f"{why} ({count})" for why, count in sorted(counts.items()) if why.startswith("skipped"))
    return f"{counts['kept']} of them{f' ({skipped})' if skipped else ''}"
