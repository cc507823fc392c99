"""The same engines as a discrete-event simulation (simpy), which the planner's formulas are checked against.

Requests arrive at random, ask for an adapter by its popularity, wait for one of the engine's slots by the rules of
serve/slots.py, wait for room in the batch, stop everybody while their prompt is read and their adapter fetched, and
then get one token a step.
"""

import heapq
import math
import random
from collections import Counter, OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from serve.capacity_engine import EngineModel, Traffic
from serve.capacity_popularity import Floats
from serve.slots import PATIENCE_S

WARM_UP = 0.15  # of the requests are not counted: the queues have to fill first
Events = Generator[simpy.Event, Any, None]


@dataclass(eq=False)
class Asked:
    """One request and when things happened to it, in seconds since the start."""

    adapter: int
    tokens: int
    arrived: float
    admitted: float = math.nan  # has a slot
    started: float = math.nan  # is in the batch
    done: float = math.nan
    hit: bool = True  # its adapter was in a slot when it came into the batch
    from_disk: bool = False


@dataclass(frozen=True)
class Simulated:
    """What a simulation measured."""

    answers_per_s: float
    hit_rate: float
    disk_rate: float  # of the requests whose adapter had to come from disk
    slot_waiting: float  # of the requests that waited for a slot
    waiting_share: float  # of the requests that waited at all
    mean_wait_s: float
    p95_wait_s: float
    mean_s: float
    p50_s: float
    p95_s: float


def simulate(engine: EngineModel, traffic: Traffic, shares: Floats, routed: Floats, requests: int = 20_000,
             seed: int = 1) -> Simulated:  # fmt: skip
    """So many requests at engines like `engine`; `routed[engine, adapter]` is which part each engine gets."""
    env, chance = simpy.Environment(), random.Random(seed)
    engines = [_Engine(env, engine, traffic, rates * shares) for rates in routed]
    asked: list[Asked] = []
    env.process(_arrivals(env, engines, traffic, shares, routed, requests, chance, asked))
    env.run()
    step = engine.speed.step_s(engine.batch, engine.slots)  # who comes in the middle of one is not said to wait
    return _summary(asked[int(requests * WARM_UP) :], step)


def _arrivals(env: simpy.Environment, engines: "list[_Engine]", traffic: Traffic, shares: Floats, routed: Floats,
              requests: int, chance: random.Random, asked: list[Asked]) -> Events:  # fmt: skip
    adapters = chance.choices(range(len(shares)), weights=shares.tolist(), k=requests)
    numbers, routes = range(len(engines)), routed.T.tolist()
    for adapter in adapters:
        yield env.timeout(chance.expovariate(traffic.rps))
        # A whole number of tokens whose mean is the exponential's: rounding up adds half a token, for long answers.
        length = chance.expovariate(1 / traffic.tokens) if traffic.varied else traffic.tokens
        request = Asked(adapter, max(1, round(length)), env.now)
        asked.append(request)
        engines[chance.choices(numbers, weights=routes[adapter])[0]].ask(request)


class _Gate:
    """serve/slots.py in simulated time: at most so many distinct adapters at an engine, in fair turns."""

    def __init__(self, env: simpy.Environment, total: int) -> None:
        self._env = env
        self._total = total
        self._holders: Counter[int] = Counter()
        self._queue: list[Asked] = []

    def ask(self, request: Asked) -> list[Asked]:
        """Queues the request; those that may go to the engine now."""
        self._queue.append(request)
        return self._admit()

    def leave(self, adapter: int) -> list[Asked]:
        """A request has ended; those that may go to the engine now."""
        self._holders[adapter] -= 1
        if not self._holders[adapter]:
            del self._holders[adapter]
        return self._admit() if self._queue else []

    def _admit(self) -> list[Asked]:
        entered: list[Asked] = []
        while (chosen := self._next()) is not None:
            for request in chosen:
                self._queue.remove(request)
                self._holders[request.adapter] += 1
                request.admitted = self._env.now
            entered += chosen
        return entered

    def _next(self) -> list[Asked] | None:
        for request in self._queue:
            if request.adapter in self._holders:
                return [request]
            if len(self._holders) < self._total:
                return [other for other in self._queue if other.adapter == request.adapter]
            if self._env.now - request.arrived > PATIENCE_S:
                return None
        return None


class _Engine:
    def __init__(self, env: simpy.Environment, model: EngineModel, traffic: Traffic, rates: Floats) -> None:
        self._env = env
        self._model = model
        popular = [int(adapter) for adapter in np.argsort(-rates, kind="stable") if rates[adapter]]
        self._prompt_s = traffic.prompt_tokens * model.speed.prompt_token_s
        self._gate = _Gate(env, model.slots)
        self._queue: list[Asked] = []
        self._batch: list[tuple[int, int, Asked]] = []  # a heap: the step at which each is done
        self._active: Counter[int] = Counter()
        # The least recently used first. It starts with the most popular: else the first minutes would all be loading.
        self._slots: OrderedDict[int, None] = OrderedDict.fromkeys(reversed(popular[: model.slots]))
        self._cache: OrderedDict[int, None] = OrderedDict.fromkeys(reversed(popular[: model.cached]))
        self._steps = self._number = 0
        self._called: simpy.Event | None = None  # the engine waits for this
        env.process(self._run())

    def ask(self, request: Asked) -> None:
        self._enter(self._gate.ask(request))

    def _enter(self, requests: list[Asked]) -> None:
        self._queue += requests
        if self._queue and len(self._batch) < self._model.batch and self._called is not None:
            called, self._called = self._called, None
            called.succeed()

    def _run(self) -> Events:
        while True:
            stalled = self._take_in()
            if stalled:
                yield self._env.timeout(stalled)
            elif not self._batch:
                self._called = self._env.event()
                yield self._called
            else:
                yield from self._steps_until_something_happens()

    def _take_in(self) -> float:
        """New requests into the batch, one at a time: the seconds that everybody stands still for it."""
        if not self._queue or len(self._batch) >= self._model.batch:
            return 0.0
        request = self._queue.pop(0)
        request.started = self._env.now
        stalled = self._prompt_s + self._fetch(request)
        self._active[request.adapter] += 1
        self._number += 1
        heapq.heappush(self._batch, (self._steps + request.tokens, self._number, request))
        return max(stalled, 1e-12)

    def _fetch(self, request: Asked) -> float:
        speed, adapter, seconds = self._model.speed, request.adapter, 0.0
        if adapter not in self._cache:
            request.from_disk, seconds = True, seconds + speed.disk_load_s
        if adapter not in self._slots:
            request.hit, seconds = False, seconds + speed.slot_load_s
        for kept, room in ((self._slots, self._model.slots), (self._cache, self._model.cached)):
            kept[adapter] = None
            for used in [adapter, *self._active]:
                if used in kept:
                    kept.move_to_end(used)
            if len(kept) > room:
                kept.popitem(last=False)
        return seconds

    def _steps_until_something_happens(self) -> Events:
        """To the end of the first answer of the batch, or to the step's end at which somebody new may come in."""
        step = self._model.speed.step_s(len(self._batch), len(self._active))
        steps, began = self._batch[0][0] - self._steps, self._env.now
        if len(self._batch) < self._model.batch:
            self._called = self._env.event()
            yield self._env.timeout(steps * step) | self._called
            self._called = None
            gone = min(steps, math.ceil((self._env.now - began) / step - 1e-9))
            if gone < steps:
                yield self._env.timeout(max(0.0, began + gone * step - self._env.now))
        else:
            yield self._env.timeout(steps * step)
            gone = steps
        self._steps += gone
        while self._batch and self._batch[0][0] <= self._steps:
            self._end(heapq.heappop(self._batch)[2])

    def _end(self, request: Asked) -> None:
        request.done = self._env.now
        self._active[request.adapter] -= 1
        if not self._active[request.adapter]:
            del self._active[request.adapter]
        self._enter(self._gate.leave(request.adapter))


def _summary(asked: list[Asked], step: float) -> Simulated:
    times = np.array([(one.arrived, one.started, one.done, one.admitted) for one in asked])
    waits, totals = times[:, 1] - times[:, 0], times[:, 2] - times[:, 0]
    lasted = times[:, 0].max() - times[:, 0].min()
    within = np.count_nonzero((times[:, 2] >= times[:, 0].min()) & (times[:, 2] <= times[:, 0].max()))
    return Simulated(
        answers_per_s=float(within / lasted), hit_rate=float(np.mean([one.hit for one in asked])),
        disk_rate=float(np.mean([one.from_disk for one in asked])),
        slot_waiting=float(np.mean(times[:, 3] > times[:, 0])),
        waiting_share=float(np.mean(waits > step)),
        mean_wait_s=float(waits.mean()), p95_wait_s=float(np.quantile(waits, 0.95)), mean_s=float(totals.mean()),
        p50_s=float(np.quantile(totals, 0.5)), p95_s=float(np.quantile(totals, 0.95)),
    )  # fmt: skip
