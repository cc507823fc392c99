"""The advisor's arms of another base model: each base has a home and an engine of its own while it is asked.

The home is `<home>/advice/<id>/other/<base>/`: its own brogue.toml, its own `brogue up` on free ports, its adapters.
The engine runs beside the one that serves people, where there is memory for both, and only as long as it is asked.

    with other_base(home, id, other.base, tell) as at_work:
        lab = Lab(at_work.home, id, task, at_work.base, at_work.gateway, seed, tell)
        ready = make(lab, other.inner, records, {}).model_copy(update={"base_model": other.base})
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from adapters.base_model import BaseModel, prepare
from adapters.exam_asking import Gateway
from assistant.advice_types import Arm, Ready
from assistant.exams import running
from assistant.services import running_gateway, stop_services
from data.errors import BrogueError
from data.home import Home, write_json, write_text
from data.settings import AdvisorSettings, EngineSettings, Settings, StoreSettings, load_settings
from serve.engine import free_port
from serve.hardware import GIB, detect_device, gib, memory_of, plan_own

ARMS = ("prompt", "prompt-constrained", "few-shot-nearest", "sft-lora")  # that another base model is tried with
UPKEEP = 4
TRIES = 3  # to start an engine: a port that is free may be taken by somebody else before it is bound
STARTING = "starting"  # locked while an engine comes up, also by what a killed run has left behind
LOOPBACK = "127.0.0.1"
AT_HOME = {"host": LOOPBACK, "tls_certificate": None, "tls_key": None, "behind_proxy": False}
COMMAND = (sys.executable, "-m", "assistant.cli")
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
    found = []
    for base, short in zip(bases, _short_names(bases), strict=True):
        for arm in arms:
            if arm.name in ARMS:
                outer = arm.model_copy(update={
                    "name": f"{short}-{arm.name}", "family": "other base", "title": f"{arm.title}, with {short}",
                    "needs": tuple(f"{short}-{name}" for name in arm.needs), "upkeep": UPKEEP,
                })  # fmt: skip
                found.append(OtherArm(base, outer, arm))
    return found


def _short_names(bases: Sequence[str]) -> list[str]:
    """A name for each, fit for a folder; the last part of its own, with a number where two are the same."""
    found: list[str] = []
    for base in bases:
        last = re.sub(r"[^a-z0-9.]+", "-", base.rstrip("/").rpartition("/")[2].lower()).strip("-.")[:24] or "base"
        number = sum(name == last or name.startswith(f"{last}--") for name in found)
        found.append(f"{last}--{number + 1}" if number else last)
    return found


@contextmanager
def other_base(home: Home, id: str, setting: str, tell: Tell) -> Iterator[Other]:
    """The base model `setting` at work in its own home, until the block ends, however it ends.

    Its engine takes a minute or two to start, so all its arms belong into one block. One that a killed run left behind
    is taken over. Raises `BrogueError` where the model cannot be had or there is no memory for its engine.
    """
    bases = load_settings(home.settings_file).advisor.other_bases
    known = dict(zip(bases, _short_names(bases), strict=True))
    own = Home(home.root / "advice" / id / "other" / known.get(setting, _short_names([setting])[0]))
    base = _make_home(home, own, setting, tell)
    with ExitStack() as stack:
        stack.callback(stop_services, own)
        _start(own, base, tell)
        yield Other(own, base, running(own))


def how_to_use(ready: Ready, data: str) -> str:
    """What to do when the winner is an arm of another base model, which cannot be applied to this one."""
    return (
        f"this arm answers with another base model; put base_model = {json.dumps(ready.base_model)} into brogue.toml, "
        f"restart (brogue down, brogue up), then: brogue advise --data {data}. What is trained for the present base "
        "model is not served meanwhile"
    )


def _make_home(home: Home, own: Home, setting: str, tell: Tell) -> BaseModel:
    """The other base's home, ready for `brogue up`; the model itself lies with this home's, to be used again."""
    found = prepare(setting, home, tell)
    folder = Path(found.path)
    settings = load_settings(home.settings_file)
    chosen = settings.model_copy(update={
        "base_model": found.path, "engine": _engine(settings.engine, found), "advisor": AdvisorSettings(),
        "store": StoreSettings(logging="off"),  # its own file: nobody's questions are kept there
        "gateway": settings.gateway.model_copy(update=AT_HOME),
        "page": settings.page.model_copy(update=AT_HOME),
    })  # fmt: skip
    own.assistants.mkdir(parents=True, exist_ok=True)  # `brogue up` makes its example where there is none
    write_text(own.settings_file, as_toml(chosen))
    base = found.model_copy(update={"name": folder.name})
    write_json(own.models / f"{folder.name.lower()}.json", base.model_dump(mode="json"))  # need not be hashed again
    return prepare(found.path, own, tell)


def _engine(settings: EngineSettings, base: BaseModel) -> EngineSettings:
    """On a GPU vLLM takes the share that it is told, so it is told what the other engine leaves.

    On a CPU `brogue up` itself refuses what does not fit into the memory that is free.
    """
    device = detect_device() if settings.device == "auto" else settings.device
    if device == "cpu":
        return settings
    memory = memory_of("gpu")
    needed = plan_own(settings, base.weight_bytes, base.kv_bytes_per_token, base.context_length).memory_bytes or 0
    if needed > memory.free:
        raise BrogueError(
            f"too little memory for {base.name} beside the engine that runs: it needs about {gib(needed)} of the GPU, "
            f"{gib(memory.free)} are free; lower engine.gpu_memory_utilization in brogue.toml and restart"
        )
    share = min(settings.gpu_memory_utilization, max(needed, memory.free - GIB) / memory.total)
    return settings.model_copy(update={"gpu_memory_utilization": round(share, 3)})


def as_toml(settings: Settings) -> str:
    """Settings as brogue.toml holds them: scalars and lists are written as in JSON, what is none is left out."""
    values = settings.model_dump(mode="json")
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = _lines({name: value for name, value in values.items() if name not in tables})
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]


def _start(own: Home, base: BaseModel, tell: Tell) -> None:
    """`brogue up` in that home, unless it is up already. Raises `BrogueError` with what it said last."""
    with (own.root / STARTING).open("w") as lock:
        tell(f"{base.name}: its engine")
        fcntl.flock(lock, fcntl.LOCK_EX)  # a start that a killed run began goes on by itself; it is waited for
        for attempt in range(1, TRIES + 1):
            said = _up(own, lock.fileno(), lambda line: tell(f"{base.name}: {line}"))
            if said is None and running_gateway(own) is not None:
                return
            if attempt == TRIES or "address already in use" not in (said or "").lower():
                raise BrogueError(f"{base.name} cannot be tried: {said or 'its engine stopped as it had started'}")


def _up(own: Home, lock: int, tell: Tell) -> str | None:
    """None when all is up; else its last words. Whatever ends us here ends it, too."""
    port = page_port = free_port()
    while page_port == port:
        page_port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "up", "--port", str(port), "--page-port", str(page_port)],
        env=os.environ | {"BROGUE_HOME": str(own.root)}, pass_fds=[lock], text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    last = ""
    try:
        for line in process.stderr:
            if line := line.strip():
                last = line
                tell(line)
        return None if process.wait() == 0 else last.removeprefix("brogue: ")
    except BaseException:
        process.terminate()
        process.wait()
        raise
