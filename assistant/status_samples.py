"""What the gateway and the engine measure, read from /metrics twice, and what happened in between.

In: the texts that Prometheus reads. Out: rates, quantiles and gauges, for `brogue status --watch`.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
Samples = dict[str, dict[Labels, float]]  # name → labels, sorted → value
WHO = ("assistant", "version")


def parsed(text: str) -> Samples:
    """All samples of one text."""
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return dict(found)


@dataclass(frozen=True)
class Moment:
    """All that was measured up to `at` (seconds, a clock that does not jump)."""

    at: float
    gateway: Samples
    engine: Samples = field(default_factory=dict)  # empty while the engine is away


@dataclass(frozen=True)
class Doing:
    """What was answered in a span of time, by one assistant's version or by all."""

    requests_s: float = 0.0
    errors_s: float = 0.0
    tokens_s: float = 0.0
    first_ms: tuple[float | None, float | None] = (None, None)  # p50 and p95 of the time to the first token
    token_ms: float | None = None  # p50 of the time between tokens
    ours_ms: tuple[float | None, float | None] = (None, None)  # p50 and p95 of what the gateway itself took

    @property
    def is_idle(self) -> bool:
        """Whether nothing was answered."""
        return not self.requests_s


def doing(before: Moment, after: Moment, who: Mapping[str, str] | None = None) -> Doing:
    """What happened between two moments; `who` names the labels that count, none: all of it."""
    span, wanted = max(after.at - before.at, 1e-9), tuple((who or {}).items())

    def more(name: str, **also: str) -> float:
        return _sum(_added(before, after, name), (*wanted, *also.items()))

    def quantiles(name: str) -> tuple[float | None, float | None]:
        buckets = _buckets(_added(before, after, f"{name}_bucket"), wanted)
        return quantile(buckets, 0.5), quantile(buckets, 0.95)

    failed = {
        labels: value
        for labels, value in _added(before, after, "brogue_requests_total").items()
        if dict(labels).get("status", "").startswith("5")
    }
    return Doing(
        more("brogue_requests_total") / span,
        _sum(failed, wanted) / span,
        more("brogue_completion_tokens_total") / span,
        quantiles("brogue_time_to_first_token_seconds"),
        quantiles("brogue_time_per_output_token_seconds")[0],
        quantiles("brogue_overhead_seconds"),
    )


def by_version(before: Moment, after: Moment) -> dict[tuple[str, str], Doing]:
    """The same for each assistant and version that has ever answered, the busiest first."""
    pairs = {
        (found["assistant"], found["version"])
        for found in map(dict, after.gateway.get("brogue_requests_total", {}))
        if "assistant" in found
    }
    each = {pair: doing(before, after, dict(zip(WHO, pair, strict=True))) for pair in pairs}
    return dict(sorted(each.items(), key=lambda item: (-item[1].requests_s, item[0])))


def gauge(samples: Samples, name: str) -> float | None:
    """A gauge's value, all its labels together; none if it is not there."""
    found = samples.get(name)
    return sum(found.values()) if found else None


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """In milliseconds, from a histogram's cumulative buckets, straight between their bounds; none if it is empty.

    What lies above the highest bound is told as that bound.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return None
    rank, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return low * 1000
            inside = buckets[bound] - below
            return 1000 * (low + (bound - low) * ((rank - below) / inside if inside else 1.0))
        low, below = bound, buckets[bound]
    return low * 1000


def _added(before: Moment, after: Moment, name: str) -> dict[Labels, float]:
    """How much each counter grew; one that begins anew has grown by all it holds."""
    old = before.gateway.get(name, {})
    now = after.gateway.get(name, {})
    return {labels: value - old.get(labels, 0) if value >= old.get(labels, 0) else value
            for labels, value in now.items()}  # fmt: skip


def _sum(values: Mapping[Labels, float], wanted: Labels) -> float:
    return sum(value for labels, value in values.items() if set(wanted) <= set(labels))


def _buckets(values: Mapping[Labels, float], wanted: Labels) -> dict[float, float]:
    found: dict[float, float] = defaultdict(float)
    for labels, value in values.items():
        if set(wanted) <= set(labels):
            found[float(dict(labels)["le"])] += value
    return found
