"""What Prometheus reads from the gateway."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import Metrics
from serve.metrics_answers import MOST_KEYS, OTHER, Measured
from serve.timing import Timing


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Samples by name and label values (in the order of the labels' names), read as Prometheus reads them."""
    text = metrics.render()[0].decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


def answered(metrics: Metrics, status: int = 200, key: str = "", timing: Timing | None = None, **more: Any) -> None:
    """An answer of two seconds, by reed."""
    timing = timing or Timing(arrived=100.0)
    metrics.answered(Measured("reed", "reed-voice@2", key, status, 102.0, timing, **more))


def test_requests_tokens_and_latency_are_counted_by_assistant_version_and_key() -> None:
    metrics = Metrics()
    answered(metrics, key="shop", prompt_tokens=40, completion_tokens=12)
    answered(metrics, 503)
    found = read(metrics)
    assert found["brogue_requests_total", "reed", "shop", "200", "reed-voice@2"] == 1
    assert found["brogue_requests_total", "reed", "", "503", "reed-voice@2"] == 1
    assert found["brogue_prompt_tokens_total", "reed", "shop", "reed-voice@2"] == 40
    assert found["brogue_completion_tokens_total", "reed", "shop", "reed-voice@2"] == 12
    assert found["brogue_request_duration_seconds_sum", "reed", "shop", "reed-voice@2"] == 2


def test_a_stream_is_measured_to_its_first_token_between_its_tokens_and_at_its_longest_gap() -> None:
    metrics = Metrics()
    timing = Timing(100.0, queued_s=1.0, ours_s=0.002, waited_s=0.5, first=100.4, last=101.9, gap_s=0.8)
    answered(metrics, timing=timing, completion_tokens=16, retrieval_s=0.03)
    found, who = read(metrics), ("reed", "", "reed-voice@2")
    assert found["brogue_time_to_first_token_seconds_sum", *who] == pytest.approx(0.4)
    assert found["brogue_time_per_output_token_seconds_sum", *who] == pytest.approx(0.1)
    assert found["brogue_longest_gap_seconds_sum", *who] == 0.8
    assert found["brogue_overhead_seconds_sum", *who] == 0.002
    assert found["brogue_wait_seconds_sum", *who] == 1.5, "for a turn, and then for the engine"
    assert found["brogue_retrieval_seconds_sum", "reed"] == 0.03


def test_an_answer_in_one_piece_has_no_first_token_and_one_that_was_not_sent_no_overhead() -> None:
    metrics = Metrics()
    answered(metrics, completion_tokens=16)
    found, who = read(metrics), ("reed", "", "reed-voice@2")
    for name in ("time_to_first_token", "time_per_output_token", "longest_gap", "overhead", "wait"):
        assert found[f"brogue_{name}_seconds_count", *who] == 0, name


def test_timing_notes_the_first_and_the_last_piece_and_the_longest_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.1, 10.6, 10.7])
    monkeypatch.setattr("serve.timing.time.perf_counter", lambda: next(clock))
    timing = Timing(9.0)
    for _ in range(4):
        timing.piece()
    assert (timing.first_s, timing.gap_s) == (1.0, pytest.approx(0.5))
    assert timing.per_token_s(8) == pytest.approx(0.1)
    assert timing.per_token_s(1) is None, "there is nothing between the tokens of a single one"


def test_however_many_keys_there_are_the_labels_stay_bounded() -> None:
    metrics = Metrics()
    for number in range(MOST_KEYS + 50):
        answered(metrics, key=f"key-{number}")
    answered(metrics, key="key-0")
    found = read(metrics)
    keys = {labels[2] for labels in found if labels[0] == "brogue_requests_total"}
    assert len(keys) == MOST_KEYS + 1
    assert found["brogue_requests_total", "reed", OTHER, "200", "reed-voice@2"] == 50
    assert found["brogue_requests_total", "reed", "key-0", "200", "reed-voice@2"] == 2


@pytest.mark.parametrize(
    ("method", "values", "sample", "value"),
    [
        ("load", ("reed-voice@2", 0.4), ("brogue_adapter_loads_total", "reed-voice@2"), 1),
        ("load", ("reed-voice@2", 0.4), ("brogue_adapter_load_seconds_sum",), 0.4),
        ("swap", ("reed-voice", "stable"), ("brogue_alias_moves_total", "reed-voice", "stable"), 1),
        ("drain", ("reed-voice@1", 1.5), ("brogue_adapter_drains_total", "reed-voice@1"), 1),
        ("drain", ("reed-voice@1", 1.5), ("brogue_adapter_drain_seconds_sum",), 1.5),
        ("wait", (0.2,), ("brogue_slot_wait_seconds_count",), 1),
        ("restart", (), ("brogue_engine_restarts_total",), 1),
        ("error", (429, "/v1/models"), ("brogue_errors_total", "/v1/models", "429"), 1),
        ("shadow_dropped", (), ("brogue_shadow_dropped_total",), 1),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots",), 4),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_in_use",), 3),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_wanted",), 6),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_waiting",), 2),
        ("set_turns", (3, 7), ("brogue_answers_in_flight",), 3),
        ("set_turns", (3, 7), ("brogue_answers_queued",), 7),
        ("canary_share", ("reed-voice", 10), ("brogue_canary_share_ratio", "reed-voice"), 0.1),
        ("ratings", ("reed-voice@2", 7, 2), ("brogue_ratings", "down", "reed-voice@2"), 2),
    ],
)
def test_what_happens_is_found_under_its_name(
    method: str, values: tuple[Any, ...], sample: tuple[str, ...], value: float
) -> None:
    metrics = Metrics()
    getattr(metrics, method)(*values)
    assert read(metrics)[sample] == value


def test_counters_without_labels_are_there_before_anything_happened() -> None:
    found = read(Metrics())
    assert found["brogue_engine_restarts_total",] == 0
    assert found["brogue_slots_waiting",] == 0


def test_two_gateways_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.restart()
    assert read(other)["brogue_engine_restarts_total",] == 0


def test_the_content_type_is_the_one_that_prometheus_asks_for() -> None:
    assert Metrics().render()[1].startswith("text/plain; version=")
