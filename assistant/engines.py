"""The base model's engines as the settings want them: started and kept running here, or somebody else's."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapters.base_model import BaseModel
from adapters.registry import Registry
from adapters.template import chat_templates
from data.home import Home
from data.secrets import ENGINE_KEY
from data.settings import EngineSettings
from serve.engine import Engine, engine_client
from serve.engine_api import EngineLink
from serve.engine_keeper import EngineKeepers
from serve.hardware import EnginePlan, plan_all, plan_elsewhere
from serve.soft_prompt import ENGINE_ARGS, takes_vectors

_LOG = logging.getLogger("brogue.supervisor")


@dataclass(frozen=True)
class Engines:
    """What there is: `keepers` of those that are started here, `links` to all and to a router before them, and what is
    known of each."""

    links: Sequence[EngineLink]
    plan: EnginePlan
    keepers: EngineKeepers | None = None
    templates: Mapping[str, str] | None = None  # the base model's chat templates, where engines take soft prompts
    router: EngineLink | None = None

    def start(self) -> None:
        if self.keepers is not None:
            self.keepers.start()

    def stop(self) -> None:
        if self.keepers is not None:
            self.keepers.stop()


def engines_of(
    home: Home, settings: EngineSettings, base: BaseModel, registry: Registry,
    report: Callable[[str, str, list[int]], None], on_restart: Callable[[], None],
) -> Engines:  # fmt: skip
    """The engines, not yet started. `report` is told how those are that are started here."""
    if settings.urls:
        links = [_elsewhere(url) for url in settings.urls]
        router = _elsewhere(settings.router) if settings.router is not None else None
        return Engines(links, plan_elsewhere(settings, base.context_length), router=router)
    plans = plan_all(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    for plan in plans:
        _LOG.info("engine plan: %s", plan)
    templates = chat_templates(base.path) if takes_vectors(plans[0].device, registry) else {}
    settings = with_args(settings, ENGINE_ARGS if templates else ())
    engines = [
        Engine.build(base.path, base.name, settings, plan, home, log=f"engine{f'-{n}' if n > 1 else ''}.log")
        for n, plan in enumerate(plans, 1)
    ]
    keepers = EngineKeepers(engines, settings.start_timeout_s, report, on_restart)
    return Engines(keepers.links(), plans[0], keepers, templates)


def _elsewhere(url: str) -> EngineLink:
    return EngineLink(urlsplit(url).netloc, engine_client(url, os.environ.get(ENGINE_KEY, "")), is_elsewhere=True)


def with_args(settings: EngineSettings, args: Sequence[str]) -> EngineSettings:
    """What brogue.toml says comes last, and so counts."""
    return settings.model_copy(update={"extra_args": (*args, *settings.extra_args)})
