"""Several processes that train together, as `accelerate launch` starts them: on several GPUs, machines, or cores.

Each runs the same command in the same home folder. The first one speaks, keeps the run's folder and writes the version;
what the others say goes to a log.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data.errors import BrogueError
from data.home import Home

TOGETHER = ("sft", "instruct", "labelled")  # what can be trained so


def count() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the one that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def check(recipe: str, head: bool, batch_size: int) -> None:
    """Raises `BrogueError` if this cannot be trained by so many processes."""
    if count() == 1:
        return
    launched = f"{count()} processes were started"
    if recipe not in TOGETHER or head:
        what = "--head" if head else f"recipe '{recipe}'"
        raise BrogueError(f"{what} trains in one process, and {launched}; leave accelerate launch away: brogue train …")
    for kind, name in (("FSDP", "ACCELERATE_USE_FSDP"), ("DEEPSPEED", "ACCELERATE_USE_DEEPSPEED")):
        if os.environ.get(name, "").lower() == "true":
            raise BrogueError(
                f"accelerate's configuration shares the weights out ({kind}), and only whole copies can be trained "
                "yet; set distributed_type: MULTI_GPU (or MULTI_CPU) in it. Too large a base model: --method qlora"
            )
    if batch_size % count():
        raise BrogueError(
            f"{launched}, and --batch-size {batch_size} cannot be shared out among them; give a multiple of {count()}"
        )


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        _state().wait_for_everyone()


@contextmanager
def main_first() -> Iterator[None]:
    """The others go through the block when the first process has."""
    if count() == 1:
        yield
        return
    with _state().main_process_first():
        yield


def quiet_others(home: Home) -> None:
    """From now on only the first process speaks; the others' words go to `logs/train-process-N.log`."""
    if is_main():
        return
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / f"train-process-{os.environ['RANK']}.log"
    sys.stdout = sys.stderr = log.open("w", buffering=1, encoding="utf-8")


def _state() -> Any:
    from accelerate import PartialState  # type: ignore[import-untyped]
    from accelerate.utils import is_cuda_available  # type: ignore[import-untyped]

    return PartialState(cpu=not is_cuda_available())
