"""Settings of what is told to those who watch: traces and logs. Metrics are always there, at /metrics."""

from typing import Literal

from pydantic import Field

from data.frozen import Frozen


class TelemetrySettings(Frozen):
    """Where traces go, and how the log is written."""

    otlp_endpoint: str | None = Field(
        None, pattern=r"^https?://\S+$",
        description="traces go there by OTLP over HTTP, such as http://127.0.0.1:4318; none: as "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, without it there are none",
    )  # fmt: skip
    log_format: Literal["text", "json"] = Field("text", description="of logs/services.log")
    log_requests: bool = Field(False, description="a line for each request, with how long it took and who answered")
