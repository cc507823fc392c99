"""The advisor's arms of another base model: each base has a home and an engine of its own while it is asked.

The home lies in `<home>/advice/<id>/other/<base>/`. Its engine is started for as long as it is needed, beside the one
that serves people, and only where there is memory for both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from adapters.base_model import BaseModel
from adapters.exam_asking import Gateway
from assistant.advice_types import Arm, Ready
from data.home import Home

Tell = Callable[[str], None]


class OtherArm(NamedTuple):
    """An arm of another base model."""

    base: str  # as `other_bases` names it
    arm: Arm  # as it is told: "qwen3-0.6b-sft-lora"
    inner: Arm  # as it is made in that base's own home: "sft-lora"


class Other(NamedTuple):
    """Another base model at work: what a `Lab` needs."""

    home: Home
    base: BaseModel
    gateway: Gateway


def other_arms(arms: Sequence[Arm], bases: Sequence[str]) -> list[OtherArm]:
    """The arms that are tried with other base models too, of those for this home's; without any bases, none."""
    raise NotImplementedError


@contextmanager
def other_base(home: Home, id: str, setting: str, tell: Tell) -> Iterator[Other]:
    """The base model `setting` at work in its own home, until the block ends, however it ends.

    An engine that a killed run left behind is taken over. Raises `BrogueError` where the model cannot be had or there
    is no memory for it.
    """
    raise NotImplementedError
    yield


def stop_others(home: Home) -> bool:
    """Stop the engines of other base models that killed runs left behind; false if there were none."""
    raise NotImplementedError


def how_to_use(ready: Ready, data: str) -> str:
    """What to do when the winner is an arm of another base model, which cannot be applied to this one."""
    raise NotImplementedError
