"""`brogue status --watch`: what is made of the metrics, and what a person sees of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from assistant.services import Child, Services
from assistant.status_samples import Moment, by_version, doing, gauge, parsed, quantile
from assistant.status_watch import Watcher
from data.home import Home
from serve.metrics import Metrics
from serve.metrics_answers import Measured
from serve.timing import Timing
from tests.conftest import ROOT, Run

ENGINE = "vllm:num_requests_running 3.0\nvllm:num_requests_waiting 2.0\nvllm:kv_cache_usage_perc 0.25\n"


def answer(metrics: Metrics, assistant: str = "reed", version: str = "reed-voice@1", status: int = 200) -> None:
    timing = Timing(0.0, ours_s=0.0015, first=0.4, last=2.4)
    metrics.answered(Measured(assistant, version, "", status, 2.5, timing, 10, 21))


def moment(metrics: Metrics, at: float, engine: str = ENGINE) -> Moment:
    return Moment(at, parsed(metrics.render()[0].decode()), parsed(engine))


def running(home: Home, state: str = "ready", detail: str = "") -> None:
    """As if this process were a supervisor."""
    me = Child.of(os.getpid())
    assert me is not None
    home.create()
    Services(
        supervisor=me, gateway_url="http://127.0.0.1:9", page_url="http://127.0.0.1:9", base_model="a-model",
        engine_state=state, engine_detail=detail,
    ).save(home)  # fmt: skip


def seen(watcher: Watcher, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(watcher.drawn())
    return console.export_text()


def test_rates_are_of_what_came_in_between() -> None:
    metrics = Metrics()
    answer(metrics)
    before = moment(metrics, 100)
    for _ in range(4):
        answer(metrics)
    answer(metrics, status=503)
    found = doing(before, moment(metrics, 110))
    assert (found.requests_s, found.errors_s, found.tokens_s) == (0.5, 0.1, pytest.approx(10.5))
    assert found.first_ms[0] == pytest.approx(400, rel=0.3)
    assert found.token_ms == pytest.approx(100, rel=0.3)
    assert found.ours_ms[0] == pytest.approx(1.5, rel=0.4)


def test_each_version_has_its_own_figures_the_busiest_first() -> None:
    metrics = Metrics()
    before = moment(metrics, 0)
    answer(metrics, "fern", "base")
    for _ in range(3):
        answer(metrics)
    found = by_version(before, moment(metrics, 1))
    rates = {pair: one.requests_s for pair, one in found.items()}
    assert list(rates.items()) == [(("reed", "reed-voice@1"), 3), (("fern", "base"), 1)]


def test_a_gateway_that_was_started_anew_gives_no_negative_rates() -> None:
    old, new = Metrics(), Metrics()
    for _ in range(5):
        answer(old)
    answer(new)
    assert doing(moment(old, 0), moment(new, 1)).requests_s == 1


def test_nothing_answered_has_no_latency() -> None:
    found = doing(moment(Metrics(), 0), moment(Metrics(), 1))
    assert found.is_idle and found.first_ms == (None, None) and found.token_ms is None


@pytest.mark.parametrize(
    ("buckets", "share", "milliseconds"),
    [
        ({0.1: 0, 0.2: 10, float("inf"): 10}, 0.5, 150),
        ({0.1: 5, 0.2: 10, float("inf"): 10}, 0.95, 190),
        ({0.1: 0, float("inf"): 4}, 0.5, 100),  # above the highest bound: told as that
        ({0.1: 0, float("inf"): 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_a_quantile_lies_straight_between_its_buckets_bounds(
    buckets: dict[float, float], share: float, milliseconds: float | None
) -> None:
    assert quantile(buckets, share) == (None if milliseconds is None else pytest.approx(milliseconds))


def test_a_gauge_that_is_not_there_is_not_zero() -> None:
    assert gauge(parsed(ENGINE), "vllm:num_requests_waiting") == 2
    assert gauge({}, "vllm:num_requests_waiting") is None


@pytest.mark.parametrize("width", [80, 120])
def test_what_runs_how_fast_and_by_whom_is_seen_at_once(home: Home, width: int) -> None:
    running(home)
    metrics = Metrics()
    watcher = Watcher(home, lambda url, _key: ENGINE if url.endswith("engine") else metrics.render()[0].decode())
    seen(watcher)
    answer(metrics)
    answer(metrics, "an-assistant-with-a-very-long-name", "adapter-with-a-long-name@12", 503)
    text = seen(watcher, width)
    for words in (
        "ready · a-model",
        "3 in the engine",
        "2 waiting there",
        "KV cache 25% full",
        "errors/s",
        "reed-voice@1",
    ):
        assert words in text, text
    assert "req/s" in text and "a token" in text, "no heading is cut off"
    assert max(map(len, text.splitlines())) <= width


def test_an_engine_that_starts_and_a_gateway_that_is_away_are_told(home: Home) -> None:
    running(home, "starting", "loading the weights")

    def away(_url: str, _key: str) -> str:
        raise httpx.ConnectError("connection refused")

    text = seen(Watcher(home, away))
    assert "starting · a-model · loading the weights" in text
    assert "does not answer (connection refused)" in text


def test_while_nothing_runs_it_says_how_to_start_it(home: Home) -> None:
    assert "brogue up" in seen(Watcher(home))


def test_ctrl_c_ends_it_quietly(home: Home, tmp_path: Path) -> None:
    home.create()
    with (tmp_path / "said").open("w") as said:
        command = [sys.executable, "-m", "assistant.cli", "status", "--watch"]
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while "brogue up" not in (tmp_path / "said").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_watch_and_json_do_not_go_together(brogue: Run) -> None:
    done = brogue("status", "--watch", "--json")
    assert done.returncode == 2
    assert "leave out --json" in done.stderr.replace("\n", " ")
