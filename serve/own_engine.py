"""One version's own engine, from the merging of its weights to its end.

A version whose method changes weights in a way that no LoRA can express is merged into the base model, once, into
`<home>/cache/merged/`, and that whole model is served by a vLLM process of its own.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from adapters.registry import AdapterCard, Registry
from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import EngineSettings
from serve.engine import Engine
from serve.engine_api import Lease, Refused, probe
from serve.hardware import GIB, EnginePlan, gib, memory_of

POLL_S = 0.3
TORCH_BYTES = GIB  # what merging takes besides the weights


class NoRoom(Refused):
    """There is too little memory now; that is no fault of the version's."""


class Base(NamedTuple):
    """The base model, as far as merging needs it."""

    path: str
    weight_bytes: int


class Maker:
    """Makes what a version's engine needs: the merged weights' folder and the process, not yet started.

    `report` is told the ids of all processes that run for such versions, whenever one begins or ends.
    """

    def __init__(
        self, home: Home, registry: Registry, settings: EngineSettings, base: Base, plan: EnginePlan,
        report: Callable[[list[int]], None],
    ) -> None:  # fmt: skip
        self.report = report
        self.timeout_s = settings.start_timeout_s
        self.memory_bytes = plan.memory_bytes or 0
        self._home = home
        self._registry = registry
        self._settings = settings
        self._base = base
        self._plan = plan

    def refuse_lack(self, card: AdapterCard) -> None:
        """Raises `NoRoom` if the memory that is free now does not suffice."""
        needs = {self._plan.device: self.memory_bytes}
        if not self.weights(card).exists():  # merging computes in float32, on the CPU
            needs["cpu"] = max(needs.get("cpu", 0), 2 * self._base.weight_bytes + TORCH_BYTES)
        for device, needed in needs.items():
            free = memory_of(device).free
            if needed > free:
                way = (
                    "lower engine.gpu_memory_utilization in brogue.toml" if device == "gpu" else "close other programs"
                )
                raise NoRoom(
                    f"too little memory for {card.name}, which takes an engine of its own: it needs about "
                    f"{gib(needed)}, {gib(free)} are free; {way}, or first promote a version that shares the base "
                    "model's engine in the place of one with its own"
                )

    def weights(self, card: AdapterCard) -> Path:
        """Where the merged weights are, or will be; more exact ones where the engine computes more exactly."""
        exact = "-float32" if self._is_exact else ""
        return self._home.root / "cache" / "merged" / f"{card.engine_name}{exact}"

    def merge_command(self, card: AdapterCard) -> list[str]:
        """What makes the weights in a process of its own, whole or not at all."""
        folder = self._registry.folder(card.adapter, card.version)
        command = [sys.executable, "-m", "adapters.merging", self._base.path, str(folder), str(self.weights(card))]
        return [*command, "--dtype", "float32"] if self._is_exact else command

    def merge_log(self, card: AdapterCard) -> Path:
        """What merging has said."""
        return self._home.logs / f"merging-{card.engine_name}.log"

    def engine(self, card: AdapterCard) -> Engine:
        """Its engine: as the base model's, but without adapters and with a log of its own."""
        settings = self._settings
        if self._plan.device == "gpu":
            share = min(1.0, self.memory_bytes / memory_of("gpu").total)
            settings = settings.model_copy(update={"gpu_memory_utilization": share})
        weights, name = str(self.weights(card)), card.engine_name
        return Engine.build(weights, name, settings, self._plan, self._home, log=f"engine-{name}.log", adapters=False)

    def remove_weights(self, card: AdapterCard) -> None:
        """For a version that is not served any more."""
        shutil.rmtree(self.weights(card), ignore_errors=True)

    def clean(self) -> None:
        """Remove the weights of versions that are there no more, and what a killed merging has left."""
        known = {self.weights(card).name for card in self._cards()}
        for folder in (self._home.root / "cache" / "merged").glob("*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def _cards(self) -> list[AdapterCard]:
        cards = []
        for adapter in self._registry.adapters():
            for version in self._registry.versions(adapter):
                with suppress(BrogueError):  # a broken card: its weights can be made again
                    cards.append(self._registry.card(adapter, version))
        return cards

    @property
    def _is_exact(self) -> bool:
        return self._settings.dtype in ("float32", "float")


class OwnEngine:
    """An engine for one version. `come_up` once, then it answers through `lease` until `stop`."""

    def __init__(self, card: AdapterCard, maker: Maker, told: Callable[[], None]) -> None:
        self.card = card
        self.phase = "waiting for another version's engine"
        self.lease: Lease | None = None  # once it has answered a first question
        self.seconds: dict[str, float] = {}
        self.ready_at = 0.0
        self._maker = maker
        self._told = told
        self._engine: Engine | None = None
        self._merging: asyncio.subprocess.Process | None = None

    @property
    def pids(self) -> list[int]:
        """The processes that it has started; each heads a session."""
        found = (self._engine.pid if self._engine else None, self._merging.pid if self._merging else None)
        return [pid for pid in found if pid is not None]

    @property
    def has_died(self) -> bool:
        return self.lease is not None and (self._engine is None or not self._engine.is_alive())

    def why_dead(self) -> str:
        return self._engine.why_dead() if self._engine else "it was stopped"

    async def come_up(self) -> None:
        """Merge, start, wait, ask a first question. Raises `BrogueError` with the reason if it cannot be done."""
        began = time.monotonic()
        await asyncio.to_thread(self._maker.refuse_lack, self.card)  # a GPU is asked through its driver's program
        await self._make_weights()
        engine = self._engine = await asyncio.to_thread(self._maker.engine, self.card)
        engine.start()
        self._told()
        lease = Lease(self.card.engine_name, engine.client())
        try:
            await self._wait_healthy(engine, lease.client)
            loaded = time.monotonic()
            self.phase = "answering a first question"
            await probe(self.card.name, lease)
        except BaseException:
            await lease.client.aclose()
            raise
        self.lease, self.phase, self.ready_at = lease, "", time.monotonic()
        self.seconds = {"load": loaded - began, "probe": self.ready_at - loaded}

    async def stop(self) -> None:
        """End what runs for it; returns when all of it is gone."""
        lease, self.lease = self.lease, None
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)
            self._engine = None
        if lease is not None:
            await lease.client.aclose()

    async def _make_weights(self) -> None:
        if self._maker.weights(self.card).exists():
            return
        self.phase = "merging its weights"
        log = self._maker.merge_log(self.card)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as said:
            process = self._merging = await asyncio.create_subprocess_exec(
                *self._maker.merge_command(self.card), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
        self._told()
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            self._merging = None
            self._told()
        if process.returncode != 0:
            last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            reason = one_line(last or f"exit code {process.returncode}", 300)
            raise BrogueError(f"the weights of {self.card.name} could not be made: {reason} (log: {log})")

    async def _wait_healthy(self, engine: Engine, client: httpx.AsyncClient) -> None:
        deadline = time.monotonic() + self._maker.timeout_s
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get("/health", timeout=2)).status_code == 200:
                    return
            if not engine.is_alive():
                raise BrogueError(f"{self.card.name}: {engine.why_dead()}")
            if time.monotonic() > deadline:
                raise BrogueError(f"{self.card.name}: {engine.why_late(self._maker.timeout_s)}")
            self.phase = engine.phase()
            await asyncio.sleep(POLL_S)
