"""Versions that take an engine of their own, for the commands that show and move versions while nothing runs."""

from adapters.base_model import BaseModel, on_disk, prepare
from adapters.registry import AdapterCard, Registry
from adapters.train import TrainConfig
from adapters.train_checks import recipe_words
from data.errors import BrogueError
from data.home import Home
from data.settings import EngineSettings, load_settings
from serve.hardware import EnginePlan, gib, most_own_engines, plan_own, refuse_own_engine, refuse_too_many


def own_plan(settings: EngineSettings, base: BaseModel) -> EnginePlan:
    """The engine that a version with weights of its own would get."""
    return plan_own(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)


def memory_bytes(home: Home, card: AdapterCard) -> int | None:
    """What such a version's engine needs; none for other versions, and while the base model is not here."""
    settings = load_settings(home.settings_file)
    if card.served != "merged" or on_disk(settings.base_model, home) is None:
        return None
    return own_plan(settings.engine, prepare(settings.base_model, home, lambda _: None)).memory_bytes


def words(memory: int) -> str:
    """What a person should know of it."""
    return f"takes an engine of its own, about {gib(memory)} of memory"


def check_before_training(config: TrainConfig, base: BaseModel, settings: EngineSettings) -> str | None:
    """What to know of the engine that the version will take, if it takes one; raises `BrogueError` if it never fits."""
    if config.method == "lora":
        return None
    from adapters.served import check as how_served

    goes_on, options = config.start is not None, config.method_options
    recipe = recipe_words(config)
    if how_served(base, config.method, config.rank, recipe, goes_on, settings.max_lora_rank, options) != "merged":
        return None
    plan, what = own_plan(settings, base), f"what '{config.method}' trains"
    refuse_own_engine(what, plan, base.weight_bytes, settings)
    return f"{what} {words(plan.memory_bytes or 0)} to be served"


def check(registry: Registry, card: AdapterCard, alias: str, base: BaseModel, settings: EngineSettings) -> str:
    """Raises `BrogueError` if there is no place for its engine once it has the alias; else what to know of it."""
    plan = own_plan(settings, base)
    refuse_own_engine(card.name, plan, base.weight_bytes, settings)
    refuse_too_many(card.name, _others(registry, card, alias), most_own_engines(settings), plan.memory_bytes or 0)
    return f"{card.name} {words(plan.memory_bytes or 0)}"


def _others(registry: Registry, card: AdapterCard, alias: str) -> list[str]:
    """Versions with an engine of their own besides this one, once it has the alias."""
    others = []
    for adapter, state in registry.states().items():
        for name, version in state.aliases.items():
            try:
                other = registry.card(adapter, version)
            except BrogueError:
                continue  # a broken card gets no engine
            if other.served == "merged" and other.name != card.name and (adapter, name) != (card.adapter, alias):
                others.append(other.name)
    return list(dict.fromkeys(others))
