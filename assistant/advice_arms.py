"""The advisor's arms: which ways there are to do a task, in the order of what they promise for their minutes."""

from collections.abc import Callable, Mapping, Sequence

from assistant import advice_making as making
from assistant.advice_lab import Lab, made_of, single
from assistant.advice_prompts import to_train_with
from assistant.advice_types import Arm, Family, Ready, Records, Task
from data.errors import unknown
from data.settings import Settings

CONSTRAINED = "-constrained"
_SLOW = ("encoder",)  # specialists that take minutes to make, not seconds
# upkeep: what an arm asks of people once it serves; records or documents in step with the world, for whatever is made
# of them (an index, a small model that is trained in a minute)
_PROMPT, _EXAMPLES, _IN_STEP, _WEIGHTS = range(4)
_MAKERS: dict[str, Callable[[making.Making], Ready]] = {
    "prompt": making.prompt,
    "few-shot-fixed": making.few_shot_fixed,
    "few-shot-nearest": making.few_shot_nearest,
    "rag": making.rag,
    "sft-lora": making.trained(),
    "instruct-lora": making.trained("instruct"),
    "lora+rag": making.lora_rag,
    "lora+few-shot": making.lora_few_shot,
    "soft-prompt": making.trained(method="prompt-tuning"),
    "ia3": making.trained(method="ia3"),
    "ln-tuning": making.trained(method="ln-tuning"),
    "dpo-lora": making.trained("dpo"),
}


def arms_for(task: Task, records: Records, settings: Settings, knowledge: bool) -> list[Arm]:
    """The arms that fit the task; `knowledge`: whether there are documents. What an arm needs stands before it.

    Where answers can be held to labels or a JSON schema, prompts are tried with and without that, and trained weights
    with: it costs them nothing. Versions with an engine of their own are tried where brogue.toml allows one.
    """
    held = making.form_of(task) is not None
    pairs, tags = task.kind == "pairs", task.kind == "tags"
    found = _twins("prompt", "prompt", "an instruction alone", _PROMPT, held, needs=False)
    if knowledge and not tags:
        found += _twins("rag", "rag", "passages of the documents in the prompt", _IN_STEP, held)
    found += _specialists(task, slow=False)
    nearest = f"the {making.NEAREST} nearest examples in the prompt"
    found += _twins("few-shot-nearest", "few-shot", nearest, _IN_STEP, held, learns=True)
    found += _twins("few-shot-fixed", "few-shot", "the same examples in every prompt", _EXAMPLES, held)
    found += _specialists(task, slow=True)
    found += [_trained("dpo-lora", "weights trained on which answers are better (DPO)")] if pairs else []
    told = single(records.train) and bool(to_train_with(task, records))
    found += [] if pairs else _fine_tuned(held, knowledge and not tags, settings, told)
    if not (knowledge or pairs or tags):
        found += _twins("rag", "rag", "the training examples as documents", _IN_STEP, held)
    return found


def make(lab: Lab, arm: Arm, records: Records, ready: Mapping[str, Ready]) -> Ready:
    """The arm, ready to be asked, made of `records.train` (a part of it for a learning curve).

    `ready`: the arms that it needs, by name; one that is not there is made first. To make the same again costs
    nothing, also after a kill. Raises `BrogueError` where it cannot be made.
    """
    assert not any(row.split == "test" for row in (*records.train, *records.validation)), "test is never learnt from"
    needed = {name: _needed(lab, name, records, ready) for name in arm.needs}
    job = making.Making(lab, arm, records, needed.__getitem__)
    what = made_of(lab, arm, records, [one.definition.model_dump(mode="json") for one in needed.values()])
    found = lab.recall(job.definition_name, what)
    if found is None:
        maker = _MAKERS.get(arm.name.removesuffix(CONSTRAINED), making.specialist)
        found = lab.keep(job.definition_name, what, maker(job))
    return found


def find(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of that name, or an error that names those there are."""
    found = next((arm for arm in arms if arm.name == name), None)
    if found is None:
        raise unknown("arm", name, [arm.name for arm in arms], "See: docs/advisor.md")
    return found


def _needed(lab: Lab, name: str, records: Records, ready: Mapping[str, Ready]) -> Ready:
    if name in ready:
        return ready[name]
    arms = arms_for(lab.task, records, lab.settings, lab.knowledge is not None)
    return make(lab, find(arms, name), records, ready)


def _twins(name: str, family: Family, title: str, upkeep: int, held: bool, needs: bool = True,
           learns: bool = False) -> list[Arm]:  # fmt: skip
    """An arm with free answers and, where they can be held to something, the same with constrained ones."""
    also = ("rag",) if name == "rag" else ()  # whose index they share
    free = Arm(name=name, family=family, title=title, needs=("prompt",) if needs else (), learns=learns, upkeep=upkeep)
    if not held:
        return [free]
    twin = Arm(name=f"{name}{CONSTRAINED}", family=family, title=f"{title}, answers held to what is allowed",
               needs=("prompt-constrained", *also) if needs else (), learns=learns, upkeep=upkeep,
               constrained=True)  # fmt: skip
    return [free, twin]


def _specialists(task: Task, slow: bool) -> list[Arm]:
    from assistant.specialists import KINDS, kinds_for

    return [
        Arm(name=kind, family="specialist", title=KINDS[kind].title, learns=True, slow=slow, upkeep=_IN_STEP)
        for kind in kinds_for(task)
        if (kind in _SLOW) is slow
    ]


def _fine_tuned(held: bool, rag: bool, settings: Settings, told: bool) -> list[Arm]:
    found = [
        _trained("sft-lora", "weights trained on the examples (LoRA)", held),
        *([_trained("lora+rag", "trained weights and passages of the documents", held, ("sft-lora", "rag"), False)]
          if rag else []),
        _trained("lora+few-shot", f"trained weights and the {making.NEAREST} nearest examples", held, ("sft-lora",),
                 False),
        _trained("soft-prompt", "a trained soft prompt before every question", held),
    ]  # fmt: skip
    if told:
        found.append(_trained("instruct-lora", "weights trained with a longer instruction", held))
    if settings.engine.max_own_engines != 0:
        # No learning curve: each of its points would take an engine of its own to start.
        found.append(_trained("ia3", "trained factors beside the weights (IA3, additive)", held, learns=False))
        found.append(_trained("ln-tuning", "the model's norms trained (selective)", held, learns=False))
    return found


def _trained(name: str, title: str, held: bool = False, needs: tuple[str, ...] = (), learns: bool = True) -> Arm:
    return Arm(name=name, family="fine-tuned", title=title, needs=needs, learns=learns, upkeep=_WEIGHTS,
               constrained=held)  # fmt: skip
