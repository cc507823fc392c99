"""The engine's command line, its environment, what its log tells, and how it is stopped. No vLLM here."""

import os
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from data.errors import BrogueError
from data.home import Home
from data.settings import EngineSettings
from serve import engine as engine_module
from serve.engine import Engine, command_line, environment, free_port
from serve.engine_log import death_reason, phase
from serve.hardware import (
    ENGINE_OVERHEAD_BYTES,
    GIB,
    EnginePlan,
    format_cores,
    memory_of,
    most_own_engines,
    plan,
    plan_all,
    plan_elsewhere,
    plan_own,
    refuse_own_engine,
)
from serve.process import stop_process_group

FOLLOWS = "Engine core initialization failed. See root cause above."
CPU_PLAN = EnginePlan("cpu", 2048, 16, GIB, "0-1", Path("/lib/omp.so"))


def test_a_port_that_is_bound_later_is_none_that_the_system_hands_out_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "range"
    monkeypatch.setattr(engine_module, "PORT_RANGE", given)
    given.write_text("30000\t60999\n")
    assert all(20_000 <= free_port() < 30_000 for _ in range(20))
    given.write_text("1024\t65535\n")  # all of them: then one that it hands out
    assert free_port() >= 1024
    given.unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        monkeypatch.setattr(engine_module, "FIRST_PORT", taken.getsockname()[1])
        given.write_text(f"{taken.getsockname()[1] + 1} 65535")
        assert free_port() != taken.getsockname()[1], "somebody has it"


def test_the_key_is_in_the_environment_and_not_on_the_command_line(home: Home) -> None:
    engine = Engine.build("/model", "base", EngineSettings(), CPU_PLAN, home)
    words = command_line("/model", "base", 1, EngineSettings(), CPU_PLAN)
    assert len(engine.key) > 30
    assert not any(engine.key in word for word in words)
    assert environment(home, engine.key, CPU_PLAN)["VLLM_API_KEY"] == engine.key


def test_the_engine_listens_on_loopback_only() -> None:
    words = command_line("/model", "base", 1234, EngineSettings(), CPU_PLAN)
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_a_tool_parser_is_one_setting() -> None:
    words = command_line("/model", "base", 1, EngineSettings(tool_call_parser="llama3_json"), CPU_PLAN)
    assert words[words.index("--enable-auto-tool-choice") :][:3] == [
        "--enable-auto-tool-choice", "--tool-call-parser", "llama3_json",
    ]  # fmt: skip
    none = command_line("/model", "base", 1, EngineSettings(tool_call_parser="none"), CPU_PLAN)
    assert "--enable-auto-tool-choice" not in none


def test_extra_arguments_come_last_so_that_they_win() -> None:
    settings = EngineSettings(extra_args=("--max-model-len", "128"))
    assert command_line("/model", "base", 1, settings, CPU_PLAN)[-2:] == ["--max-model-len", "128"]


def test_on_a_cpu_cores_are_bound_and_openmp_is_preloaded(home: Home) -> None:
    env = environment(home, "k", CPU_PLAN)
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert env["LD_PRELOAD"].startswith("/lib/omp.so")


def test_on_a_gpu_memory_is_a_share_and_nothing_of_the_cpu_is_set(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    chosen = plan(EngineSettings(device="gpu"), GIB, 1000, 8192)
    assert "--gpu-memory-utilization" in command_line("/model", "base", 1, EngineSettings(device="gpu"), chosen)
    assert {"VLLM_CPU_OMP_THREADS_BIND", "LD_PRELOAD"}.isdisjoint(environment(home, "k", chosen))


def test_the_engine_tells_what_it_does_whatever_a_library_has_set(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    assert environment(home, "k", CPU_PLAN)["VLLM_LOGGING_LEVEL"] == "INFO"


def test_a_cpu_cache_holds_at_least_one_and_at_most_all_streams() -> None:
    chosen = plan(EngineSettings(device="cpu"), 0, 1000, 8192)
    assert chosen.max_model_len == 4096
    assert chosen.kv_cache_bytes == 1000 * 4096 * 16


def test_too_little_memory_is_one_line_that_says_how_much() -> None:
    with pytest.raises(BrogueError, match="too little memory for the engine: it needs about 10.*GiB"):
        plan(EngineSettings(device="cpu"), 10_000 * GIB, 1000, 8192)


def test_a_cache_smaller_than_one_conversation_is_refused() -> None:
    with pytest.raises(BrogueError, match="cannot hold one conversation of 4096 tokens"):
        plan(EngineSettings(device="cpu", kv_cache_gib=0.001), 0, 1000, 8192)


def test_several_engines_share_memory_and_cores_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5, 6})
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=20 * GIB, total=30 * GIB))
    plans = plan_all(EngineSettings(device="cpu", count=3), 0, 10**5, 8192)
    assert [one.cores for one in plans] == ["0-1", "2-3", "4-5"], "what is left over goes to nobody"
    assert sum(one.kv_cache_bytes or 0 for one in plans) < 20 * GIB - 3 * ENGINE_OVERHEAD_BYTES
    with pytest.raises(BrogueError, match="6.7 GiB are free for each; .*lower engine.count or engine.max_model_len"):
        plan_all(EngineSettings(device="cpu", count=3), 10 * GIB, 10**6, 8192)


def test_engines_on_fewer_cores_than_there_are_engines_share_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=20 * GIB, total=30 * GIB))
    assert [one.cores for one in plan_all(EngineSettings(device="cpu", count=3), 0, 1000, 512)] == ["0-1"] * 3


def test_for_engines_elsewhere_no_vllm_need_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", _nothing_installed)
    settings = EngineSettings(urls=("http://gpu-1:8000",))
    assert plan_own(settings, GIB, 1000, 8192).device == "gpu"
    assert plan_elsewhere(settings, 8192).max_model_len == 8192
    assert most_own_engines(settings) == 0
    with pytest.raises(BrogueError, match="no vLLM is installed"):
        plan_own(EngineSettings(), GIB, 1000, 8192)


def _nothing_installed(name: str) -> str:
    raise PackageNotFoundError(name)


def test_each_engine_has_gpus_of_its_own_and_too_few_are_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    plans = plan_all(EngineSettings(device="gpu", count=2), GIB, 1000, 8192)
    assert [environment(home, "k", one)["CUDA_VISIBLE_DEVICES"] for one in plans] == ["4,5", "6,7"]
    with pytest.raises(BrogueError, match="engine.count = 5 wants as many GPUs, this machine has 4"):
        plan_all(EngineSettings(device="gpu", count=5), GIB, 1000, 8192)


def test_cores_are_written_as_ranges() -> None:
    assert format_cores({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"


@pytest.mark.parametrize(
    ("log", "code", "reason"),
    [
        ("fine\n(Worker pid=3) ValueError: No weights\nRuntimeError: " + FOLLOWS, 1, "ValueError: No weights"),
        ("OSError: [Errno 98] Address already in use", 1, "OSError: [Errno 98] Address already in use"),
        ("INFO fine", -9, "killed by SIGKILL, perhaps for want of memory"),
        ("usage: x\nerror: bad flag", 2, "exit code 2; last line of its log: error: bad flag"),
        ("", 1, "exit code 1; last line of its log: its log is empty"),
    ],
)  # fmt: skip
def test_the_reason_of_death_is_the_root_cause(log: str, code: int, reason: str) -> None:
    assert death_reason(log, code) == reason


def test_the_phase_is_the_latest_that_the_log_names() -> None:
    assert phase("") == "starting its processes"
    assert phase("x Starting to load model\ny Warming up model") == "warming up"


def engine_of(script: str, home: Home) -> Engine:
    return Engine([sys.executable, "-c", script], os.environ | {"VLLM_API_KEY": "k"}, home.logs / "e.log", port=9)


def test_an_engine_that_dies_while_starting_says_why_at_once(home: Home) -> None:
    engine = engine_of("raise ValueError('no such weights')", home)
    engine.start()
    with pytest.raises(BrogueError, match="the engine stopped: ValueError: no such weights"):
        engine.wait_ready(30, lambda _: None)
    engine.stop()


def test_an_engine_that_is_never_ready_is_given_up_after_the_timeout(home: Home) -> None:
    engine = engine_of("import time; time.sleep(60)", home)
    engine.start()
    with pytest.raises(BrogueError, match="not ready after 1 s, last seen starting its processes"):
        engine.wait_ready(1, lambda _: None)
    engine.stop()
    assert not engine.is_alive()


def test_stopping_ends_children_that_ignore_a_polite_request() -> None:
    child = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    parent = f"import subprocess,sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    stop_process_group(process.pid, grace_s=0.3)
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children):
        assert time.monotonic() < deadline, "a child is still there"


def test_an_engine_of_its_own_needs_its_weights_a_small_cache_and_what_vllm_itself_takes() -> None:
    chosen = plan_own(EngineSettings(device="cpu"), 2 * GIB, 1000, 8192)
    assert chosen.kv_cache_bytes == 1000 * 4096 * 4
    assert chosen.memory_bytes == 2 * GIB + 3 * GIB + 1000 * 4096 * 4
    twice = plan_own(EngineSettings(device="cpu", dtype="float32"), 2 * GIB, 1000, 8192)
    assert twice.memory_bytes == 4 * GIB + 3 * GIB + 2 * 1000 * 4096 * 4


def test_an_engine_of_its_own_that_can_never_fit_is_refused_in_one_line_that_names_a_way_out() -> None:
    settings = EngineSettings(device="cpu")
    refuse_own_engine("method 'ia3'", plan_own(settings, 1, 1, 64), 1, settings)
    huge = plan_own(settings, 10_000 * GIB, 1000, 8192)
    with pytest.raises(
        BrogueError, match=r"method 'ia3' takes an engine of its own: about 10003.* GiB beside the base"
    ):
        refuse_own_engine("method 'ia3'", huge, 10_000 * GIB, settings)


def test_the_number_of_own_engines_is_the_settings_or_at_least_one() -> None:
    assert most_own_engines(EngineSettings(max_own_engines=0)) == 0
    assert most_own_engines(EngineSettings()) >= 1


def test_a_gpu_that_cannot_be_asked_for_its_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BrogueError, match="cannot tell how much memory the GPU has"):
        memory_of("gpu")


def test_a_gpu_tells_its_memory_in_mebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 81559, 12000\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert memory_of("gpu") == (81559 * 1024**2, 12000 * 1024**2)
