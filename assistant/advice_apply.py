"""An arm of an advice as an assistant: its definition under a person's name, with all that it is made of.

What the advisor trained or gathered for the arm is taken over under that name (a version of an adapter, a specialist,
the records its examples come from), so that it can be promoted, retrained and shown as any other. Nothing is removed.
"""

import shutil
from collections.abc import Iterator
from typing import NamedTuple

from adapters.registry import CARD, AdapterCard, Registry
from assistant import specialists
from assistant.advice_other import how_to_use
from assistant.advice_types import Advice, Result
from assistant.definitions import Assistant, Brand, is_advice, load_assistant, write_assistant
from assistant.services import running_gateway
from data.dataset import iter_rows, list_datasets, load_card, save_dataset
from data.errors import BrogueError, unknown
from data.home import Home, check_name, new_folder, staged, write_json

WHO, WHY = "brogue advise apply", "the advisor's arm"


class Applied(NamedTuple):
    """What was written."""

    assistant: str
    arm: str
    title: str
    file: str
    adapter: str | None  # name@n
    specialist: str | None
    dataset: str | None  # of the examples, or of the labels
    knowledge: str | None  # whose documents it looks into


def chosen(advice: Advice, arm: str | None) -> Result:
    """The arm that is asked for, else the one that is recommended. Raises `BrogueError` for one that cannot be used."""
    name = arm or advice.recommendation.arm
    known = {result.arm.name: result for result in advice.results}
    usable = [name for name, result in known.items() if result.ready is not None]
    if name is None:
        raise BrogueError(
            f"advice {advice.id} recommends no arm ({advice.recommendation.result}); name one all the same: --arm, "
            f"one of {', '.join(usable)}"
        )
    if name not in known:
        raise unknown("arm", name, usable, f"See: brogue advice show {advice.id}")
    result = known[name]
    if result.ready is None:
        raise BrogueError(f"arm '{name}' was not made ({result.why}); have: {', '.join(usable)}")
    if result.ready.base_model is not None:
        raise BrogueError(f"{name}: {how_to_use(result.ready, advice.task.dataset)}")
    return result


def apply(home: Home, result: Result, name: str, replace: bool = False) -> Applied:
    """Write assistant `name`, served with the next request. The file comes last: a kill before leaves no half of it.

    Of an assistant that is replaced the brand stays. Raises `BrogueError` where something of that name is there.
    """
    check_name("an assistant", name)
    if is_advice(name):
        raise BrogueError(f"'{name}' is a name of the advisor's own; choose another: --as NAME")
    path, ready = home.assistants / f"{name}.yaml", result.ready
    assert ready is not None
    if path.exists() and not replace:
        raise BrogueError(f"there is an assistant '{name}' already; add --replace, or choose another name: --as NAME")
    brand = load_assistant(path).brand if path.exists() else Brand()
    definition = _taken_over(home, ready.definition.model_copy(update={"name": name, "brand": brand}), name, replace)
    write_assistant(path, definition)
    version = Registry(home).resolve(definition.adapter).name if definition.adapter else None
    return Applied(name, result.arm.name, result.arm.title, str(path), version, definition.specialist,
                   next(iter(_datasets(definition)), None), definition.knowledge.use)  # fmt: skip


def _taken_over(home: Home, definition: Assistant, name: str, replace: bool) -> Assistant:
    """The definition with everything of the advisor's own in the person's name."""
    changes: dict[str, object] = {}
    if definition.adapter is not None and is_advice(definition.adapter.partition("@")[0]):
        changes["adapter"] = _take_adapter(home, Registry(home).resolve(definition.adapter), name, replace)
    if definition.specialist is not None and is_advice(definition.specialist):
        changes["specialist"] = _take_specialist(home, definition.specialist, name)
    for dataset in _datasets(definition):
        if is_advice(dataset):
            taken = _take_dataset(home, dataset, f"{name}-examples")
            if definition.examples_from is not None and definition.examples_from.dataset == dataset:
                changes["examples_from"] = definition.examples_from.model_copy(update={"dataset": taken})
            if definition.answer is not None and definition.answer.labels_of == dataset:
                changes["answer"] = definition.answer.model_copy(update={"labels_of": taken})
    return definition.model_copy(update=changes)


def _datasets(definition: Assistant) -> Iterator[str]:
    """The datasets that an assistant reads when it is asked."""
    if definition.examples_from is not None:
        yield definition.examples_from.dataset
    if definition.answer is not None and definition.answer.labels_of is not None:
        yield definition.answer.labels_of


def _take_adapter(home: Home, card: AdapterCard, name: str, replace: bool) -> str:
    """The version as one of adapter `name`, its stable one; the name that definitions know it by."""
    registry = Registry(home)
    same = next((n for n in registry.versions(name) if registry.card(name, n).files == card.files), None)
    if same is None:
        if registry.versions(name) and not replace:
            raise BrogueError(
                f"there is an adapter '{name}' already; add --replace to make this its next version and stable, or "
                "choose another name: --as NAME"
            )
        with registry.new_version(name) as (same, folder):
            _copy_records(registry, card, name, same)
            for file in card.files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(registry.folder(card.adapter, card.version) / file, folder / file)
            own = card.model_copy(update={"adapter": name, "version": same, "parent": None})
            write_json(folder / CARD, own.model_dump(mode="json"))
    if registry.aliases(name).get("stable") != same:
        _make_stable(home, name, same)
    return name


def _copy_records(registry: Registry, card: AdapterCard, name: str, version: int) -> None:
    """The list of the records that it learnt from, so that forgetting one of them finds this version too."""
    learnt = registry.records_file(card.adapter, card.version)
    if learnt.exists():
        with staged(registry.records_file(name, version), learnt.read_text(encoding="utf-8")) as copy:
            registry.keep_records(name, version, copy)


def _make_stable(home: Home, adapter: str, version: int) -> None:
    """By the gateway if it runs, which loads and tries the version first."""
    running = running_gateway(home)
    if running is None:
        Registry(home).move(adapter, "stable", version, WHO, WHY)
        return
    from assistant.client import Admin

    Admin(*running).set_alias(adapter, "stable", version, WHO, WHY)


def _take_specialist(home: Home, reference: str, name: str) -> str:
    """A copy of the specialist under `name`, or `name-2`, … where that is another one."""
    card = specialists.load_specialist(home, reference)
    known = {one: specialists.load_specialist(home, one).key for one in specialists.list_specialists(home)}
    taken = _free(name, known, card.key)
    if taken not in known:
        source = specialists.folder_of(home, reference)
        with new_folder(specialists.folder_of(home, taken)) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            write_json(folder / specialists.CARD, card.model_copy(update={"name": taken}).model_dump(mode="json"))
    return taken


def _take_dataset(home: Home, reference: str, name: str) -> str:
    """A copy of the dataset under `name`, or `name-2`, … where that is another one."""
    card = load_card(home, reference)
    known = {one.name: one.digest for one in list_datasets(home)}
    taken = _free(name, known, card.digest)
    if taken not in known:
        save_dataset(home, taken, iter_rows(home, reference), card.source, card.source_sha256, card.columns,
                     card.shares, origin=card.origin, licence=card.licence, steps=card.steps)  # fmt: skip
    return taken


def _free(name: str, known: dict[str, str], content: str) -> str:
    """The first of `name`, `name-2`, … that is free or holds this very content."""
    number, found = 1, name
    while found in known and known[found] != content:
        number += 1
        found = f"{name}-{number}"
    return found
