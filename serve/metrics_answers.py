"""What is measured of each answer: how often, how long, how many tokens, for whom. A part of serve/metrics.py."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.timing import Timing

# Seconds. Answers take from a tenth of a second to minutes, a token from a millisecond on, we ourselves less.
ANSWER_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
FIRST_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10,
)  # fmt: skip
OURS_BUCKETS = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1)
WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
LABELS = ("assistant", "version", "key")
MOST_KEYS = 200  # with a name of their own in the labels; further ones are OTHER together
OTHER = "other"


@dataclass(frozen=True)
class Measured:
    """One answer, or a refusal by version or engine. `assistant`, `version` and `key` exist: they become labels."""

    assistant: str
    version: str
    key: str  # the API key's name; empty without one
    status: int
    ended: float  # time.perf_counter
    timing: Timing
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retrieval_s: float | None = None


class _Bound:
    """The metrics of one assistant, version and key: to look them up each time would take as long as to count."""

    def __init__(self, metrics: "AnswerMetrics", labels: tuple[str, str, str]) -> None:
        self.duration = metrics.duration.labels(*labels)
        self.first = metrics.first.labels(*labels)
        self.per_token = metrics.per_token.labels(*labels)
        self.gap = metrics.gap.labels(*labels)
        self.ours = metrics.ours.labels(*labels)
        self.waited = metrics.waited.labels(*labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*labels)
        self.completion_tokens = metrics.completion_tokens.labels(*labels)


class AnswerMetrics:
    """Counters and histograms of answers in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bound: dict[tuple[str, str, str], _Bound] = {}
        self._keys: set[str] = set()
        self.requests = Counter(
            "brogue_requests_total", "Requests, by the name asked for, who wrote the answer, whose API key asked, and "
            "the HTTP status.", (*LABELS, "status"), registry=registry,
        )  # fmt: skip
        self.errors = Counter(
            "brogue_errors_total", "Errors that clients were given, by HTTP status and path, refusals too.",
            ("status", "route"), registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge("brogue_answers_in_flight", "Answers being written.", registry=registry)
        self.queued = Gauge("brogue_answers_queued", "Requests that wait for their turn.", registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"brogue_{name}_seconds", what, LABELS, registry=registry, buckets=buckets)

        said = "From a request's arrival to the end of its answer."
        self.duration = histogram("request_duration", said, ANSWER_BUCKETS)
        said = "From a request's arrival to the first piece of its stream."
        self.first = histogram("time_to_first_token", said, FIRST_BUCKETS)
        said = "Mean time between the tokens of a stream, once for each."
        self.per_token = histogram("time_per_output_token", said, TOKEN_BUCKETS)
        said = "The longest time between two pieces of a stream, once for each."
        self.gap = histogram("longest_gap", said, TOKEN_BUCKETS)
        said = "What the gateway itself took until the engine had the request, without retrieval and waiting."
        self.ours = histogram("overhead", said, OURS_BUCKETS)
        said = "Waiting for a turn, for the engine or for one of its adapter slots."
        self.waited = histogram("wait", said, WAIT_BUCKETS)
        said = "Looking into documents and examples, or a specialist's answer."
        self.retrieval = Histogram(
            "brogue_retrieval_seconds", said, ("assistant",), registry=registry, buckets=WAIT_BUCKETS
        )
        self.prompt_tokens = Counter("brogue_prompt_tokens_total", "Tokens read.", LABELS, registry=registry)
        self.completion_tokens = Counter("brogue_completion_tokens_total", "Tokens written.", LABELS, registry=registry)

    def answered(self, one: Measured) -> None:
        """Count it."""
        labels = one.assistant, one.version, self._known_key(one.key)
        self.requests.labels(*labels, str(one.status)).inc()
        bound = self._bound.get(labels) or self._bound.setdefault(labels, _Bound(self, labels))
        bound.duration.observe(one.ended - one.timing.arrived)
        bound.prompt_tokens.inc(one.prompt_tokens)
        bound.completion_tokens.inc(one.completion_tokens)
        timing = one.timing
        if (first_s := timing.first_s) is not None:
            bound.first.observe(first_s)
            bound.gap.observe(timing.gap_s)
        if (per_token_s := timing.per_token_s(one.completion_tokens)) is not None:
            bound.per_token.observe(per_token_s)
        if timing.ours_s is not None:
            bound.ours.observe(timing.ours_s)
            bound.waited.observe(timing.queued_s + timing.waited_s)
        if one.retrieval_s is not None:
            self.retrieval.labels(one.assistant).observe(one.retrieval_s)

    def _known_key(self, key: str) -> str:
        if not key or key in self._keys:
            return key
        if len(self._keys) >= MOST_KEYS:
            return OTHER
        self._keys.add(key)
        return key
