"""The measures that a suite can name. A module is imported when its measure is taken, and none before.

A measure is a function `(Room, Part) -> list[Scores]` (see exam_types.py); a new one is a line here.
"""

from importlib import import_module
from typing import cast

from adapters.exam_types import Measure
from data.errors import unknown

MEASURES: dict[str, str] = {  # name → module:function
    "task": "adapters.measure_task:measure",
    "preference": "adapters.measure_preference:measure",
    "forgetting": "adapters.measure_forgetting:measure",
    "cost": "adapters.measure_cost:measure",
    "voice": "adapters.measure_voice:measure",
    "facts": "adapters.measure_facts:measure",
    "fairness": "adapters.measure_fairness:measure",
    "safety": "adapters.measure_safety:measure",
    "repetition": "adapters.measure_repetition:measure",
    "truth": "adapters.measure_facts:truth",
    "consistency": "adapters.measure_facts:consistency",
    "stereotypes": "adapters.measure_fairness:stereotypes",
    "groups": "adapters.measure_fairness:groups",
    "bbq": "adapters.measure_bbq:measure",
    "refusals": "adapters.measure_refusals:measure",
    "rude": "adapters.measure_safety:rude",
    "leak": "adapters.measure_leak:measure",
    "grounded": "assistant.measure_grounded:measure",  # it needs the documents and their check, which are above us
}


def find(name: str) -> Measure:
    """The measure of that name, imported. Raises `UnknownName`, which lists those there are."""
    if name not in MEASURES:
        raise unknown("measure", name, list(MEASURES), "See docs/exam-measures.md")
    module, _, function = MEASURES[name].partition(":")
    return cast(Measure, getattr(import_module(module), function))
