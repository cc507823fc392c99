"""`brogue capacity` as a person meets it."""

import json

import pytest

from data.home import Home, write_text
from tests.conftest import Run

SMALL = ("capacity", "--adapters", "20", "--rps", "20", "--gpu", "h100", "--base", "8b")
ASKED = ("capacity", "--adapters", "200", "--rps", "50", "--tokens", "300", "--gpu", "h100", "--base", "8b")


def test_the_table_says_how_many_engines_and_what_was_taken_for_granted(brogue: Run) -> None:
    done = brogue(*ASKED)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["EVERYWHERE", "SHARDED"]
    assert max(map(len, lines)) <= 80
    for label in ("engines", "slots, an engine", "found in a slot", "p95 answer", "runs out first"):
        assert any(line.startswith(label) for line in lines), label
    assert "NVIDIA H100 SXM data sheet" in done.stdout
    assert "assumed: of GPU bandwidth, decoding" in done.stdout
    assert "reckoned from data sheets, not measured" in done.stderr


def test_as_json_it_has_the_plans_and_the_figures(brogue: Run) -> None:
    found = json.loads(brogue(*ASKED, "--engines", "1", "--json").stdout)
    assert set(found["plans"]) == {"everywhere"}  # there is nothing to shard
    plan = found["plans"]["everywhere"]
    assert plan["met"] is False
    assert plan["found"]["load"] > 1
    assert plan["found"]["p95_s"] is None  # never ends
    assert {"name": "disk_gb_s", "value": "1", "from": "assumed: adapters from disk"} in found["taken_for_granted"]


def test_measured_speeds_and_other_figures_take_the_place_of_assumed_ones(brogue: Run) -> None:
    before = json.loads(brogue(*SMALL, "--json").stdout)["plans"]["everywhere"]["engines"]
    measured = ("--engine-tokens-per-second", "1:200,256:20000", "--prompt-tokens-per-second", "60000")
    found = json.loads(brogue(*SMALL, *measured, "--assume", "slot_load_ms=1", "--json").stdout)
    assert found["plans"]["everywhere"]["engines"] < before
    sources = {row["name"]: row["from"] for row in found["taken_for_granted"]}
    assert sources["tokens/s by streams"] == "--engine-tokens-per-second"
    assert sources["slot_load_ms"] == "--assume"
    assert sources["disk_load_ms"].startswith("assumed")


def test_without_a_gpu_the_measured_cpu_engine_is_planned_and_can_be_simulated(brogue: Run) -> None:
    done = brogue(
        "capacity", "--adapters", "12", "--rps", "1.5", "--tokens", "100", "--prompt-tokens", "50", "--simulate"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["EVERYWHERE", "SIMULATED"]
    assert "docs/upstream-cpu-lora.md" in done.stdout
    assert "one engine suffices" in done.stderr


def test_few_slots_are_said_to_make_the_answer_rough(brogue: Run) -> None:
    options = ("--adapters", "60", "--rps", "2.3", "--tokens", "100", "--prompt-tokens", "50")
    done = brogue("capacity", *options, "--slots", "4", "--engines", "1")
    assert "not enough (load of at most 80%, at most 5% wait for a slot); leave out --engines" in done.stderr
    assert "the formulas are rough; add --simulate" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu", "h900"), "no GPU 'h900'; have: a10, a100, b200, h100, h200, l4, l40s"),
        (("--base", "8b"), "no speed is known of 8b (Qwen3) on a CPU; name a GPU (--gpu h100), or measure"),
        (("--base", "some/model"), "no base model 'some/model' on this machine; name a size (135m, 0.6b"),
        (("--gpu", "h100", "--base", "70b"), "70b (Llama 3) does not fit"),
        (("--gpu", "h100", "--base", "8b", "--p95", "1"), "no number of engines answers within 1 s at p95"),
        (("--gpu", "l4", "--base", "0.6b", "--rps", "1000000"), "1024 engines do not suffice for 1,000,000 requests/s"),
        (("--gpu", "h100", "--assume", "magic=2"), "--assume unknown key 'magic'; known keys here: bandwidth_share"),
        (
            ("--gpu", "h100", "--engine-tokens-per-second", "fast"),
            "--engine-tokens-per-second wants STREAMS:TOKENS_PER_S",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(brogue: Run, options: tuple[str, ...], words: str) -> None:
    done = brogue("capacity", "--adapters", "200", "--rps", "50", *options)
    assert done.returncode == 1, done.stdout
    [line] = [line for line in done.stderr.splitlines() if line.startswith("brogue: ")]
    assert line.startswith(f"brogue: {words}")
    assert "Traceback" not in done.stderr


def test_the_settings_say_rank_batch_and_memory(brogue: Run, home: Home) -> None:
    home.create()
    write_text(home.settings_file, "[engine]\nmax_lora_rank = 64\nmax_num_seqs = 32\ngpu_memory_utilization = 0.7\n")
    plan = json.loads(brogue(*SMALL, "--slots", "8", "--engines", "4", "--json").stdout)["plans"]["everywhere"]
    assert plan["engine"]["batch"] == 32
    assert plan["engine"]["memory"]["slots"] == pytest.approx(8 * 4 * 97.3e6, rel=0.01)
