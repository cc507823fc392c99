"""The Grafana dashboard: a whole dashboard, which asks only for what the gateway and vLLM measure."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import Metrics
from serve.metrics_answers import Measured
from serve.timing import Timing
from tests.conftest import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/brogue-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"(?:brogue_|vllm:|process_)[a-z0-9_]+")
# Of vLLM's, what the dashboard asks for. A test with a real engine finds them there.
VLLM = {
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket", "vllm:request_queue_time_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket", "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total",
    "vllm:num_preemptions_total",
}  # fmt: skip


def queries() -> Iterator[str]:
    """Whatever is asked of Prometheus."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["expr"] for one in DASHBOARD["annotations"]["list"])
    yield from (one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query")


def ours() -> dict[str, set[str]]:
    """The gateway's samples once everything has happened, and the labels of each."""
    metrics = Metrics()
    timing = Timing(1.0, ours_s=0.001, first=1.1, last=1.9)
    metrics.answered(Measured("reed", "reed-voice@1", "shop", 200, 2.0, timing, 4, 5, retrieval_s=0.1))
    metrics.error(404, "/v1/models")
    metrics.load("reed-voice@1", 1)
    metrics.swap("reed-voice", "stable")
    metrics.drain("reed-voice@1", 1)
    metrics.canary_share("reed-voice", 10)
    metrics.ratings("reed-voice@1", 1, 1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_it_is_a_dashboard_as_grafana_reads_it() -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "annotations"} <= set(DASHBOARD)
    assert isinstance(DASHBOARD["schemaVersion"], int)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat") and panel["title"]
        assert {"defaults", "overrides"} <= set(panel["fieldConfig"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(refs) == len(set(refs))


def test_no_panel_lies_on_another_or_beside_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    tops = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert all(above <= below for above, below in pairwise(tops))


def test_every_metric_that_it_asks_for_is_one_that_gateway_or_engine_has() -> None:
    known = set(ours()) | VLLM
    asked = {name for query in queries() for name in METRIC.findall(query)}
    assert asked <= known, f"unknown: {sorted(asked - known)}"
    assert asked >= VLLM, "nothing is listed that is not asked for"


def test_every_label_that_it_asks_for_is_one_of_that_metrics() -> None:
    known = ours()
    for query in queries():
        for name, inside in re.findall(r"(brogue_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"([a-z]+)=~?\"", inside))
            assert labels <= known[name], query
        of_all = set().union(*(known[name] for name in METRIC.findall(query) if name in known), {"le"})
        for names in re.findall(r"by \(([^)]*)\)", query):
            assert set(names.split(", ")) <= of_all, query


def test_its_variables_are_used_and_there() -> None:
    used = {name for query in queries() for name in re.findall(r"\$(?!__)([a-z]+)", query)} | {"datasource"}
    assert used == {one["name"] for one in DASHBOARD["templating"]["list"]}


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_engine_has_the_metrics_of_the_dashboard(gateway_url: str) -> None:
    text = httpx.get(f"{gateway_url}/metrics/engine", timeout=60).text
    found = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert found >= VLLM
