"""The capacity planner's formulas: known answers, memory, plans, and what sharding changes."""

import math
import random
from collections import OrderedDict

import numpy as np
import pytest

from data.errors import BrogueError
from serve.capacity import predict
from serve.capacity_engine import EngineModel, Speed, Traffic, cpu_engine, fitted, gpu_engine, read_measured
from serve.capacity_figures import CPU_SHAPE, CPU_TOKENS_PER_S, GPUS, SHAPES, Assumed, read_assumed
from serve.capacity_plan import Goal, plan
from serve.capacity_popularity import distinct, everywhere, hit_rate, sharded, zipf
from serve.capacity_queue import erlang_c, settle
from serve.placement import engines_for, place, replicas_for


def traffic(**changed: float) -> Traffic:
    given = {"adapters": 200, "rps": 50.0, "prompt_tokens": 500.0, "tokens": 300.0, "zipf": 1.0} | changed
    return Traffic.model_validate(given)


def h100(slots: int, held: int = 200, base: str = "8b", asked: Traffic | None = None) -> EngineModel:
    """One engine on one H100."""
    card = GPUS["h100"]
    return gpu_engine(card, 1, SHAPES[base], asked or traffic(), slots, 16, card.max_num_seqs, 0.85, held, Assumed())


@pytest.mark.parametrize(
    ("servers", "offered", "known"),
    [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (3, 3.0, 1.0)],
)
def test_erlangs_c_has_its_textbook_values(servers: int, offered: float, known: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(known, abs=5e-5)


def test_a_queue_whose_speed_grows_with_its_batch_is_the_mmc_queue() -> None:
    servers, service, arrivals = 6, 0.5, 10.0
    found = settle(arrivals, np.arange(servers + 1) / service)
    waiting = erlang_c(servers, arrivals * service)
    assert found.waiting_probability == pytest.approx(waiting)
    assert found.mean_wait_s == pytest.approx(waiting / (servers / service - arrivals))
    assert found.residence_s == pytest.approx(service)
    assert settle(12.5, np.arange(servers + 1) / service).load > 1


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("capacity", [4, 16, 64])
def test_ches_approximation_agrees_with_an_lru_cache(exponent: float, capacity: int) -> None:
    shares, chance, requests = zipf(200, exponent), random.Random(3), 30_000
    cache: OrderedDict[int, None] = OrderedDict()
    hits = []
    for adapter in chance.choices(range(200), weights=shares.tolist(), k=requests):
        hits.append(adapter in cache)
        cache[adapter] = None
        cache.move_to_end(adapter)
        if len(cache) > capacity:
            cache.popitem(last=False)
    found = hits[requests // 10 :]  # without the time in which the cache fills
    # Four standard errors of a share (hits follow each other nearly independently), and 0.01 for the approximation.
    error = 4 * math.sqrt(0.25 / len(found))
    assert hit_rate(shares, capacity) == pytest.approx(sum(found) / len(found), abs=error + 0.01)


def test_a_cache_for_all_adapters_always_hits_and_distinct_ones_are_counted() -> None:
    assert hit_rate(zipf(8, 1.0), 8) == 1.0
    assert hit_rate(zipf(8, 0.0), 4) == pytest.approx(0.5, abs=1e-6)
    expected = distinct(np.full(6, 1 / 6), 10)  # of ten throws of a die: 6 (1 - (5/6)^10)
    assert expected[10] == pytest.approx(6 * (1 - (5 / 6) ** 10))
    assert expected[:2] == pytest.approx([0, 1])


def test_an_engine_that_goes_moves_its_own_adapters_only() -> None:
    engines = [f"engine-{number}" for number in range(5)]
    shares = {f"adapter-{number}": 1 / 500 for number in range(500)}
    before, after = place(shares, engines, 2), place(shares, engines[:-1], 2)
    assert all(len(set(held)) == 2 for held in before.values())
    moved = [name for name in shares if set(before[name]) != set(after[name])]
    assert all("engine-4" in before[name] for name in moved)
    # Each engine holds about two fifths: a binomial of 500 with a standard deviation of 11.
    held = [sum(engine in one for one in before.values()) for engine in engines]
    assert all(abs(count - 200) < 5 * 11 for count in held), held
    assert engines_for("acme", engines, 9) == engines_for("acme", list(reversed(engines)), 9)


def test_popular_adapters_are_on_more_engines() -> None:
    assert [replicas_for(share, 10, 2) for share in (0.001, 0.2, 0.31, 0.9)] == [2, 4, 7, 10]
    routed = sharded(zipf(50, 1.2), 6, 2)
    assert routed.sum(axis=0) == pytest.approx(np.ones(50))
    held = np.count_nonzero(routed, axis=0)
    assert held[0] == 4 and held[-1] == 2


@pytest.mark.parametrize(("base", "billions"), [("0.6b", 0.596), ("8b", 8.19), ("32b", 32.8), ("70b", 70.6)])
def test_known_sizes_have_the_parameters_that_their_makers_name(base: str, billions: float) -> None:
    assert SHAPES[base].weight_bytes / 2e9 == pytest.approx(billions, rel=0.01)


def test_slots_take_memory_from_the_kv_cache() -> None:
    few, many = h100(4), h100(128)
    # A rank of 16 on all linear layers of an 8b model is about 87 MB, and vLLM keeps room for embeddings too.
    taken = many.memory["slots"] - few.memory["slots"]
    assert taken / 124 == pytest.approx(97e6, rel=0.01)
    assert few.memory["kv_cache"] - many.memory["kv_cache"] == taken
    assert few.batch > many.batch
    assert many.batch_limit == "memory"


def test_a_model_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(BrogueError, match=r"70b \(Llama 3\) does not fit: 131\.4 GiB of weights.*--gpus-per-engine 2"):
        h100(4, base="70b")


def test_the_line_goes_through_the_measured_speeds() -> None:
    line = fitted(CPU_TOKENS_PER_S)
    for streams, speed in CPU_TOKENS_PER_S.items():
        assert streams / line.step_s(streams, 0) == pytest.approx(speed, rel=0.03)
    assert 8 / fitted({8: 100.0}).step_s(8, 0) == pytest.approx(100)
    assert fitted({1: 10.0, 8: 100.0}).stream_s == 0  # faster than in proportion: no line of an engine
    assert read_measured("1:45, 16:439") == {1: 45, 16: 439}


@pytest.mark.parametrize("text", ["", "45", "1:fast", "0:45", "1:-4", "1:45,,"])
def test_speeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BrogueError, match="STREAMS:TOKENS_PER_S"):
        read_measured(text)


def test_assumed_figures_can_be_replaced_and_unknown_ones_are_refused() -> None:
    assert read_assumed(["bandwidth_share=0.75"]).bandwidth_share == 0.75
    with pytest.raises(BrogueError, match="unknown key 'bandwith'; known keys here: bandwidth_share"):
        read_assumed(["bandwith=1"])
    with pytest.raises(BrogueError, match="--assume bandwidth_share: .* found '2'"):
        read_assumed(["bandwidth_share=2"])
    with pytest.raises(BrogueError, match="wants NAME=VALUE, found 'x'"):
        read_assumed(["x"])


def test_a_step_takes_the_larger_of_reading_and_computing() -> None:
    speed = Speed(fixed_s=0.010, stream_s=0.0001, computed_s=0.0005, lora_s=0.002, adapter_s=0.001)
    assert speed.step_s(1, 1) == pytest.approx(0.0131)
    assert speed.step_s(100, 1) == pytest.approx(0.052)


def test_as_few_engines_as_meet_the_goal() -> None:
    asked, goal = traffic(), Goal(p95_s=20)
    found = plan(lambda slots, held: h100(slots, held, asked=asked), asked, goal)
    assert found.met and found.found.p95_s <= 20
    assert found.most_rps >= asked.rps
    fewer = plan(lambda slots, held: h100(slots, held, asked=asked), asked, goal, engines=found.engines - 1)
    assert not fewer.met
    assert fewer.most_rps < asked.rps


def test_more_traffic_needs_no_fewer_engines() -> None:
    counts = []
    for rps in (1, 20, 80):
        asked = traffic(rps=rps)
        counts.append(plan(lambda slots, held, a=asked: h100(slots, held, asked=a), asked, Goal()).engines)
    assert counts == sorted(counts) and counts[0] == 1 and counts[2] > 4


def test_a_goal_below_one_answers_own_time_is_refused() -> None:
    asked = traffic()
    with pytest.raises(BrogueError, match="no number of engines answers within 1 s at p95: one without any other"):
        plan(lambda slots, held: h100(slots, held, asked=asked), asked, Goal(p95_s=1))


def test_too_few_slots_are_named_as_what_runs_out_and_make_the_answer_rough() -> None:
    asked = traffic(adapters=60, rps=2.3, prompt_tokens=50, tokens=100)

    def build(slots: int, held: int) -> EngineModel:
        return cpu_engine(SHAPES[CPU_SHAPE], asked, slots, 8, 16, held, Assumed())

    found = plan(build, asked, Goal(), slots=4, engines=1)
    assert not found.met and found.rough
    assert found.limit == "slots"
    assert plan(build, asked, Goal(), slots=16, engines=1).rough is False


def test_sharding_finds_more_adapters_in_as_many_slots() -> None:
    asked, shares = traffic(adapters=1000, rps=60), zipf(1000, 1.0)
    engine = h100(32, 1000, asked=asked)
    spread, split = (predict(engine, asked, shares, routed) for routed in
                     (everywhere(1000, 8), sharded(shares, 8, 2)))  # fmt: skip
    assert split.hit_rate > spread.hit_rate + 0.1
    assert split.mean_s < spread.mean_s
    busiest = float((sharded(shares, 8, 2) @ shares).max())
    assert 1.05 / 8 < busiest < 2 / 8  # the price: hashing does not spread the traffic evenly
    assert split.rps == pytest.approx(60) and spread.rps == pytest.approx(60)


def test_more_than_an_engine_can_serve_never_ends() -> None:
    asked = traffic(rps=500)
    found = predict(h100(64), asked, zipf(200, 1.0), everywhere(200, 1))
    assert found.load > 1
    assert math.isinf(found.p95_s)
    assert found.tokens_per_s < 500 * 300
