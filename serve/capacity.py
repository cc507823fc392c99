"""What engines will do under a traffic, by formulas: batch, slots, hits, waiting, latency.

An engine is a queue whose speed depends on its batch (serve/capacity_queue.py), fed with the traffic's share that comes
to it. Before it stands the queue for its adapter slots: an adapter is at the engine for as long as a request of it is,
and no more of them may be there than there are slots. serve/capacity_simulation.py checks both.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.frozen import Frozen
from serve.capacity_engine import EngineModel, Traffic
from serve.capacity_popularity import Floats, different_rows, distinct, hit_rate
from serve.capacity_queue import GRID, SPAN, Queue, Spread, erlang_c, mixed_quantile, settle
from serve.slots import PATIENCE_S

REPRESENTATIVES = 8  # of engines that are all different, beside the busiest
NO_WAIT_S = 1e-6
LONGEST_WAIT_S = 1e5


class Prediction(Frozen):
    """What one engine, or several together, do. Times are in seconds; infinite where the queue would never settle."""

    rps: float
    load: float  # of what a full batch could serve; the busiest engine's
    in_service: float  # requests in the batch, of an engine
    adapters_active: float  # different ones at an engine
    hit_rate: float  # requests whose adapter is in a slot already
    disk_rate: float  # requests whose adapter has to come from disk
    slot_waiting: float  # requests that wait for a slot
    waiting: float  # requests that wait for room in the batch
    mean_wait_s: float
    p95_wait_s: float
    first_token_s: float  # p95, with a mean prompt
    mean_s: float
    p50_s: float
    p95_s: float
    tokens_per_s: float  # output, at this traffic
    full_tokens_per_s: float  # output, with full batches


class _One(NamedTuple):
    """One engine's part: all but the percentiles, and the distributions that these are taken from."""

    found: Prediction
    waits: Spread
    answers: Spread


class _Slots(Frozen):
    waiting: float  # share of the requests
    mean_wait_s: float  # of a request, over all
    active: float


def predict(engine: EngineModel, traffic: Traffic, shares: Floats, routed: Floats) -> Prediction:
    """All engines together; `routed[engine, adapter]` is which part of an adapter's requests each engine gets."""
    if len(different_rows(routed)) == 1:
        alike = [routed[0] * shares * traffic.rps] * len(routed)
        return _together([(_predict_one(engine, traffic, alike[0]), alike)])
    asked = [rates for rates in routed * shares * traffic.rps if rates.sum() > 0]
    asked.sort(key=lambda rates: float(rates.sum()), reverse=True)
    # The busiest one, and of the others one for each group of about the same load.
    groups = [asked[:1], *_cut(asked[1:], REPRESENTATIVES)]
    return _together([(_predict_one(engine, traffic, same[len(same) // 2]), same) for same in groups])


def _cut(asked: list[Floats], parts: int) -> list[list[Floats]]:
    edges = [len(asked) * part // parts for part in range(parts + 1)]
    return [asked[a:b] for a, b in pairwise(edges) if b > a]


def _predict_one(engine: EngineModel, traffic: Traffic, rates: Floats) -> _One:
    """One engine that gets `rates` requests a second of each adapter."""
    rates = rates[rates > 0]
    arrivals = float(rates.sum())
    popular = rates / arrivals
    hit, disk = hit_rate(popular, engine.slots), 1 - hit_rate(popular, engine.cached)
    read = traffic.prompt_tokens * engine.speed.prompt_token_s
    stall = read + (1 - hit) * engine.speed.slot_load_s + disk * engine.speed.disk_load_s
    steps = _steps(engine, popular)
    most = engine.batch / (traffic.tokens * float(steps[-1]) + engine.batch * stall)  # requests a second, at full batch
    full = most * traffic.tokens
    if arrivals >= most:
        return _never(arrivals, arrivals / most, engine.batch, hit, disk, full)
    # Newcomers' prompts and adapters stop the whole batch: what is left of each second makes tokens.
    completed = (1 - arrivals * stall) * np.arange(engine.batch + 1) / (traffic.tokens * steps)
    queue = settle(arrivals, completed, traffic.variation)
    batch_wait = queue.mean_wait_s
    slots = _slots(engine, traffic, rates, queue.residence_s + batch_wait)
    mean = slots.mean_wait_s + batch_wait + queue.residence_s
    step = max(queue.residence_s - stall, 0.0) / traffic.tokens
    waits, answers = _spreads(queue, slots, traffic, step, mean)
    found = Prediction(
        rps=arrivals, load=arrivals / most, in_service=queue.in_service, adapters_active=slots.active, hit_rate=hit,
        disk_rate=disk, slot_waiting=slots.waiting, waiting=queue.waiting_probability,
        mean_wait_s=slots.mean_wait_s + batch_wait, p95_wait_s=0, first_token_s=stall + step, mean_s=mean, p50_s=0,
        p95_s=0, tokens_per_s=arrivals * traffic.tokens, full_tokens_per_s=full,
    )  # fmt: skip
    return _One(found, waits, answers.later(stall))


def _steps(engine: EngineModel, popular: Floats) -> Floats:
    """Seconds of a step with 0, 1, … requests in the batch."""
    adapters = np.minimum(distinct(popular, engine.batch), engine.slots)
    return np.array([engine.speed.step_s(n, float(adapters[n])) for n in range(engine.batch + 1)])


def _slots(engine: EngineModel, traffic: Traffic, rates: Floats, residence: float) -> _Slots:
    """Waiting for a slot, if a request is at the engine for `residence` seconds.

    Sessions of adapters are what queues: from an adapter's first request to the moment when none of it is there. The
    adapters are the finite source of an M/M/c queue with the slots as servers: one whose session waits begins none.
    The wait is where the queue's answer agrees with the load that it leaves (bisection: one falls, the other rises).
    """
    active = float(-np.expm1(-rates * residence).sum())
    if len(rates) <= engine.slots or _sessions(rates, residence, 0.0, engine.slots, traffic).wait_s < NO_WAIT_S:
        return _Slots(waiting=0.0, mean_wait_s=0.0, active=active)
    low, high = 0.0, LONGEST_WAIT_S
    for _ in range(60):
        wait = (low + high) / 2
        found = _sessions(rates, residence, wait, engine.slots, traffic)
        low, high = (wait, high) if found.wait_s > wait else (low, wait)
    found = _sessions(rates, residence, high, engine.slots, traffic)
    # Those that come while their adapter's session waits, wait for the rest of it; behind the impatient, the holders'.
    met = max(found.meets, 1e-9)
    joining = found.began * found.meets * (1 + rates * high / met)
    waited = found.began * (high + rates * high**2 / met)
    if found.closed:
        late = found.began * rates * found.held * found.closed
        joining, waited = joining + late, waited + late * high
    total = float(rates.sum())
    busy = min(float(found.began @ found.held), engine.slots)
    return _Slots(waiting=min(1.0, float(joining.sum()) / total), mean_wait_s=float(waited.sum()) / total, active=busy)


class _Sessions(NamedTuple):
    began: Floats  # a second, of each adapter
    held: Floats  # for how long each holds its slot
    meets: float  # how probably a session finds no slot free
    closed: float  # for which share of the time those that hold slots may let nobody else in
    wait_s: float  # a session's wait that follows from these


def _sessions(rates: Floats, residence: float, wait: float, slots: int, traffic: Traffic) -> _Sessions:
    """How sessions queue if each waits `wait` seconds for its slot, on average."""
    open_held = np.expm1(np.minimum(rates * residence, 30)) / rates  # a busy period
    together = 1 + rates * wait  # requests that enter at once
    closed_held = residence * (np.log(together) + 1 if traffic.varied else np.ones_like(rates))  # the longest of them
    closed = 1.0 if wait > PATIENCE_S else wait / PATIENCE_S * math.exp(1 - PATIENCE_S / max(wait, 1e-9))
    held = closed * np.minimum(open_held, closed_held) + (1 - closed) * open_held
    began = 1 / (1 / rates + wait + held)
    busy = float(began @ held)
    if busy >= slots:
        return _Sessions(began, held, 1.0, closed, math.inf)
    meets = erlang_c(slots, busy)
    queued = meets * busy / float(began.sum()) / (slots - busy) * (1 + traffic.variation**2) / 2
    return _Sessions(began, held, meets, closed, queued)


def _spreads(queue: Queue, slots: _Slots, traffic: Traffic, step: float,
             mean: float) -> tuple[Spread, Spread]:  # fmt: skip
    """How waits, and whole answers without their stall, are distributed."""
    grid = max(mean, 1e-9) * SPAN / GRID
    waits = Spread.exponential(grid, _of_those(queue.mean_wait_s, queue.waiting_probability),
                               queue.waiting_probability)  # fmt: skip
    if slots.waiting:
        waits = waits.plus(Spread.exponential(grid, _of_those(slots.mean_wait_s, slots.waiting), slots.waiting))
    making = traffic.tokens * step
    answers = Spread.exponential(grid, making) if traffic.varied else Spread.fixed(grid, making)
    return waits, waits.plus(answers)


def _of_those(mean: float, share: float) -> float:
    return mean / share if share else 0.0


def _never(arrivals: float, load: float, batch: int, hit: float, disk: float, full: float) -> _One:
    """An engine that gets more than it can serve."""
    found = Prediction(
        rps=arrivals, load=load, in_service=batch, adapters_active=math.inf, hit_rate=hit, disk_rate=disk,
        slot_waiting=1.0, waiting=1.0, mean_wait_s=math.inf, p95_wait_s=math.inf, first_token_s=math.inf,
        mean_s=math.inf, p50_s=math.inf, p95_s=math.inf, tokens_per_s=full, full_tokens_per_s=full,
    )  # fmt: skip
    return _One(found, Spread.fixed(1.0, 0.0), Spread.fixed(1.0, 0.0))


def _together(parts: Sequence[tuple[_One, Sequence[Floats]]]) -> Prediction:
    """Several engines: shares, means and percentiles are those of all requests; the load is the busiest one's."""
    weights = np.array([sum(float(rates.sum()) for rates in same) for _, same in parts])
    found, total = [one.found for one, _ in parts], float(weights.sum())
    means = {name: float(sum(getattr(one, name) * weight for one, weight in zip(found, weights, strict=True)) / total)
             for name in Prediction.model_fields}  # fmt: skip
    answered = sum(one.tokens_per_s / one.rps * weight for one, weight in zip(found, weights, strict=True))
    full = sum(one.found.full_tokens_per_s * len(same) for one, same in parts)
    summed = {"tokens_per_s": float(answered), "full_tokens_per_s": full}
    all_of_them = means | summed | {"rps": total, "load": max(one.load for one in found)}
    if math.isinf(means["mean_s"]):
        return Prediction.model_validate(all_of_them)
    parted = [float(weight / total) for weight in weights]
    waits = [(one.waits, part) for (one, _), part in zip(parts, parted, strict=True)]
    answers = [(one.answers, part) for (one, _), part in zip(parts, parted, strict=True)]
    late = mixed_quantile(waits, 0.95)
    percentiles = {"p95_wait_s": late, "first_token_s": late + means["first_token_s"],
                   "p50_s": mixed_quantile(answers, 0.5), "p95_s": mixed_quantile(answers, 0.95)}  # fmt: skip
    return Prediction.model_validate(all_of_them | percentiles)
