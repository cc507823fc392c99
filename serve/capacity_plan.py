"""How many engines with how many slots a traffic needs, and what would run out first."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data.errors import BrogueError
from data.frozen import Frozen
from serve.capacity import Prediction, predict
from serve.capacity_engine import EngineModel, Traffic
from serve.capacity_popularity import Floats, different_rows, everywhere, zipf

MOST_LOAD = 0.8  # of what full batches could serve: queues grow fast beyond
MOST_LOAD_WITH_GOAL = 0.95
MOST_SLOT_WAITING = 0.05  # requests that may wait for a slot
ROUGH_SLOT_WAITING = 0.1  # more, and the formulas are off by more than a quarter: simulate
ALIKE = 1.03  # of two numbers of slots whose latencies differ by less, the smaller is taken
MOST_ENGINES = 1024
IDLE_RPS = 1e-6
BEYOND = 1.05  # what runs out is looked for at so many times the traffic that still fits

Build = Callable[[int, int], EngineModel]  # slots, adapters that may be asked of the engine
Route = Callable[[Floats, int], Floats]  # shares, engines → which part of an adapter's requests each gets


class Goal(Frozen):
    """What is good enough: a p95 of the whole answer, or else moderate load and hardly any waiting for slots."""

    p95_s: float | None = None

    @property
    def words(self) -> str:
        """For a person."""
        if self.p95_s is not None:
            return f"p95 of at most {self.p95_s:g} s, load of at most {MOST_LOAD_WITH_GOAL:.0%}"
        return f"load of at most {MOST_LOAD:.0%}, at most {MOST_SLOT_WAITING:.0%} wait for a slot"

    def is_met(self, found: Prediction) -> bool:
        """Whether that is good enough."""
        if self.p95_s is not None:
            return found.load <= MOST_LOAD_WITH_GOAL and found.p95_s <= self.p95_s
        return found.load <= MOST_LOAD and found.slot_waiting <= MOST_SLOT_WAITING


class Plan(Frozen):
    """So many engines, and what they will do."""

    engines: int
    engine: EngineModel
    adapters_held: int  # by the engine that may be asked for the most
    found: Prediction
    met: bool  # the goal
    limit: str  # what runs out first if the traffic grows
    most_rps: float  # at which the goal is still met

    @property
    def rough(self) -> bool:
        """Whether so much waiting for slots is predicted that the formulas do not hold well."""
        return self.found.slot_waiting > ROUGH_SLOT_WAITING


class _Case(NamedTuple):
    build: Build
    traffic: Traffic
    goal: Goal
    route: Callable[[int], Floats]  # engines → [engine, adapter]
    shares: Floats


def plan(build: Build, traffic: Traffic, goal: Goal, slots: int | None = None, engines: int | None = None,
         route: Route | None = None, near: int = 1) -> Plan:  # fmt: skip
    """The fewest engines that meet the goal, unless `engines` says how many; `slots` is chosen likewise.

    `near` is a guess of how many that are.

    Raises `BrogueError` where no number of engines would meet it, or nothing fits.
    """
    shares = zipf(traffic.adapters, traffic.zipf)
    routes = functools.cache(lambda count: route(shares, count) if route else everywhere(len(shares), count))
    case = _Case(build, traffic, goal, routes, shares)
    if engines is None:
        engines = _fewest(case, slots, near)
    engine, found = _best(case, engines, slots)
    limit, most = _limit(case, engine, engines, slots is not None)
    return Plan(engines=engines, engine=engine, adapters_held=_held(case, engines), found=found,
                met=goal.is_met(found), limit=limit, most_rps=most)  # fmt: skip


def _fewest(case: _Case, slots: int | None, near: int) -> int:
    """From `near` on more and more until the goal is met, then halved in between."""
    idle = case._replace(traffic=case.traffic.model_copy(update={"rps": IDLE_RPS}))
    alone = _best(idle, 1, slots)[1]
    if case.goal.p95_s is not None and alone.p95_s > case.goal.p95_s:
        raise BrogueError(
            f"no number of engines answers within {case.goal.p95_s:g} s at p95: one without any other request takes "
            f"{alone.p95_s:.1f} s for {case.traffic.tokens:g} tokens on average; ask for fewer --tokens, a longer "
            "--p95, a smaller --base or a faster --gpu"
        )
    few, many = 0, near
    while not case.goal.is_met(_best(case, many, slots)[1]):
        few, many = many, many * 2 if near == 1 else many + math.ceil(many / 8)
        if many > MOST_ENGINES:
            way = "name a faster --gpu, or give more --slots" if slots else "name a faster --gpu"
            raise BrogueError(f"{MOST_ENGINES} engines do not suffice for {case.traffic.rps:,.12g} requests/s; {way}")
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if case.goal.is_met(_best(case, middle, slots)[1]) else (middle, many)
    return many


def _best(case: _Case, engines: int, slots: int | None) -> tuple[EngineModel, Prediction]:
    """The engine with the fewest slots among those whose p95 is about the shortest; those that meet the goal first."""
    routed, held = case.route(engines), _held(case, engines)
    tried: list[tuple[EngineModel, Prediction]] = []
    for count in [slots] if slots else _candidates(held):
        try:
            engine = case.build(count, held)
        except BrogueError:
            if not tried:
                raise
            break  # more slots fit even less
        tried.append((engine, predict(engine, case.traffic, case.shares, routed)))
    good = [one for one in tried if case.goal.is_met(one[1])] or tried
    shortest = min(found.p95_s for _, found in good)
    if math.isinf(shortest):
        return min(good, key=lambda one: one[1].load)
    return next(one for one in good if one[1].p95_s <= shortest * ALIKE)


def _candidates(held: int) -> list[int]:
    """Numbers of slots: 1, 2, 3, 4, 6, 8, 12, … and one for each adapter."""
    steps = sorted({1, *(2**power for power in range(1, 12)), *(3 * 2**power for power in range(11))})
    return [count for count in steps if count < held] + [held]


def _held(case: _Case, engines: int) -> int:
    return int(np.count_nonzero(different_rows(case.route(engines)), axis=1).max())


def _limit(case: _Case, engine: EngineModel, engines: int, slots_given: bool) -> tuple[str, float]:
    """What is in the way of more requests, and how many there may be: found by taking each limit away in turn."""
    routed, even = case.route(engines), everywhere(len(case.shares), engines)

    def works(rps: float, with_engine: EngineModel = engine, with_route: Floats = routed) -> bool:
        traffic = case.traffic.model_copy(update={"rps": rps})
        return case.goal.is_met(predict(with_engine, traffic, case.shares, with_route))

    low, high = 0.0, case.traffic.rps
    while works(high):
        low, high = high, high * 2
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if works(middle) else (low, middle)
    more = max(low * BEYOND, high)
    if works(more, engine.model_copy(update={"slots": len(case.shares)})):
        # Slots that were chosen are as many as serve best; if the cache is full too, they have taken what there was.
        return ("memory" if engine.batch_limit == "memory" and not slots_given else "slots"), low
    if works(more, with_route=even):
        return "balance", low  # of the shards: one engine has more than its share
    if works(more, engine.model_copy(update={"batch": engine.batch * 2})):
        return engine.batch_limit, low
    speed = engine.speed
    read = speed.fixed_s + speed.stream_s * engine.batch
    if not speed.computed_s:
        return "speed", low
    return ("arithmetic" if speed.computed_s * engine.batch > read else "bandwidth"), low
