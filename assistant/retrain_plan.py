"""What a round of the loop would do and about how long it would take; nothing is written."""

from typing import Any

from adapters import loop
from adapters.loop import Round, StepName
from adapters.ppo import PPOConfig
from adapters.recipes import find
from assistant.console import working
from assistant.retrain_judgements import Counted, count
from assistant.retrain_probe import Found, Probe
from data.home import Home
from data.settings import load_settings

DOES: dict[StepName, str] = {
    "collect": "makes dataset {dataset} of what people said",
    "reward": "trains the reward model {judge}",
    "train": "trains a version with {recipe}, starting from {start}",
    "exam": "examines it beside {start} and the base model",
    "gate": "holds the exam against the rules of {gate}",
    "place": "{place}",
}


def planned(home: Home, state: Round, measure: bool) -> dict[str, Any]:
    """What stands in `--plan --json`: the judgements, and of each step what it does, its minutes, and by what they are
    known (an earlier round, a measurement, or nothing)."""
    counted = count(home, state)
    with working("plan") as tell:
        probe = Probe(home, state, tell) if measure else None
        steps = [_step(home, state, name, counted, probe) for name in state.names]
    known = [one["minutes"] for one in steps if one["known_by"] not in ("complete", "nothing")]
    return {
        "round": state.id, "start": state.start, "since": state.since and state.since.isoformat(),
        "judgements": counted.told, "usable": counted.counts["kept"],
        "wanted": load_settings(home.settings_file).loop.min_judgements, "steps": steps,
        "minutes": round(sum(known), 1) if known else None,
        "unknown": [one["step"] for one in steps if one["known_by"] == "nothing"],
    }  # fmt: skip


def _step(home: Home, state: Round, name: StepName, counted: Counted, probe: Probe | None) -> dict[str, Any]:
    done = state.steps.get(name)
    minutes, by = (done.minutes, "complete") if done else _minutes(home, state, name, counted, probe)
    return {"step": name, "does": _does(state, name), "minutes": minutes, "known_by": by}


def words(found: dict[str, Any]) -> list[str]:
    """The plan for a person."""
    few = "" if found["usable"] >= found["wanted"] else f"; too few, wanted at least {found['wanted']}"
    lines = [f"round {found['round']}, from {found['start']}: {found['usable']} of {found['judgements']} judgements "
             f"can be learnt from{few}"]  # fmt: skip
    for one in found["steps"]:
        time = "?" if one["minutes"] is None else f"{one['minutes']:.1f} min"
        by = {"complete": " (complete)", "nothing": ""}.get(one["known_by"], f" ({one['known_by']})")
        lines.append(f"  {one['step']:8} {time:>9}  {one['does']}{by}")
    if found["minutes"] is not None:
        more = ""
        if found["unknown"]:
            more = (
                f", and {' and '.join(found['unknown'])}, never done here yet; with the engine running it is measured"
            )
        lines.append(f"about {found['minutes']:.0f} minutes{more}")
    return lines


def _does(state: Round, name: StepName) -> str:
    asked = state.asked
    place = "makes it the candidate if it passes or more evidence is wanted; without an alias if it fails"
    if asked.auto:
        place = "makes it stable if it passes, the candidate if more evidence is wanted"
    elif asked.canary:
        place = f"tries it on {asked.canary}% of the traffic if it passes; else the candidate"
    return DOES[name].format(dataset=state.dataset, judge=state.judge, recipe=asked.recipe, start=state.start,
                             gate=asked.gate or "the default gate", place=place)  # fmt: skip


def _minutes(home: Home, state: Round, name: StepName, counted: Counted, probe: Probe | None) -> Found:
    """(minutes, how they are known): by the last round of the recipe, by its number of judgements, or measured."""
    kept = counted.counts["kept"]
    for earlier in reversed(loop.rounds(home, state.adapter)):
        if name in earlier.steps and earlier.asked.recipe == state.asked.recipe:
            share = kept / (earlier.came_of("collect", "judgements") or kept or 1) if name in ("reward", "train") else 1
            return round(earlier.steps[name].minutes * share, 1), f"as in round {earlier.number}"
    if name in ("collect", "gate", "place"):
        return 0.1, "always short"
    if probe is None:
        return None, "nothing"
    if name == "exam":
        return probe.exam(counted.splits["test"])
    if name == "train" and state.asked.recipe == "ppo":
        return probe.ppo(_ppo(home, state))
    rows = kept * load_settings(home.settings_file).loop.split[0] // 100
    passes = find("reward" if name == "reward" else state.asked.recipe).passes(max(rows, 1))
    return probe.training(rows * (2 if state.asked.recipe in loop.PAIRED else 1), passes)


def _ppo(home: Home, state: Round) -> PPOConfig:
    """As far as it decides how long it takes."""
    from assistant.retrain import Steps

    config = Steps(home).config(state, "train")
    given = {"rounds": config.rounds, "batch_size": 2 * config.batch_size, "max_new_tokens": config.max_new_tokens}
    return PPOConfig.model_validate({name: value for name, value in given.items() if value is not None})
