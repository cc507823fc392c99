"""What came of a round of the loop: one readable summary, and the same as JSON."""

from typing import Any

from adapters.loop import Round, StepName
from data.home import Home
from data.records import SPLITS


def summary(home: Home, state: Round) -> dict[str, Any]:
    """Everything that the steps gave, with the minutes of each."""
    return {
        "round": state.id, "adapter": state.adapter, "recipe": state.asked.recipe, "start": state.start,
        "version": state.version, "verdict": state.came_of("gate", "result"), "alias": state.came_of("place", "alias"),
        "report": report(home, state), "minutes": round(sum(done.minutes for done in state.steps.values()), 2),
        "steps": {name: {"minutes": done.minutes, **done.result} for name, done in state.steps.items()},
    }  # fmt: skip


def report(home: Home, state: Round) -> str | None:
    """Where the exam's page is."""
    id = state.came_of("exam", "exam")
    return None if id is None else str(home.root / "exams" / str(id) / "report.html")


def words(home: Home, state: Round) -> list[str]:
    """The summary for a person."""
    lines = [f"{state.id}: {state.version}, by {state.asked.recipe} from {state.start}"]
    lines += [f"  {name:8} {state.steps[name].minutes:6.1f} min  {_said(home, state, name)}" for name in state.names]
    lines.append(f"  {'all':8} {sum(done.minutes for done in state.steps.values()):6.1f} min")
    return [*lines, *_rules(state), _end(state)]


def _said(home: Home, state: Round, name: StepName) -> str:
    found = state.steps[name].result
    if name == "collect":
        records = ", ".join(f"{split} {found['records'][split]}" for split in SPLITS)
        return f"{found['dataset']}: {found['kind']} records of {found['judgements']} judgements ({records})"
    if name in ("reward", "train"):
        return f"{found['version']}{_accuracy(found['scores'])}"
    if name == "exam":
        return f"{found['figures']} figures; report: {report(home, state)}"
    if name == "gate":
        return f"{found['result']} ({found['gate']})"
    return found["because"] or ""


def _accuracy(scores: dict[str, float]) -> str:
    """How often it tells the better answer of held-out pairs, if that was measured."""
    for split in ("test", "validation"):
        if f"adapter_{split}_accuracy" in scores:
            rate, low, high = (scores[f"adapter_{split}_accuracy{end}"] for end in ("", "_low", "_high"))
            return f": the better answer is told in {rate:.0%} of held-out records (95%: {low:.0%} to {high:.0%})"
        if f"adapter_{split}_reward" in scores:
            before, after = scores[f"base_{split}_reward"], scores[f"adapter_{split}_reward"]
            return f": reward on held-out questions {after:.2f}, before {before:.2f}"
    return ""


def _rules(state: Round) -> list[str]:
    """The rules that were not met, each with its figures."""
    rules = state.came_of("gate", "rules") or []
    unmet = [rule for rule in rules if rule["result"] != "pass"]
    more = [f"; {rule['more']} more would probably settle it" if rule.get("more") else "" for rule in unmet]
    return [f"  {rule['result']}: {rule['rule']}: {rule['because']}{extra}"
            for rule, extra in zip(unmet, more, strict=True)]  # fmt: skip


def _end(state: Round) -> str:
    """What the version is now, and what a person can do next."""
    alias, version = state.came_of("place", "alias"), state.version
    if alias == "stable":
        return f"{version} is stable now, instead of {state.start}; back: brogue adapters rollback {state.adapter}"
    if alias == "canary":
        return f"{version} is tried on {state.asked.canary}% of the traffic; for all: brogue adapters promote {version}"
    if alias == "candidate":
        return f"{version} is the candidate; live: brogue adapters promote {version}"
    return f"{version} failed and goes nowhere; {state.start} stays. Look at the report before the next round"
