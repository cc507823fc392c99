"""What the gateway measures, as Prometheus reads it from /metrics. Every instance has a registry of its own.

`assistant`, `version` and `key` become labels: give only names that exist, never what a client made up.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)  # fmt: skip

from serve.metrics_answers import AnswerMetrics, Measured

# Seconds. Loads, drains and waits for a slot take milliseconds to minutes.
STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters, histograms and gauges named brogue_*; call a method when the thing has happened."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory and processor time of the gateway
        self._answers = AnswerMetrics(self._registry)
        self._describe_store()
        self._describe_adapters()
        self._describe_slots()

    def answered(self, one: Measured) -> None:
        """A request has been answered to its end, or refused by version or engine."""
        self._answers.answered(one)

    def error(self, status: int, route: str) -> None:
        """A client was given an error; `route` is a path as it is declared, empty for one that is not there."""
        self._answers.errors.labels(str(status), route).inc()

    def load(self, version: str, seconds: float) -> None:
        """The engine has loaded a version."""
        self._loads.labels(version).inc()
        self._load_seconds.observe(seconds)

    def swap(self, adapter: str, alias: str) -> None:
        """An alias has moved."""
        self._swaps.labels(adapter, alias).inc()

    def drain(self, version: str, seconds: float) -> None:
        """A version that was replaced has finished its last answer."""
        self._drains.labels(version).inc()
        self._drain_seconds.observe(seconds)

    def wait(self, seconds: float) -> None:
        """A request had to wait for one of the engine's adapter slots."""
        self._waits.observe(seconds)

    def restart(self) -> None:
        """The engine died and was started again."""
        self._restarts.inc()

    def unrecorded(self, count: int) -> None:
        """Answers that could not be written to the store."""
        self._unrecorded.inc(count)

    def shadow_dropped(self) -> None:
        """A shadow answer was left out because others were still being written."""
        self._shadow_dropped.inc()

    def set_slots(self, total: int, in_use: int, wanted: int, waiting: int) -> None:
        """How many adapter slots the engine has, and what is wanted of them."""
        for gauge, value in zip(self._slots, (total, in_use, wanted, waiting), strict=True):
            gauge.set(value)

    def set_engines(self, states: Iterable[Mapping[str, object]]) -> None:
        """Which of the base model's engines requests may go to, and how many answers each is writing."""
        for one in states:
            self._engine_ready.labels(one["name"]).set(one["state"] == "ready")
            self._engine_answers.labels(one["name"]).set(float(str(one["answers_now"])))

    def set_router(self, state: Mapping[str, object]) -> None:
        """Whether requests go through the router before the engines, and how many answers come through it."""
        self._router_ready.labels(state["name"]).set(state["state"] == "ready")
        self._router_answers.labels(state["name"]).set(float(str(state["answers_now"])))

    def set_turns(self, running: int, waiting: int) -> None:
        """How many answers are being written, and how many requests wait for their turn."""
        self._answers.in_flight.set(running)
        self._answers.queued.set(waiting)

    def canary_share(self, adapter: str, share: int) -> None:
        """The percentage of an adapter's traffic that its canary answers; 0 without one."""
        self._share.labels(adapter).set(share / 100)

    def ratings(self, version: str, up: int, down: int) -> None:
        """How often a version's answers were rated, as the tallies have it."""
        self._ratings.labels(version, "up").set(up)
        self._ratings.labels(version, "down").set(down)

    def render(self) -> tuple[bytes, str]:
        """The body of /metrics and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _describe_store(self) -> None:
        here = self._registry
        self._unrecorded = Counter(
            "brogue_unrecorded_answers_total", "Answers that could not be written to the store.", registry=here
        )
        self._ratings = Gauge("brogue_ratings", "Answers rated so far.", ("version", "rating"), registry=here)

    def _describe_adapters(self) -> None:
        here = self._registry
        self._loads = Counter(
            "brogue_adapter_loads_total", "Versions loaded by the engine.", ("version",), registry=here
        )
        self._load_seconds = Histogram(
            "brogue_adapter_load_seconds", "Loading a version.", registry=here, buckets=STEP_BUCKETS
        )
        self._swaps = Counter("brogue_alias_moves_total", "Aliases moved.", ("adapter", "alias"), registry=here)
        self._drains = Counter(
            "brogue_adapter_drains_total", "Versions that ended their last answer.", ("version",), registry=here
        )
        self._drain_seconds = Histogram(
            "brogue_adapter_drain_seconds", "From being replaced to the end of the last answer.",
            registry=here, buckets=STEP_BUCKETS,
        )  # fmt: skip
        self._share = Gauge(
            "brogue_canary_share_ratio", "Share of an adapter's traffic that its canary answers, 0 to 1.",
            ("adapter",), registry=here,
        )  # fmt: skip
        self._shadow_dropped = Counter("brogue_shadow_dropped_total", "Shadow answers left out.", registry=here)

    def _describe_slots(self) -> None:
        here = self._registry
        self._slots = (
            Gauge("brogue_slots", "Adapter versions that the engine can compute with at a time.", registry=here),
            Gauge("brogue_slots_in_use", "Adapter versions that are answering.", registry=here),
            Gauge("brogue_slots_wanted", "Adapter versions that are answering or waited for.", registry=here),
            Gauge("brogue_slots_waiting", "Requests that wait for a slot.", registry=here),
        )
        self._waits = Histogram(
            "brogue_slot_wait_seconds", "Waiting for a slot, of those who had to.", registry=here, buckets=STEP_BUCKETS
        )
        self._engine_ready = Gauge(
            "brogue_engine_ready", "Whether requests may go to this engine.", ["engine"], registry=here
        )
        self._engine_answers = Gauge(
            "brogue_engine_answers", "Answers that this engine is writing.", ["engine"], registry=here
        )
        self._router_ready = Gauge(
            "brogue_router_ready", "Whether requests go through this router.", ["router"], registry=here
        )
        self._router_answers = Gauge(
            "brogue_router_answers", "Answers that come through this router.", ["router"], registry=here
        )
        self._restarts = Counter("brogue_engine_restarts_total", "Times the engine was started again.", registry=here)
