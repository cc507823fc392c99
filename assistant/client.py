"""A small client of the gateway, for the page and for `brogue chat`: the same HTTP that everybody else has."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from data.errors import BrogueError, one_line

TIMEOUT = httpx.Timeout(600, connect=5)  # seconds


class GatewayError(BrogueError):
    """The gateway is not there, or it answered with an error; the message is the gateway's own."""


@dataclass
class Client:
    """Speaks to the gateway at `url` (no trailing slash)."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models; assistants carry `kind` "assistant", `description` and `brand`."""
        try:
            reply = httpx.get(f"{self.url}/v1/models", headers=self.headers, timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if reply.status_code != 200:
            raise GatewayError(_message(reply.content, reply.status_code))
        return list(reply.json()["data"])

    def assistants(self) -> list[dict[str, Any]]:
        """Only the assistants among the models."""
        return [entry for entry in self.models() if entry.get("kind") == "assistant"]

    def stream_chat(self, model: str, messages: list[dict[str, str]], **options: Any) -> Iterator[str]:
        """The pieces of the answer as they come. Raises `GatewayError` also in the middle of an answer."""
        body = {"model": model, "messages": messages, "stream": True, **options}
        try:
            with httpx.stream(
                "POST",
                f"{self.url}/v1/chat/completions",
                json=body,
                headers=self.headers,
                timeout=TIMEOUT,
                trust_env=False,
            ) as reply:
                if reply.status_code != 200:
                    raise GatewayError(_message(reply.read(), reply.status_code))
                for line in reply.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield from _pieces(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> GatewayError:
        return GatewayError(f"cannot reach the gateway at {self.url} ({type(error).__name__}); start it: brogue up")


def _pieces(event: dict[str, Any]) -> Iterator[str]:
    if "error" in event:
        raise GatewayError(one_line(event["error"].get("message", event["error"])))
    for choice in event.get("choices", []):
        if text := choice.get("delta", {}).get("content"):
            yield text


def _message(content: bytes, status: int) -> str:
    try:
        return one_line(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {status}: {one_line(content.decode(errors='replace'), 200)}"
