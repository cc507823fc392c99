"""What Prometheus reads from the gateway."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import Metrics


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Samples by name and label values (in the order of the labels' names), read as Prometheus reads them."""
    text = metrics.render()[0].decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


def test_requests_tokens_and_latency_are_counted_by_assistant_and_version() -> None:
    metrics = Metrics()
    metrics.request("reed", "reed-voice@2", 200, 0.3, prompt_tokens=40, completion_tokens=12)
    metrics.request("reed", "reed-voice@2", 503, 2)
    found = read(metrics)
    assert found["brogue_requests_total", "reed", "200", "reed-voice@2"] == 1
    assert found["brogue_requests_total", "reed", "503", "reed-voice@2"] == 1
    assert found["brogue_prompt_tokens_total", "reed", "reed-voice@2"] == 40
    assert found["brogue_completion_tokens_total", "reed", "reed-voice@2"] == 12
    assert found["brogue_request_duration_seconds_sum", "reed", "reed-voice@2"] == 2.3


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
        ("shadow_dropped", (), ("brogue_shadow_dropped_total",), 1),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots",), 4),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_in_use",), 3),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_wanted",), 6),
        ("set_slots", (4, 3, 6, 2), ("brogue_slots_waiting",), 2),
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
