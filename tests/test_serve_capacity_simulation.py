"""The simulation against known answers, and the planner's formulas against the simulation."""

import statistics

import numpy as np
import pytest

from serve.capacity import Prediction, predict
from serve.capacity_engine import EngineModel, Speed, Traffic, cpu_engine, gpu_engine
from serve.capacity_figures import CPU_SHAPE, GPUS, SHAPES, Assumed
from serve.capacity_plan import ROUGH_SLOT_WAITING
from serve.capacity_popularity import everywhere, hit_rate, sharded, zipf
from serve.capacity_queue import erlang_c
from serve.capacity_simulation import Simulated, simulate

WITHIN = 0.25  # of the simulation: what the planner promises


def test_the_simulation_reproduces_the_mmc_queue() -> None:
    """Five servers at a load of 0.8, for which Erlang's C is known: 0.5541 wait.

    An engine that takes 1 ms for a step whatever its batch is a queue with a server for each place in the batch;
    answers of 200 tokens on average, exponential, take 0.2 s. Eight independent runs give a mean and, from how they
    differ, its standard error; the known answer must lie within four of these. In whole steps somebody who comes in
    the middle of one is late by half a step, and waits shorter than a step are not seen (0.5% of the waits, which are
    exponential with a mean of 0.2 s): one step and 1% are allowed for that.
    """
    servers, step, tokens = 5, 0.001, 200
    offered = 0.8 * servers
    traffic = Traffic(adapters=1, rps=offered / (step * tokens), prompt_tokens=0, tokens=tokens, zipf=0)
    engine = EngineModel(speed=Speed(fixed_s=step, stream_s=0), batch=servers, batch_limit="max_num_seqs", slots=1,
                         cached=1, memory={})  # fmt: skip
    runs = [simulate(engine, traffic, zipf(1, 0), everywhere(1, 1), 5000, seed) for seed in range(8)]
    waiting = erlang_c(servers, offered)
    wait = waiting * step * tokens / (servers - offered)
    assert (waiting, wait) == (pytest.approx(0.5541, abs=1e-4), pytest.approx(0.1108, abs=1e-4))
    for found, known, steps in (([run.waiting_share for run in runs], waiting, 0.01),
                                ([run.mean_wait_s for run in runs], wait, step)):  # fmt: skip
        error = statistics.stdev(found) / len(found) ** 0.5
        assert error < 0.1 * known  # else the test could hardly fail
        assert abs(statistics.fmean(found) - known) < 4 * error + steps


def cpu(adapters: int, slots: int, varied: bool = True) -> tuple[EngineModel, Traffic]:
    traffic = Traffic(adapters=adapters, rps=1e-6, prompt_tokens=50, tokens=100, zipf=1.0, varied=varied)
    return cpu_engine(SHAPES[CPU_SHAPE], traffic, slots, 8, 16, adapters, Assumed()), traffic


def gpu(name: str, base: str, adapters: int, slots: int, zipf_: float, varied: bool = True, tokens: int = 300
        ) -> tuple[EngineModel, Traffic]:  # fmt: skip
    traffic = Traffic(adapters=adapters, rps=1e-6, prompt_tokens=500, tokens=tokens, zipf=zipf_, varied=varied)
    card = GPUS[name]
    return gpu_engine(card, 1, SHAPES[base], traffic, slots, 16, card.max_num_seqs, 0.85, adapters,
                      Assumed()), traffic  # fmt: skip


def both(engine: EngineModel, traffic: Traffic, load: float, engines: int = 1, replicas: int | None = None,
         requests: int = 6000) -> tuple[Prediction, Simulated]:  # fmt: skip
    """The planner's and the simulation's answer for a traffic that loads the engines so far."""
    shares = zipf(traffic.adapters, traffic.zipf)
    routed = sharded(shares, engines, replicas) if replicas else everywhere(traffic.adapters, engines)
    full = predict(engine, traffic, shares, everywhere(traffic.adapters, engines)).full_tokens_per_s
    asked = traffic.model_copy(update={"rps": load * full / traffic.tokens})
    return predict(engine, asked, shares, routed), simulate(engine, asked, shares, routed, requests)


GRID = {
    "cpu, a quiet one": (cpu(4, 4), 0.3, 1, None),
    "cpu, busy": (cpu(4, 4), 0.8, 1, None),
    "cpu, busy, answers alike": (cpu(4, 4, varied=False), 0.8, 1, None),
    "cpu, 60 adapters": (cpu(60, 16), 0.6, 1, None),
    "cpu, three engines": (cpu(60, 16), 0.7, 3, None),
    "h100, 200 adapters": (gpu("h100", "8b", 200, 64, 1.0), 0.3, 1, None),
    "h100, a load of 0.6": (gpu("h100", "8b", 200, 128, 1.0), 0.6, 1, None),
    "h100, 1,000 adapters": (gpu("h100", "8b", 1000, 64, 1.2), 0.5, 1, None),
    "l40s, short answers alike": (gpu("l40s", "4b", 50, 32, 0.8, varied=False, tokens=60), 0.7, 1, None),
    "h100, sharded": (gpu("h100", "8b", 300, 64, 1.0), 0.4, 3, 2),
}


@pytest.mark.parametrize("name", GRID)
def test_the_planner_agrees_with_the_simulation_within_a_quarter(name: str) -> None:
    (engine, traffic), load, engines, replicas = GRID[name]
    said, found = both(engine, traffic, load, engines, replicas)
    assert said.slot_waiting <= ROUGH_SLOT_WAITING  # beyond it the planner itself calls its answer rough
    assert said.mean_s == pytest.approx(found.mean_s, rel=WITHIN)
    assert said.p50_s == pytest.approx(found.p50_s, rel=WITHIN)
    assert said.p95_s == pytest.approx(found.p95_s, rel=WITHIN)
    assert said.tokens_per_s == pytest.approx(found.answers_per_s * traffic.tokens, rel=WITHIN)
    assert said.hit_rate == pytest.approx(found.hit_rate, abs=0.03)


def test_waiting_for_slots_is_foreseen_where_slots_are_few() -> None:
    said, found = both(*cpu(60, 4), 0.6)
    assert said.slot_waiting > ROUGH_SLOT_WAITING
    assert said.mean_wait_s == pytest.approx(found.mean_wait_s, rel=0.5)  # rough, as the planner says
    easy, calm = both(*cpu(60, 16), 0.6)
    assert found.mean_wait_s > 20 * calm.mean_wait_s and said.mean_wait_s > 20 * easy.mean_wait_s


def test_a_small_cache_in_memory_sends_requests_to_the_disk() -> None:
    engine, traffic = gpu("h100", "8b", 200, 32, 1.0)
    said, found = both(engine.model_copy(update={"cached": 64}), traffic, 0.2)
    shares = zipf(200, 1.0)
    assert said.disk_rate == pytest.approx(1 - hit_rate(shares, 64))
    assert found.disk_rate == pytest.approx(said.disk_rate, abs=0.03)


def test_the_same_seed_gives_the_same_simulation() -> None:
    engine, traffic = cpu(4, 4)
    asked = traffic.model_copy(update={"rps": 1.0})
    one, same, other = (simulate(engine, asked, zipf(4, 1.0), everywhere(4, 1), 500, seed) for seed in (1, 1, 2))
    assert one == same != other


def test_every_engine_gets_its_part() -> None:
    engine, traffic = cpu(6, 6)
    asked, shares = traffic.model_copy(update={"rps": 6.0}), zipf(6, 0.0)
    routed = np.zeros((3, 6))
    routed[[0, 0, 1, 1, 2, 2], range(6)] = 1
    three = simulate(engine, asked, shares, routed, 2000)
    alone = simulate(engine, asked.model_copy(update={"rps": 2.0, "adapters": 2}), zipf(2, 0.0), everywhere(2, 1), 2000)
    assert three.mean_s == pytest.approx(alone.mean_s, rel=0.1)
